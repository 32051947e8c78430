package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// creator waits for the session's first rows to be written, and perhaps for its start after that.
type creator struct {
	protocol.ReplyTo
	await bool
}

// create writes the session's first rows and then lines it up.
func (c *Core) create(e *protocol.Create) []outbox.Effect {
	c.launch, c.limits, c.createTo = &e.Launch, e.Scheduling, []creator{{e.Reply, e.Await}}
	c.dependsOn = e.Dependencies
	first := journal.NewSession{}
	for _, m := range c.Members {
		row := m.Row
		first.Kernels = append(first.Kernels, &row)
	}
	for _, d := range e.Dependencies {
		first.DependsOn = append(first.DependsOn, d.ID)
	}
	c.Phase = Pending
	effects := []outbox.Effect{&outbox.Persist{Label: labelCreate, Sessions: []journal.NewSession{first}}}
	for _, m := range c.Members {
		effects = append(effects, SpawnKernel{Row: m.Row})
	}
	return append(effects,
		Stored{},
		c.enqueue(),
		Publish{Name: "session_enqueued"},
	)
}

// CreateCommitted notes that the first rows are written and returns who waits for nothing else.
func (c *Core) CreateCommitted() (waiting []protocol.ReplyTo) {
	for _, to := range c.createTo {
		if to.await {
			c.startTo = append(c.startTo, to.ReplyTo)
		} else {
			waiting = append(waiting, to.ReplyTo)
		}
	}
	c.createTo, c.stored = nil, true
	return waiting
}

// createAgain answers a request that was sent again because its answer, or its first owner, was lost.
func (c *Core) createAgain(e *protocol.Create) []outbox.Effect {
	if !c.stored && c.Phase == Pending {
		c.createTo = append(c.createTo, creator{e.Reply, e.Await})
		return nil
	}
	if e.Await {
		return c.awaitStart(&protocol.AwaitStart{Reply: e.Reply})
	}
	return []outbox.Effect{Answer{To: e.Reply, Value: &protocol.Enqueued{SessionID: c.ID}}}
}

// place commits where the kernels run; after the commit the agents may hear of it.
func (c *Core) place(e *protocol.Placement) []outbox.Effect {
	if c.Phase != Pending {
		// A repeated placement that was taken is said to be so; one that came too late is given back.
		taken := c.Phase != Creating && len(e.Kernels) == len(c.Members) && c.placedAs(e)
		if !taken && c.Phase != Creating && c.Phase != Gone {
			// Of a scheduler that was replaced: its successor, whose placement was taken, must not hear that its own was not.
			return nil
		}
		return []outbox.Effect{ToScheduler{e.ScalingGroup, &protocol.Placed{SessionID: c.ID, Committed: taken}}}
	}
	for _, p := range e.Kernels {
		m := c.member(p.KernelID)
		if m == nil {
			return []outbox.Effect{ToScheduler{e.ScalingGroup, &protocol.Placed{SessionID: c.ID}}}
		}
		r := &m.Row
		r.Agent, r.AgentAddr, r.ScalingGroup = text(p.Agent), text(p.Addr), e.ScalingGroup
	}
	now := e.Now
	for _, m := range c.Members {
		// SCHEDULED and PREPARING are one commit: nothing happens between them.
		m.Row.Status, m.Row.StatusInfo, m.Row.StatusData, m.Row.StatusChanged = backendai.Preparing, text(""), json.RawMessage(`{}`), &now
	}
	c.Phase, c.limits = Launching, protocol.Limits{} // read again should the session have to wait once more
	persist := c.patchAll(labelPlace, record.FieldPlacement|record.FieldStatus|record.FieldStatusInfo|record.FieldStatusData|record.FieldStatusChanged)
	guard := e.Scheduler
	persist.Also = &guard
	effects := []outbox.Effect{
		persist,
		ToScheduler{e.ScalingGroup, &protocol.Placed{SessionID: c.ID, Committed: true}},
		Publish{Name: "session_scheduled"},
		Publish{Name: "session_preparing"},
	}
	return append(effects, c.launchOrPrepare(now)...)
}

func (c *Core) placedAs(e *protocol.Placement) bool {
	for _, p := range e.Kernels {
		m := c.member(p.KernelID)
		if m == nil || m.Row.Agent == nil || *m.Row.Agent != p.Agent || m.Row.Status == backendai.Pending {
			return false
		}
	}
	return true
}

// launchOrPrepare starts the kernels at once when all is known, else gets the rest first.
func (c *Core) launchOrPrepare(now time.Time) []outbox.Effect {
	if len(c.Members) == 1 && c.launch != nil {
		return c.startKernels(&Prepared{Launch: c.launch, Now: now})
	}
	p := Prepare{Launch: c.launch}
	if len(c.Members) > 1 {
		p.Keys, p.Network = true, c.networkOf()
	}
	return []outbox.Effect{p}
}

// networkOf is the network that a session of several containers has.
func (c *Core) networkOf() *Network {
	m := &c.main().Row
	if m.ClusterMode == backendai.MultiNode {
		return &Network{Mode: m.ClusterMode, Name: "bai-multinode-" + c.ID.String()}
	}
	n := &Network{Mode: m.ClusterMode, Name: "bai-singlenode-" + c.ID.String()}
	if m.Agent != nil {
		n.Agent = *m.Agent
	}
	return n
}

func (c *Core) prepared(e *Prepared) []outbox.Effect {
	if c.Phase != Launching { // ended by force meanwhile
		if e.Network != "" {
			return []outbox.Effect{RemoveNetwork{*c.networkOf()}}
		}
		return nil
	}
	if e.Network != "" {
		c.network = c.networkOf()
	}
	if e.Err != nil {
		c.failure = e.Err
		return c.abort()
	}
	c.launch = e.Launch
	return c.startKernels(e)
}

func (c *Core) startKernels(e *Prepared) (effects []outbox.Effect) {
	c.Phase = Starting
	cluster := clusterInfo(c.Members, e.Network, e.Keys)
	for _, m := range c.Members {
		if m.Row.Status == backendai.Running { // recovered in the middle of a start
			continue
		}
		config := kernelConfig(c.Members, m, e.Launch)
		effects = append(effects, TellKernel{m.Row.ID, &protocol.Start{
			Agent: *m.Row.Agent, Addr: *m.Row.AgentAddr, ScalingGroup: m.Row.ScalingGroup, Now: e.Now,
			Config: config, Cluster: cluster,
		}})
	}
	return effects
}

// attempt records what the scheduler has found, as clients read it.
func (c *Core) attempt(e *protocol.Attempt) []outbox.Effect {
	if c.Phase != Pending {
		return nil
	}
	msg := c.scheduler.Msg
	c.scheduler = e.Scheduler
	if c.scheduler.Msg == "" {
		c.scheduler.Msg = msg // updates are shallow merges: an older message stays (spec/scheduling-lifecycle §5.3)
	}
	doc, err := json.Marshal(map[string]any{"scheduler": c.scheduler})
	if err != nil {
		return []outbox.Effect{Crash{Reason: err.Error()}}
	}
	persist := &outbox.Persist{Label: labelAttempt}
	for _, m := range c.Members {
		if m == c.main() || m.Row.ID == e.KernelID {
			m.Row.StatusData = doc
			mask := record.FieldStatusData
			if e.StatusInfo != nil {
				m.Row.StatusInfo = e.StatusInfo
				mask |= record.FieldStatusInfo
			}
			persist.Kernels = append(persist.Kernels, &record.KernelPatch{ID: m.Row.ID, Mask: mask, Kernel: m.Row})
		}
	}
	return []outbox.Effect{persist}
}

// refused decides what rows that were not written mean.
func (c *Core) refused(e *outbox.Refused) []outbox.Effect {
	switch {
	case e.Label == labelCreate:
		c.Phase = Gone
		var effects []outbox.Effect
		for _, to := range c.createTo {
			if errors.Is(e.Err, journal.ErrRepeated) { // it was created before, and has moved on since
				effects = append(effects, Answer{To: to.ReplyTo, Value: &protocol.Enqueued{SessionID: c.ID}})
			} else {
				effects = append(effects, Answer{To: to.ReplyTo, Err: createError(e.Err, c.ID)})
			}
		}
		if errors.Is(e.Err, journal.ErrDeposed) {
			effects = append(effects, Deposed{})
		}
		return append(effects, Stop{})
	case e.Label == labelPlace && errors.Is(e.Err, journal.ErrSchedulerDeposed):
		// The next scheduler reads the row, which still says PENDING; lining up again is for the case that it has read it before.
		c.Phase = Pending
		for _, m := range c.Members {
			m.Row.Status, m.Row.StatusInfo, m.Row.StatusData, m.Row.StatusChanged = backendai.Pending, nil, nil, nil
			m.Row.Agent, m.Row.AgentAddr = nil, nil
		}
		return []outbox.Effect{LoadPending{}}
	case e.Label == labelRename:
		to := c.renameTo
		c.renameTo = protocol.ReplyTo{}
		for _, m := range c.Members {
			m.Row.SessionName = c.oldName
		}
		switch {
		case errors.Is(e.Err, journal.ErrNameTaken):
			return []outbox.Effect{Answer{To: to, Err: backendai.NewError(backendai.SessionAlreadyExists)}}
		case errors.Is(e.Err, journal.ErrDeposed), errors.Is(e.Err, journal.ErrStopped):
			return []outbox.Effect{Answer{To: to, Err: backendai.Errorf(backendai.ServiceUnavailable, "The session could not be renamed now; try again.").WithCause(e.Err)}, Deposed{}}
		}
		return []outbox.Effect{Answer{To: to, Err: backendai.Internal(e.Err)}}
	case e.Label == labelWishes:
		return c.priorityRefused(e.Err)
	case errors.Is(e.Err, journal.ErrDeposed), errors.Is(e.Err, journal.ErrStopped):
		return []outbox.Effect{Deposed{}}
	}
	return []outbox.Effect{Crash{Reason: fmt.Sprintf("rows refused at %s: %v", e.Label, e.Err)}}
}

// Deposed is the effect of learning that the shard has another owner: the actor must not act any more.
type Deposed struct{}

func createError(err error, id fmt.Stringer) error {
	switch {
	case errors.Is(err, journal.ErrNameTaken):
		return backendai.NewError(backendai.SessionAlreadyExists)
	case errors.Is(err, journal.ErrDeposed), errors.Is(err, journal.ErrStopped), errors.Is(err, journal.ErrFull):
		return backendai.Errorf(backendai.ServiceUnavailable, "The session could not be stored now; try again.").WithCause(err)
	}
	return backendai.Internal(fmt.Errorf("create session %s: %w", id, err))
}

// awaitStart answers when the session has started, or at once if that is decided.
func (c *Core) awaitStart(e *protocol.AwaitStart) []outbox.Effect {
	switch c.Phase {
	case Creating, Pending, Launching, Starting, Aborting:
		c.startTo = append(c.startTo, e.Reply)
		return nil
	}
	return []outbox.Effect{Answer{To: e.Reply, Value: c.outcome()}}
}

func (c *Core) outcome() *protocol.Outcome {
	return &protocol.Outcome{Status: c.main().Row.Status, ServicePorts: c.main().Row.ServicePorts}
}

func (c *Core) answerStart() (effects []outbox.Effect) {
	for _, to := range c.startTo {
		effects = append(effects, Answer{To: to, Value: c.outcome()})
	}
	c.startTo = nil
	return effects
}
