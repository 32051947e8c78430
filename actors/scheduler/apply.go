package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// resendAfter is how long an acknowledgement of a placement may take before it is sent again.
const resendAfter = 10 * time.Second

// retriedAtTick bounds how many of the parked sessions, the oldest, are looked at again at a tick only to report
// that they still wait: a hundred thousand of them must not fill the journal every ten seconds.
const retriedAtTick = 300

// Apply takes one event into the state. Effects that do not need a pass are returned at once.
func (c *Core) Apply(event any, now time.Time) []Effect {
	effects := c.apply(event, now)
	c.record.add(event, now, effects, nil)
	return effects
}

func (c *Core) apply(event any, now time.Time) []Effect {
	c.changes++
	c.passTime(now)
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
				c.untrack(a)
				a.CountsForUser = false
				c.bookings++
				c.track(a)
				c.charge(a, a.Slots, 1, true)
			}
		}
	case *protocol.Release:
		for _, id := range e.KernelIDs {
			c.free(id)
		}
	case *protocol.AgentState:
		c.agentState(*e)
	case *protocol.LimitsChanged:
		if p := c.byID[e.SessionID]; p != nil {
			c.setLimits(p, e.Limits)
		}
	case *protocol.WishesChanged:
		if p := c.byID[e.SessionID]; p != nil {
			c.setWishes(p, e.Wishes)
		}
	case *protocol.DependencyDone:
		c.dependencyDone(e.SessionID, e.Failed)
	case *protocol.PolicyChanged:
		if c.takePolicy(e) {
			c.vain = vain{}
			c.regroup()
			c.retrack(false)
			c.wake(true)
		}
	case *protocol.KnownSlotsChanged:
		if !sameSlots(c.Known, e.Known) {
			c.Known = e.Known
			c.regroup() // the quotas' sums leave out what is not known
			c.wake(false)
		}
	case *quotaFreed:
		for _, where := range e.scopes {
			c.givenBack(where, c.usageOf(where))
		}
	case *protocol.Recount:
		c.recount()
	case *protocol.Moved:
		return append(c.moved(e, now), c.preemptMoved(e, now)...)
	case *protocol.Reread:
		return c.reconcile(e, now)
	case *protocol.Tick:
		return c.tick(now)
	}
	return nil
}

// passTime keeps the time of what happens. It does not go back: clocks of managers differ.
func (c *Core) passTime(now time.Time) {
	if now.After(c.now) {
		c.now = now
	}
}

func (c *Core) load(e *protocol.SchedulerLoaded, now time.Time) {
	c.takePolicy(&protocol.PolicyChanged{Policy: e.Policy, Problem: e.Problem})
	c.Known = e.Known
	c.regroup()
	c.retrack(false)
	if e.UsesRead && c.uses != nil {
		c.takeUses(e.Uses)
	}
	for _, a := range e.Agents {
		c.agentState(a)
		c.touched[a.ID] = true // its row may say what an earlier scheduler did not come to correct
	}
	for _, a := range e.Allocations {
		c.adopt(a)
	}
	for _, s := range e.Pending {
		c.enqueue(s, now)
	}
	c.wake(true)
}

func (c *Core) enqueue(s protocol.PendingSession, now time.Time) []Effect {
	if old := c.byID[s.ID]; old != nil {
		if old.placing != nil { // the session has restarted and does not know of its placement
			return []Effect{Place{SessionID: s.ID, Placement: old.placing}}
		}
		c.setWishes(old, s.Wishes) // news of them can be lost
		return nil
	}
	if placement := c.placementOf(&s, now); placement != nil {
		// An echo: it has been placed and committed already. Should the session not know that its rows were written (the answer
		// to the commit was lost), it learns it by this; otherwise it says so, and that is all.
		return []Effect{Place{SessionID: s.ID, Placement: placement}}
	}
	// Only what rows can say of the time: the order must be the same for sessions that come from here and from rows.
	s.CreatedAt = s.CreatedAt.Round(0)
	if s.StartsAt != nil {
		at := s.StartsAt.Round(0)
		s.StartsAt = &at
	}
	p := c.blank()
	p.PendingSession = s
	p.DependsOn = slices.Clone(s.DependsOn)
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
	c.forget(p)
	c.wake(true)
}

func (c *Core) placed(e *protocol.Placed) {
	p := c.placing[e.SessionID]
	if p == nil {
		return
	}
	if !e.Committed {
		c.giveBack(p)
	}
	c.forget(p)
	c.reuse(p)
}

// giveBack frees the slots that a placement has reserved.
func (c *Core) giveBack(p *pending) {
	for _, k := range p.placing.Kernels {
		c.free(k.KernelID)
	}
	p.placing = nil
}

func (c *Core) settle(e *protocol.Settle) {
	a := c.allocs[e.KernelID]
	if a != nil && a.Since.IsZero() && !e.Since.IsZero() {
		c.runs(a, e.Since)
	}
	if a == nil || a.Slots.Equal(e.Slots) {
		return
	}
	diff := e.Slots.Sub(a.Slots)
	if agent := c.agents[a.Agent]; agent != nil {
		c.occupy(agent, agent.Occupied.Add(diff))
	}
	clear(c.nowhere)
	c.hold(a.SessionID, a.AccessKey, diff, 0)
	c.using(a.AccessKey, diff, 0, false)
	if a.CountsForUser {
		c.charge(a, diff, 0, false)
	}
	a.Slots = e.Slots
	c.bookings++
	c.touched[a.Agent] = true
	c.wake(true)
}

// runs notes since when a kernel is RUNNING.
func (c *Core) runs(a *protocol.Allocation, since time.Time) {
	a.Since = since
	c.bookings++
	if t := c.tenures[a.SessionID]; t != nil { // whether anybody has asked for its end stays as it is
		c.retime(t)
	}
	if c.Policy.Options.Preemption && a.Wishes.Preemptible {
		c.wake(true) // it may be ended for one that waits
	}
}

func (c *Core) agentState(s protocol.AgentState) {
	a := c.agents[s.ID]
	c.bookings++
	if s.ScalingGroup != c.Group {
		if a != nil { // it has moved to another scaling group
			c.withoutAgent(a)
			delete(c.agents, s.ID)
			c.order = slices.DeleteFunc(c.order, func(id string) bool { return id == s.ID })
		}
		return
	}
	if a != nil {
		c.withoutAgent(a)
		a.AgentState = s
	} else {
		a = &Agent{AgentState: s}
		var here []uuid.UUID // kernels of an agent that comes back, or came after them in a load
		for id, alloc := range c.allocs {
			if alloc.Agent == s.ID {
				here = append(here, id)
			}
		}
		for id := range sortedIDs(slices.Values(here)) {
			a.Occupied = a.Occupied.Add(c.allocs[id].Slots)
		}
		c.agents[s.ID] = a
		at, _ := slices.BinarySearch(c.order, s.ID)
		c.order = slices.Insert(c.order, at, s.ID)
	}
	if s.Alive {
		c.alive++
	}
	if a.candidate() {
		c.index.put(a)
		clear(c.nowhere)
		c.wake(true)
	}
}

// withoutAgent is before a change of an agent's state: the index knows it as it was.
func (c *Core) withoutAgent(a *Agent) {
	c.index.take(a)
	if a.Alive {
		c.alive--
	}
}

// setLimits takes newer limits of a session. Those that say the same are no reason to look at it again.
func (c *Core) setLimits(p *pending, limits protocol.Limits) {
	if sameLimits(p.Limits, limits) {
		return
	}
	p.Limits = limits
	if p.parked == forAccess || p.parked == forQuota {
		c.unpark(p)
	}
	c.wake(false)
}

func sameLimits(a, b protocol.Limits) bool {
	return a.MaxConcurrentSessions == b.MaxConcurrentSessions && identical(a.Keypair, b.Keypair) && identical(a.Group, b.Group) &&
		identical(a.Domain, b.Domain) && maps.EqualFunc(a.ScalingGroups, b.ScalingGroups, slices.Equal)
}

// identical slots also read the same.
func identical(a, b backendai.ResourceSlots) bool {
	return a.Equal(b) && slices.Equal(a.Names(), b.Names())
}

func sameSlots(a, b *backendai.KnownSlots) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || !slices.Equal(a.Names(), b.Names()) {
		return false
	}
	for _, name := range a.Names() {
		ours, _ := a.Type(name)
		if theirs, _ := b.Type(name); ours != theirs {
			return false
		}
	}
	return true
}

func (c *Core) dependencyDone(id uuid.UUID, failed bool) {
	for p := range c.dependents[id] {
		for i := range p.DependsOn {
			if p.DependsOn[i].ID == id {
				p.DependsOn[i].Success = !failed
			}
		}
		p.Unmeetable = slices.DeleteFunc(slices.Clone(p.Unmeetable), func(o uuid.UUID) bool { return o == id }) // shared with clones
		if failed {
			p.Unmeetable = append(p.Unmeetable, id)
		}
		if p.parked == forSession {
			c.unpark(p)
		}
		c.wake(false)
	}
}

// tick is the original's timer: the oldest of those who wait are tried again, time passes for start times and time-outs,
// and a placement whose acknowledgement is overdue is sent again.
func (c *Core) tick(now time.Time) (effects []Effect) {
	c.unparkOldest(retriedAtTick)
	c.wake(true)
	c.due = c.due || c.queue.Len() > 0
	for id := range sortedIDs(maps.Keys(c.placing)) {
		p := c.placing[id]
		if now.Sub(p.placedAt.time()) >= resendAfter {
			p.placedAt = momentOf(now)
			effects = append(effects, Place{SessionID: p.ID, Placement: p.placing})
		}
	}
	effects = append(effects, c.preemptAgain(now)...)
	return append(effects, c.tellUses(now)...)
}
