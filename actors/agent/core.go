package agent

import (
	"bytes"
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// The effects of a twin, besides outbox.Persist.
type (
	// ToScheduler tells a scaling group's scheduler what it must know of the agent.
	ToScheduler struct {
		ScalingGroup string
		State        protocol.AgentState
	}
	// Seen notes the time of a heartbeat where clients can see it.
	Seen struct{ At time.Time }
	// Images notes which images the agent has.
	Images struct{ Images []string }
	// Forget removes the volatile notes about an agent that has left.
	Forget struct{}
	// SlotTypes tells the cluster of the agent's slot types.
	SlotTypes struct{ Slots []protocol.AgentSlot }
	// Publish puts an event on the bus on the agent's behalf.
	Publish struct{ Name, Reason string }
	// Reconcile has the sessions with kernels on this agent ask it about them.
	Reconcile struct{}
	// Answer answers an API call.
	Answer struct {
		To  protocol.ReplyTo
		Err error
	}
	// SetTimer asks for a Tick.
	SetTimer struct{ After time.Duration }
	// Warn logs something that an operator must mend.
	Warn struct{ Text string }
	// Deposed says that the shard has another owner.
	Deposed struct{}
)

// Recover is the first event of a twin made from a row.
type Recover struct{ Now time.Time }

const labelRegister = "register"

// Core is the state of one twin.
type Core struct {
	ID string
	// Row is what the database has, or will have after the writes that are under way; Known is false before the first heartbeat.
	Row   record.Agent
	Known bool
	// Timeout is how long a silence means loss.
	Timeout time.Duration

	seen     time.Time
	slots    []protocol.AgentSlot
	images   []string
	features []string
	refused  bool // the last registration was refused and has been warned of
}

// New makes the twin of an agent nobody has heard of yet.
func New(id string, timeout time.Duration) *Core { return &Core{ID: id, Timeout: timeout} }

// NewKnown makes the twin of an agent that has a row.
func NewKnown(row record.Agent, timeout time.Duration) *Core {
	return &Core{ID: row.ID, Row: row, Known: true, Timeout: timeout}
}

// Repeatable reports whether the agent creates a kernel once however often it is asked to.
func (c *Core) Repeatable() bool { return c.has("idempotent-create") }

// Fenced reports whether the agent compares epochs.
func (c *Core) Fenced() bool { return c.has("epoch") }

func (c *Core) has(feature string) bool {
	for _, f := range c.features {
		if f == feature {
			return true
		}
	}
	return false
}

// Step takes one event and returns what is to be done.
func (c *Core) Step(event any) []outbox.Effect {
	switch e := event.(type) {
	case *Recover:
		c.seen = e.Now // a manager that has just started has not had the chance to hear of it
		if c.Row.Status == backendai.AgentAlive {
			return []outbox.Effect{c.state(), SetTimer{c.Timeout}}
		}
	case *protocol.Heartbeat:
		return c.heartbeat(e)
	case *protocol.AgentJoined:
		if c.Known && c.Row.Status != backendai.AgentAlive {
			return c.revive(e.Reason)
		}
		if c.Known && e.Reason == "self-started" { // it has restarted: what does it still have?
			return []outbox.Effect{Reconcile{}}
		}
	case *protocol.AgentLeft:
		return c.left(e.Reason, e.Now)
	case *protocol.SetSchedulable:
		if !c.Known {
			return []outbox.Effect{Answer{e.Reply, backendai.NewError(backendai.InstanceNotFound)}}
		}
		c.Row.Schedulable = e.Schedulable
		return []outbox.Effect{c.persist("schedulable", journal.AgentSchedulable), c.state(), Answer{To: e.Reply}}
	case *protocol.Moved:
		if c.Known && e.Has(cluster.ShardOf(cluster.Scheduler(c.Row.ScalingGroup), e.Of)) {
			return []outbox.Effect{c.state()}
		}
	case *protocol.Tick:
		return c.tick(e.Now)
	case *outbox.Refused:
		return c.writeRefused(e)
	}
	return nil
}

func (c *Core) persist(label string, mask journal.AgentField) *outbox.Persist {
	return &outbox.Persist{Label: label, Agents: []*journal.AgentPatch{{Mask: mask, Agent: c.Row}}}
}

func (c *Core) state() outbox.Effect {
	r := &c.Row
	return ToScheduler{r.ScalingGroup, protocol.AgentState{
		ID: c.ID, Addr: r.Addr, ScalingGroup: r.ScalingGroup, Architecture: r.Architecture,
		Alive: r.Status == backendai.AgentAlive, Schedulable: r.Schedulable, Available: r.AvailableSlots,
	}}
}

// heartbeat registers the agent, brings it back, or notes what has changed (spec/scheduling-lifecycle §14.1).
func (c *Core) heartbeat(e *protocol.Heartbeat) []outbox.Effect {
	c.seen = e.Received
	effects := []outbox.Effect{Seen{e.Received}}
	if !equalText(c.images, e.Images) {
		c.images = e.Images
		effects = append(effects, Images{e.Images})
	}
	c.features = e.Features
	if c.Known && c.Row.Status == backendai.AgentRestarting {
		return effects // returns only by agent_started
	}
	next := c.Row
	next.ID, next.ScalingGroup, next.Addr, next.Version, next.ComputePlugins = c.ID, e.ScalingGroup, e.Addr, e.Version, e.ComputePlugins
	next.Architecture = e.Architecture
	next.AvailableSlots = backendai.ResourceSlots{}
	for _, s := range e.Slots {
		next.AvailableSlots = next.AvailableSlots.With(backendai.SlotName(s.Name), s.Amount)
	}
	alive := c.Known && c.Row.Status == backendai.AgentAlive
	if !c.Known {
		next.FirstContact, next.Schedulable = e.Received, true
	}
	if !alive {
		next.Region, next.Status, next.LostAt = e.Region, backendai.AgentAlive, nil
	}
	if alive && same(&c.Row, &next) {
		return effects
	}
	known, moved := c.Known, c.Row.ScalingGroup
	c.Row, c.Known, c.slots = next, true, e.Slots
	if !alive {
		effects = append(effects, SetTimer{c.Timeout})
	}
	effects = append(effects, c.persist(labelRegister, journal.AgentRegistration), SlotTypes{e.Slots}, c.state())
	if known && moved != "" && moved != c.Row.ScalingGroup {
		state := c.state().(ToScheduler)
		effects = append(effects, ToScheduler{moved, state.State}) // so that it lets the agent go
	}
	if known && !alive {
		effects = append(effects, Publish{"agent_started", "revived"}, Reconcile{})
	}
	return effects
}

func same(a, b *record.Agent) bool {
	return a.ScalingGroup == b.ScalingGroup && a.Addr == b.Addr && a.Version == b.Version && a.Architecture == b.Architecture &&
		a.AvailableSlots.Equal(b.AvailableSlots) && sameJSON(a.ComputePlugins, b.ComputePlugins)
}

// sameJSON compares documents: one comes back from a jsonb column, in another spelling.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, err := json.Marshal(x)
	q, err2 := json.Marshal(y)
	return err == nil && err2 == nil && bytes.Equal(p, q)
}

func equalText(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// revive makes the agent ALIVE by its own word; its next heartbeat brings the rest.
func (c *Core) revive(string) []outbox.Effect {
	c.Row.Status, c.Row.LostAt = backendai.AgentAlive, nil
	return []outbox.Effect{c.persist("alive", journal.AgentLiveness), c.state(), SetTimer{c.Timeout}, Reconcile{}}
}

// left marks the agent LOST or TERMINATED; its kernels are left as they are (spec/scheduling-lifecycle §14.2, §14.3).
func (c *Core) left(reason string, now time.Time) []outbox.Effect {
	if !c.Known || c.Row.Status == backendai.AgentLost || c.Row.Status == backendai.AgentTerminated {
		return nil
	}
	if reason == "agent-lost" && now.Sub(c.seen) < c.Timeout {
		return nil // another manager's clock, or an old message: it was heard of since
	}
	c.Row.Status = backendai.AgentTerminated
	switch reason {
	case "agent-lost":
		c.Row.Status = backendai.AgentLost
	case "agent-restart":
		c.Row.Status = backendai.AgentRestarting
	}
	c.Row.StatusChanged, c.Row.LostAt = &now, &now
	c.images = nil
	return []outbox.Effect{c.persist("left", journal.AgentLiveness), Forget{}, c.state()}
}

// tick finds out whether the agent has been silent for too long.
func (c *Core) tick(now time.Time) []outbox.Effect {
	if !c.Known || c.Row.Status != backendai.AgentAlive {
		return nil
	}
	if silent := now.Sub(c.seen); silent < c.Timeout {
		return []outbox.Effect{SetTimer{c.Timeout - silent}}
	}
	return append(c.left("agent-lost", now), Publish{"agent_terminated", "agent-lost"})
}

func (c *Core) writeRefused(e *outbox.Refused) []outbox.Effect {
	switch {
	case isDeposed(e.Err):
		return []outbox.Effect{Deposed{}}
	case e.Label == labelRegister:
		// The row is not there, or is older than what we hold: the next heartbeat tries again.
		c.Known = false
		if c.refused {
			return nil
		}
		c.refused = true
		return []outbox.Effect{Warn{"the agent's heartbeat was not stored; does its scaling group \"" + c.Row.ScalingGroup + "\" exist? (" + e.Err.Error() + ")"}}
	}
	return []outbox.Effect{Warn{"the agent's row was not written: " + e.Err.Error()}}
}
