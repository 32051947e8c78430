package kernel

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// start has the kernel created. The session has committed the placement before.
func (c *Core) start(e *protocol.Start) []outbox.Effect {
	if c.Stage != Idle {
		return nil
	}
	c.Row.Agent, c.Row.AgentAddr, c.Row.ScalingGroup = text(e.Agent), text(e.Addr), e.ScalingGroup
	if c.Row.Status == backendai.Pending { // the session's rows say PREPARING already
		c.Row.Status, c.Row.StatusInfo, c.Row.StatusData = backendai.Preparing, text(""), json.RawMessage(`{}`)
		now := e.Now
		c.Row.StatusChanged = &now
	}
	c.Stage = Starting
	if c.unsent() {
		c.Row.StatusInfo = text("") // before anything is sent: from here on it may be on its way
		return []outbox.Effect{c.patch("sending", record.FieldStatusInfo), c.send(CallCreate, createTimeout)}
	}
	if c.uncertain { // a create may have been sent before a takeover: learn what the agent has
		return []outbox.Effect{c.send(CallProbe, probeTimeout)}
	}
	return []outbox.Effect{c.send(CallCreate, createTimeout)}
}

// created takes the answer of create_kernels.
func (c *Core) created(e *protocol.CallResult) []outbox.Effect {
	if e.Err != nil {
		return c.createFailed(e)
	}
	results, err := callosum.CreateKernels{KernelIDs: []string{c.Row.ID.String()}}.Result(e.Value)
	if err != nil {
		return c.startFails("other", "ProtocolError", err.Error())
	}
	r := results[0]
	c.Row.ContainerID = text(r.ContainerID)
	c.Row.KernelHost = text(r.KernelHost)
	if r.KernelHost == "" && c.Row.AgentAddr != nil {
		c.Row.KernelHost = text(hostOf(*c.Row.AgentAddr))
	}
	c.Row.ReplInPort, c.Row.ReplOutPort = r.ReplInPort, r.ReplOutPort
	c.Row.StdinPort, c.Row.StdoutPort = r.StdinPort, r.StdoutPort
	c.Row.ServicePorts = toJSON(r.ServicePorts, `[]`)
	c.Row.AttachedDevices = toJSON(r.AttachedDevices, `{}`)
	if actual, ok := allocated(r.ResourceSpec); ok {
		c.Row.OccupiedSlots = actual
	}
	if !c.moveTo(backendai.Running, text(""), e.Now) {
		return nil
	}
	c.Stage, c.uncertain = Running, false
	return []outbox.Effect{
		c.patch("running", record.FieldStatus|record.FieldStatusInfo|record.FieldStatusChanged|record.FieldContainer|record.FieldOccupied|record.FieldDevices),
		Tell{c.changed()},
		SetTimer{timerProbe, probePeriod},
	}
}

// createFailed decides by what is known of the call: surely not carried out, refused, or nobody knows.
func (c *Core) createFailed(e *protocol.CallResult) []outbox.Effect {
	var refused *callosum.RemoteError
	if errors.As(e.Err, &refused) {
		return c.startFails("agent", refused.Name, refused.Repr)
	}
	if callosum.MaybeExecuted(e.Err) {
		c.lateUntil, c.doubtful = e.Now.Add(settleTime), true
	}
	cause := callosum.CauseOf(e.Err)
	if c.attempts++; c.attempts >= createAttempts || cause == callosum.CauseInvalid || cause == callosum.CauseDeadline {
		return c.startFails("other", "AgentUnreachable", e.Err.Error())
	}
	if callosum.MaybeExecuted(e.Err) && !e.Repeatable {
		c.uncertain, c.uncertAt = true, e.Now
	}
	return []outbox.Effect{SetTimer{timerRetry, backoff(c.attempts)}}
}

// startFails reports a failed start to the session and removes what the agent may have of it.
func (c *Core) startFails(src, name, repr string) []outbox.Effect {
	c.failure = &protocol.StartFailure{Src: src, Name: name, Repr: repr}
	if src == "agent" && c.Row.Agent != nil {
		c.failure.AgentID = *c.Row.Agent
	}
	c.Stage = Aborting
	ch := c.changed()
	ch.Failure = c.failure
	return append([]outbox.Effect{Tell{ch}}, c.dispose()...)
}

// probed takes the answer of the question whether the agent has the kernel.
func (c *Core) probed(e *protocol.CallResult) []outbox.Effect {
	var refused *callosum.RemoteError
	known := e.Err == nil
	if errors.As(e.Err, &refused) {
		known = refused.Name != "KeyError"
	} else if e.Err != nil {
		return c.probeLater(e)
	}
	switch c.Stage {
	case Starting:
		switch {
		case e.Repeatable:
			// Such an agent joins a create that it has or had: the answer is that of the first.
			return []outbox.Effect{c.send(CallCreate, createTimeout)}
		case known:
			// It runs, but where its ports are was in the lost answer. Nobody has used it yet: replace it.
			// The create that was on its way has come: none is awaited any more.
			c.recreate, c.doubtful, c.lateUntil = true, true, time.Time{}
			return []outbox.Effect{c.destroyCall(true)}
		case e.Now.Sub(c.uncertAt) < settleTime:
			return []outbox.Effect{SetTimer{timerRetry, settlePause}}
		}
		c.uncertain = false
		return []outbox.Effect{c.send(CallCreate, createTimeout)}
	case Running:
		if known {
			return []outbox.Effect{SetTimer{timerProbe, probePeriod}}
		}
		return c.ended(string(backendai.InfoSelfTerminated), -1, e.Now)
	}
	return nil
}

// probeLater: the agent could not be asked.
func (c *Core) probeLater(e *protocol.CallResult) []outbox.Effect {
	switch c.Stage {
	case Starting:
		if c.attempts++; c.attempts >= 4*createAttempts {
			return c.startFails("other", "AgentUnreachable", e.Err.Error())
		}
		return []outbox.Effect{SetTimer{timerRetry, backoff(c.attempts)}}
	case Running:
		return []outbox.Effect{SetTimer{timerProbe, probePeriod}}
	}
	return nil
}

// restart has a running kernel's container replaced.
func (c *Core) restart(e *protocol.RestartKernel) []outbox.Effect {
	if c.Stage != Running || !c.moveTo(backendai.Restarting, c.Row.StatusInfo, e.Now) {
		return nil
	}
	c.Stage = Restarting
	return []outbox.Effect{
		c.patch("restarting", record.FieldStatus|record.FieldStatusChanged),
		c.send(CallRestart, restartTimeout),
	}
}

// restarted takes the answer of restart_kernel.
func (c *Core) restarted(e *protocol.CallResult) []outbox.Effect {
	if e.Err != nil {
		return c.restartFails(e)
	}
	r, err := callosum.RestartKernel{}.Result(e.Value)
	if err == nil && c.Row.ContainerID != nil && r.ContainerID == *c.Row.ContainerID && r.ContainerID != "" {
		// Official agents swallow a failed re-creation and report the old container (spec/agent-protocol §5.7).
		err = errors.New("the agent could not create the new container")
	}
	if err != nil {
		e.Err = err
		return c.restartFails(e)
	}
	c.Row.ContainerID = text(r.ContainerID)
	c.Row.ReplInPort, c.Row.ReplOutPort, c.Row.StdinPort, c.Row.StdoutPort = r.ReplInPort, r.ReplOutPort, r.StdinPort, r.StdoutPort
	c.Row.ServicePorts = toJSON(r.ServicePorts, `[]`)
	if !c.moveTo(backendai.Running, c.Row.StatusInfo, e.Now) {
		return nil
	}
	c.Stage = Running
	return []outbox.Effect{
		c.patch("restarted", record.FieldStatus|record.FieldStatusChanged|record.FieldContainer),
		Tell{c.changed()},
		SetTimer{timerProbe, probePeriod},
	}
}

// restartFails leaves the kernel in ERROR; the original left it RESTARTING for good (spec/scheduling-lifecycle §13, FIX).
func (c *Core) restartFails(e *protocol.CallResult) []outbox.Effect {
	failure := &protocol.StartFailure{Src: "other", Name: "AgentUnreachable", Repr: e.Err.Error()}
	info := backendai.InfoOtherError(failure.Repr)
	var refused *callosum.RemoteError
	switch {
	case errors.As(e.Err, &refused):
		failure = &protocol.StartFailure{Src: "agent", Name: refused.Name, Repr: refused.Repr}
		if c.Row.Agent != nil {
			failure.AgentID = *c.Row.Agent
		}
		info = backendai.InfoAgentError(refused.Repr)
	case callosum.CauseOf(e.Err) == callosum.CauseDeadline:
		info = backendai.InfoOperationTimeout(backendai.OperationRestart)
	}
	if !c.moveTo(backendai.Failed, text(string(info)), e.Now) {
		return nil
	}
	c.Row.StatusData = toJSON(map[string]any{"error": failure}, `{}`)
	c.Stage = Running // of sorts: it can only be ended by force
	ch := c.changed()
	ch.Failure = failure
	return []outbox.Effect{
		c.patch("restart-failed", record.FieldStatus|record.FieldStatusInfo|record.FieldStatusData|record.FieldStatusChanged),
		Tell{ch},
	}
}

// allocated sums what the agent reports per slot over its devices (spec/agent-protocol §4.8).
func allocated(spec callosum.ResourceSpec) (backendai.ResourceSlots, bool) {
	var total backendai.ResourceSlots
	for _, slots := range spec.Allocations {
		for name, devices := range slots {
			for _, amount := range devices {
				d, err := backendai.ParseAllocation(amount)
				if err != nil {
					return backendai.ResourceSlots{}, false
				}
				slot := backendai.SlotName(name)
				total = total.With(slot, total.Get(slot).Add(d))
			}
		}
	}
	return total, total.Len() > 0
}

func hostOf(addr string) string {
	host := strings.TrimPrefix(addr, "tcp://")
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return host
}

func toJSON(v any, empty string) json.RawMessage {
	doc, err := json.Marshal(v)
	if err != nil || string(doc) == "null" {
		return json.RawMessage(empty)
	}
	return doc
}

func backoff(attempt int) time.Duration {
	return min(retryPause<<min(attempt-1, 10), maxRetryPause)
}
