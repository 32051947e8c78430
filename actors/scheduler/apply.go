package scheduler

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
)

// resendAfter is how long an acknowledgement of a placement may take before it is sent again.
const resendAfter = 10 * time.Second

// Apply takes one event into the state. Effects that do not need a pass are returned at once.
func (c *Core) Apply(event any, now time.Time) []Effect {
	switch e := event.(type) {
	case *protocol.SchedulerLoaded:
		c.load(e, now)
	case *protocol.Enqueue:
		return c.enqueue(e.Session, now)
	case *protocol.Withdraw:
		c.withdraw(e.SessionID)
	case *protocol.Placed:
		c.placed(e)
	case *protocol.Settle:
		c.settle(e)
	case *protocol.Ending:
		for _, id := range e.KernelIDs {
			if a := c.allocs[id]; a != nil && a.CountsForUser {
				c.charge(a, negative(a.Slots), -1)
				a.CountsForUser = false
				c.unpark()
				c.wake(false)
			}
		}
	case *protocol.Release:
		for _, id := range e.KernelIDs {
			c.free(id)
		}
		c.unpark()
	case *protocol.AgentState:
		c.agentState(*e)
	case *protocol.LimitsChanged:
		if p := c.byID[e.SessionID]; p != nil {
			p.Limits, p.parked = e.Limits, false
			c.wake(false)
		}
	case *protocol.DependencyDone:
		c.dependencyDone(e.SessionID)
	case *protocol.PolicyChanged:
		c.Policy = e.Policy
		c.unpark()
		c.wake(true)
	case *protocol.KnownSlotsChanged:
		c.Known = e.Known
	case *protocol.Moved:
		return c.moved(e, now)
	case *protocol.Reread:
		return c.reconcile(e, now)
	case *protocol.Tick:
		return c.tick(now)
	}
	return nil
}

func (c *Core) load(e *protocol.SchedulerLoaded, now time.Time) {
	c.Policy, c.Known = e.Policy, e.Known
	for _, a := range e.Agents {
		c.agentState(a)
		c.touched[a.ID] = true // its row may say what an earlier scheduler did not come to correct
	}
	for _, a := range e.Allocations {
		c.allocate(a)
	}
	for _, s := range e.Pending {
		c.enqueue(s, now)
	}
	c.wake(true)
}

func (c *Core) enqueue(s protocol.PendingSession, now time.Time) []Effect {
	if old := c.byID[s.ID]; old != nil {
		if old.placing != nil { // the session has restarted and does not know of its placement
			return []Effect{Place{SessionID: s.ID, Placement: *old.placing}}
		}
		return nil
	}
	if placement := c.placementOf(&s, now); placement != nil {
		// An echo: it has been placed and committed already. Should the session not know that its rows were written (the answer
		// to the commit was lost), it learns it by this; otherwise it says so, and that is all.
		return []Effect{Place{SessionID: s.ID, Placement: *placement}}
	}
	p := &pending{PendingSession: s}
	for _, k := range s.Kernels {
		p.requested = p.requested.Add(k.Slots)
	}
	c.insert(p)
	c.wake(false)
	return nil
}

// placementOf is where the kernels of a session are that has been placed, nil if it has not.
func (c *Core) placementOf(s *protocol.PendingSession, now time.Time) *protocol.Placement {
	p := &protocol.Placement{SessionID: s.ID, ScalingGroup: c.Group, Now: now}
	for _, k := range s.Kernels {
		a := c.allocs[k.ID]
		if a == nil {
			return nil
		}
		where := protocol.KernelPlacement{KernelID: k.ID, Agent: a.Agent}
		if agent := c.agents[a.Agent]; agent != nil {
			where.Addr = agent.Addr
		}
		p.Kernels = append(p.Kernels, where)
	}
	return p
}

func (c *Core) withdraw(id uuid.UUID) {
	p := c.byID[id]
	if p == nil {
		return
	}
	if p.placing != nil {
		c.giveBack(p)
	}
	head := len(c.queue) > 0 && c.queue[0] == p
	c.forget(p)
	c.wake(head || c.blocked)
}

func (c *Core) placed(e *protocol.Placed) {
	p := c.byID[e.SessionID]
	if p == nil || p.placing == nil {
		return
	}
	if !e.Committed {
		c.giveBack(p)
	}
	delete(c.byID, p.ID)
}

// giveBack frees the slots that a placement has reserved.
func (c *Core) giveBack(p *pending) {
	for _, k := range p.placing.Kernels {
		c.free(k.KernelID)
	}
	p.placing = nil
	c.unpark()
}

func (c *Core) settle(e *protocol.Settle) {
	a := c.allocs[e.KernelID]
	if a == nil || a.Slots.Equal(e.Slots) {
		return
	}
	diff := e.Slots.Sub(a.Slots)
	if agent := c.agents[a.Agent]; agent != nil {
		agent.Occupied = agent.Occupied.Add(diff)
	}
	if a.CountsForUser {
		owner := *a
		owner.Main = false // the session is counted already
		c.charge(&owner, diff, 0)
	}
	a.Slots = e.Slots
	c.touched[a.Agent] = true
	c.unpark()
	c.wake(true)
}

func (c *Core) agentState(s protocol.AgentState) {
	old := c.agents[s.ID]
	if s.ScalingGroup != c.Group {
		if old != nil { // it has moved to another scaling group
			delete(c.agents, s.ID)
			c.order = slices.DeleteFunc(c.order, func(id string) bool { return id == s.ID })
		}
		return
	}
	if old != nil {
		old.AgentState = s
	} else {
		a := &Agent{AgentState: s}
		for _, alloc := range c.allocs { // kernels of an agent that comes back, or came after them in a load
			if alloc.Agent == s.ID {
				a.Occupied = a.Occupied.Add(alloc.Slots)
			}
		}
		c.agents[s.ID] = a
		at, _ := slices.BinarySearch(c.order, s.ID)
		c.order = slices.Insert(c.order, at, s.ID)
	}
	if s.Alive && s.Schedulable {
		c.unpark()
		c.wake(true)
	}
}

func (c *Core) dependencyDone(id uuid.UUID) {
	for _, p := range c.queue {
		for i := range p.DependsOn {
			if p.DependsOn[i].ID == id {
				p.DependsOn[i].Success = true
				p.parked = false
				c.wake(false)
			}
		}
	}
}

// tick is the original's timer: every waiting session is tried again, time passes for start times and time-outs,
// and a placement whose acknowledgement is overdue is sent again.
func (c *Core) tick(now time.Time) (effects []Effect) {
	c.unpark()
	c.wake(true)
	for _, p := range c.byID {
		if p.placing != nil && now.Sub(p.placedAt) >= resendAfter {
			p.placedAt = now
			effects = append(effects, Place{SessionID: p.ID, Placement: *p.placing})
		}
	}
	return effects
}
