package kernel

import (
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

// result hands the answer of a call to whoever waits for it. Answers of calls that
// have been given up carry an old token and are dropped.
func (c *Core) result(e *protocol.CallResult) []outbox.Effect {
	if e.Token != c.call.token || c.call.kind == "" {
		return nil
	}
	kind := c.call.kind
	c.call = inflight{}
	switch kind {
	case CallCreate:
		if c.Stage != Starting { // aborted or ended by force meanwhile: now the agent can be asked to remove it
			if e.Err != nil && !isRemote(e.Err) && callosum.MaybeExecuted(e.Err) {
				c.lateUntil = e.Now.Add(settleTime)
			}
			return c.dispose()
		}
		return c.created(e)
	case CallRestart:
		if c.Stage != Restarting {
			return c.dispose()
		}
		return c.restarted(e)
	case CallDestroy:
		return c.destroyed(e)
	case CallProbe:
		return c.probed(e)
	}
	return nil
}

// moved gives up the answer of a call to an agent whose twin has moved: it may be lost with the node that had it.
func (c *Core) moved(e *protocol.Moved) []outbox.Effect {
	if c.call.kind == "" || c.Row.Agent == nil || !e.Has(cluster.ShardOf(cluster.Agent(*c.Row.Agent), e.Of)) {
		return nil
	}
	return c.result(&protocol.CallResult{Token: c.call.token, Now: e.Now,
		Err: &callosum.LinkError{Cause: callosum.CauseDisconnected, Agent: *c.Row.Agent, Method: string(c.call.kind), Sent: true}})
}

// busEvent takes an event of the agent about this kernel.
func (c *Core) busEvent(e *protocol.AgentEvent) []outbox.Effect {
	now := e.Now
	switch e.Name {
	case "kernel_pulling":
		if c.Stage == Starting && backendai.CanTrigger(backendai.TriggerPulling, c.Row.Status, backendai.Pulling) {
			return c.progress(backendai.Pulling, e.Reason, now)
		}
	case "kernel_creating":
		// PREPARING is what the row says since the placement; only the end of a pull is news.
		if c.Stage == Starting && c.Row.Status == backendai.Pulling {
			return c.progress(backendai.Preparing, e.Reason, now)
		}
	case "kernel_terminated":
		if c.Row.Status == backendai.Restarting {
			return nil
		}
		if c.doubtful {
			if c.Stage == Running && c.call.kind == "" {
				return []outbox.Effect{c.send(CallProbe, probeTimeout)}
			}
			return nil
		}
		return c.ended(e.Reason, e.ExitCode, now)
	}
	return nil
}

func (c *Core) progress(status backendai.KernelStatus, info string, now time.Time) []outbox.Effect {
	if !c.moveTo(status, text(info), now) {
		return nil
	}
	return []outbox.Effect{
		c.patch("progress", record.FieldStatus|record.FieldStatusInfo|record.FieldStatusChanged),
		Tell{c.changed()},
	}
}

func (c *Core) tick(e *protocol.Tick) []outbox.Effect {
	switch e.Kind {
	case timerProbe:
		if c.Stage == Running && c.call.kind == "" && c.Row.Agent != nil {
			return []outbox.Effect{c.send(CallProbe, probeTimeout)}
		}
	case timerRetry:
		return c.retry()
	case timerAbort:
		// The agent does not answer. The session must not wait for ever; the agent may still hold the kernel, so that its slots
		// stay taken and it is asked on.
		if c.Stage == Aborting {
			ch := c.changed()
			ch.GaveUp = true
			return []outbox.Effect{Tell{ch}}
		}
	}
	return nil
}

func (c *Core) retry() []outbox.Effect {
	if c.call.kind != "" {
		return nil
	}
	switch c.Stage {
	case Starting:
		if c.uncertain {
			return []outbox.Effect{c.send(CallProbe, probeTimeout)}
		}
		return []outbox.Effect{c.send(CallCreate, createTimeout)}
	case Ending, Aborting, Dead:
		if !c.gone {
			return []outbox.Effect{c.destroyCall(c.Stage != Ending)}
		}
	}
	return nil
}

// recover picks the work up where the row says it was.
func (c *Core) recover(e *Recover) []outbox.Effect {
	switch c.Row.Status {
	case backendai.Scheduled, backendai.Preparing, backendai.Pulling:
		if c.unsent() {
			return nil // the session sends Start again
		}
		c.uncertain, c.uncertAt, c.doubtful = true, e.Now, true // the session sends Start again
		c.lateUntil = e.Now.Add(settleTime)
	case backendai.Running:
		c.Stage, c.doubtful, c.lateUntil = Running, true, c.settled(e.Now)
		return []outbox.Effect{c.send(CallProbe, probeTimeout)}
	case backendai.Restarting:
		c.Stage = Restarting
		return []outbox.Effect{c.send(CallRestart, restartTimeout)}
	case backendai.Terminating:
		c.Stage, c.doubtful, c.lateUntil = Ending, true, c.settled(e.Now)
		if c.Row.StatusInfo != nil {
			c.reason = *c.Row.StatusInfo
		}
		c.statToken++
		return append([]outbox.Effect{FetchStats{c.statToken}}, c.dispose()...)
	case backendai.Failed:
		c.Stage, c.doubtful = Running, true
	case backendai.Terminated, backendai.Cancelled:
		c.Stage = Dead
		c.gone = true
	}
	return nil
}

// settled is until when creates of earlier lives may still come: all were sent before the row's status was what it is.
func (c *Core) settled(now time.Time) time.Time {
	if c.Row.StatusChanged != nil && c.Row.StatusChanged.Before(now) && !c.limited() { // else it may be older than a restart
		now = *c.Row.StatusChanged
	}
	return now.Add(settleTime)
}
