package scheduler

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// naiveCore is the scheduler without any index: at every event all sessions are looked at again, for each of
// them all agents. It is what Core's answers are compared with.

// Agent is a candidate with what is taken of it.
type naiveAgent struct {
	protocol.AgentState
	Occupied backendai.ResourceSlots
}

func (a *naiveAgent) candidate() bool { return a.Alive && a.Schedulable }

// pending is a queued session with what the scheduler knows of its wait.
type naivePending struct {
	protocol.PendingSession
	requested backendai.ResourceSlots // sum over its kernels
	parked    bool
	placing   *protocol.Placement // sent to the session, not yet acknowledged
	placedAt  time.Time
}

// naiveCore is the state of one scaling group's scheduler. Not for concurrent use.
type naiveCore struct {
	Group  string
	Policy protocol.Policy
	Known  *backendai.KnownSlots

	agents  map[string]*naiveAgent
	order   []string // agent ids, sorted: ties of the original are unordered, ours go by id
	queue   []*naivePending
	byID    map[uuid.UUID]*naivePending
	allocs  map[uuid.UUID]*protocol.Allocation // by kernel
	keys    map[string]*naiveUsage
	groups  map[uuid.UUID]*naiveUsage
	domains map[string]*naiveUsage

	past  []*naiveUse // since fair shares were asked for
	using map[uuid.UUID]*naiveUse

	due     bool // something has happened that a pass could act on
	blocked bool // the last pass ended at a session that fits nowhere; newcomers wait behind it
	touched map[string]bool
	owners  map[string]bool

	naiveFuture
}

// newNaive makes an empty scheduler for a scaling group.
func newNaive(group string, policy protocol.Policy, known *backendai.KnownSlots) *naiveCore {
	return &naiveCore{
		Group: group, Policy: policy, Known: known,
		agents: make(map[string]*naiveAgent), byID: make(map[uuid.UUID]*naivePending), allocs: make(map[uuid.UUID]*protocol.Allocation),
		keys: make(map[string]*naiveUsage), groups: make(map[uuid.UUID]*naiveUsage), domains: make(map[string]*naiveUsage),
		using: make(map[uuid.UUID]*naiveUse), touched: make(map[string]bool), owners: make(map[string]bool),
	}
}

// Agents copies the agents in order of id.
func (c *naiveCore) Agents() []naiveAgent {
	list := make([]naiveAgent, len(c.order))
	for i, id := range c.order {
		list[i] = *c.agents[id]
	}
	return list
}

func (c *naiveCore) allocate(a *protocol.Allocation) {
	if c.allocs[a.KernelID] != nil {
		return
	}
	c.allocs[a.KernelID] = a
	c.began(a.KernelID, a.AccessKey, a.Slots)
	if agent := c.agents[a.Agent]; agent != nil {
		agent.Occupied = agent.Occupied.Add(a.Slots)
	}
	c.touched[a.Agent] = true
	if a.CountsForUser {
		c.charge(a, a.Slots, 1)
	}
}

// free removes an allocation; harmless when it is gone already.
func (c *naiveCore) free(kernel uuid.UUID) {
	a := c.allocs[kernel]
	if a == nil {
		return
	}
	delete(c.allocs, kernel)
	delete(c.leaving, kernel)
	c.ended(kernel)
	if agent := c.agents[a.Agent]; agent != nil {
		agent.Occupied = agent.Occupied.Sub(a.Slots)
	}
	c.touched[a.Agent] = true
	if a.CountsForUser {
		c.charge(a, negative(a.Slots), -1)
	}
	c.wake(true)
}

// charge changes what the owners of an allocation are using.
func (c *naiveCore) charge(a *protocol.Allocation, slots backendai.ResourceSlots, sessions int) {
	if !a.Main {
		sessions = 0
	}
	naiveAdd(c.keys, a.AccessKey, slots, sessions)
	naiveAdd(c.groups, a.GroupID, slots, sessions)
	naiveAdd(c.domains, a.DomainName, slots, sessions)
	if sessions != 0 {
		c.owners[a.AccessKey] = true
	}
}

// wake makes a pass due. unblock says that the session which holds up the queue may fit now.
func (c *naiveCore) wake(unblock bool) {
	if unblock {
		c.blocked = false
	}
	if (!c.blocked || c.Policy.Options.Backfill) && len(c.queue) > 0 {
		c.due = true
	}
}

// unpark lets the next pass look at every parked session again.
func (c *naiveCore) unpark() {
	for _, p := range c.queue {
		p.parked = false
	}
}

// insert keeps the queue in the order of creation; ties go by id.
func (c *naiveCore) insert(p *naivePending) {
	c.byID[p.ID] = p
	at, _ := slices.BinarySearchFunc(c.queue, p, naiveAge)
	c.queue = slices.Insert(c.queue, at, p)
}

// dequeue removes a session from the queue but remembers it: its placement is on the way.
func (c *naiveCore) dequeue(p *naivePending) {
	if at, ok := slices.BinarySearchFunc(c.queue, p, naiveAge); ok {
		c.queue = slices.Delete(c.queue, at, at+1)
	}
}

func (c *naiveCore) forget(p *naivePending) {
	c.dequeue(p)
	delete(c.byID, p.ID)
}

// Apply takes one event into the state. Effects that do not need a pass are returned at once.
func (c *naiveCore) Apply(event any, now time.Time) []Effect {
	c.at = now
	switch e := event.(type) {
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
				c.leaves(a)
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
	case *protocol.WishesChanged:
		if p := c.byID[e.SessionID]; p != nil {
			p.Wishes, p.parked = e.Wishes, false
			for _, k := range p.Kernels {
				if a := c.allocs[k.ID]; a != nil {
					a.Wishes = e.Wishes
				}
			}
			c.wake(true)
		}
	case *protocol.DependencyDone:
		c.dependencyDone(e.SessionID)
	case *protocol.PolicyChanged:
		if c.Policy.Options.FairShareHalfLife == 0 { // what was before is not known
			c.past = nil
			for id, a := range c.allocs {
				c.began(id, a.AccessKey, a.Slots)
				if since := a.Placed; !since.IsZero() {
					c.using[id].start = since
				} else if !a.Since.IsZero() {
					c.using[id].start = a.Since
				}
			}
		}
		changed := c.Policy != e.Policy
		if c.Policy = e.Policy; changed {
			c.forgetFuture()
		}
		c.unpark()
		c.wake(true)
	case *protocol.Tick:
		return c.tick(now)
	}
	return nil
}

func (c *naiveCore) enqueue(s protocol.PendingSession, now time.Time) []Effect {
	if old := c.byID[s.ID]; old != nil {
		if old.placing != nil { // the session has restarted and does not know of its placement
			return []Effect{Place{SessionID: s.ID, Placement: old.placing}}
		}
		return nil
	}
	if placement := c.placementOf(&s, now); placement != nil {
		// An echo: it has been placed and committed already. Should the session not know that its rows were written (the answer
		// to the commit was lost), it learns it by this; otherwise it says so, and that is all.
		return []Effect{Place{SessionID: s.ID, Placement: placement}}
	}
	p := &naivePending{PendingSession: s}
	for _, k := range s.Kernels {
		p.requested = p.requested.Add(k.Slots)
	}
	c.insert(p)
	c.wake(false)
	return nil
}

// placementOf is where the kernels of a session are that has been placed, nil if it has not.
func (c *naiveCore) placementOf(s *protocol.PendingSession, now time.Time) *protocol.Placement {
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

func (c *naiveCore) withdraw(id uuid.UUID) {
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

func (c *naiveCore) placed(e *protocol.Placed) {
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
func (c *naiveCore) giveBack(p *naivePending) {
	for _, k := range p.placing.Kernels {
		c.free(k.KernelID)
	}
	p.placing = nil
	c.unpark()
}

func (c *naiveCore) settle(e *protocol.Settle) {
	a := c.allocs[e.KernelID]
	if a != nil && a.Since.IsZero() {
		a.Since = e.Since
		c.wake(c.Policy.Options.Preemption)
	}
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
	c.ended(e.KernelID)
	c.began(e.KernelID, a.AccessKey, a.Slots)
	c.touched[a.Agent] = true
	c.unpark()
	c.wake(true)
}

func (c *naiveCore) agentState(s protocol.AgentState) {
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
		a := &naiveAgent{AgentState: s}
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

func (c *naiveCore) dependencyDone(id uuid.UUID) {
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
func (c *naiveCore) tick(now time.Time) (effects []Effect) {
	c.unpark()
	c.wake(true)
	for _, p := range c.byID {
		if p.placing != nil && now.Sub(p.placedAt) >= resendAfter {
			p.placedAt = now
			effects = append(effects, Place{SessionID: p.ID, Placement: p.placing})
		}
	}
	return effects
}

func (c *naiveCore) Books() (effects []Effect) {
	clear(c.touched)
	clear(c.owners)
	return nil
}

func naiveAge(a, b *naivePending) int {
	if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
		return n
	}
	return strings.Compare(a.ID.String(), b.ID.String())
}

type naiveUsage struct {
	sessions int
	slots    backendai.ResourceSlots
}

func naiveAdd[K comparable](m map[K]*naiveUsage, key K, slots backendai.ResourceSlots, sessions int) {
	u := m[key]
	if u == nil {
		u = &naiveUsage{}
		m[key] = u
	}
	u.slots = u.slots.Add(slots)
	u.sessions += sessions
	if u.sessions == 0 && u.slots.IsZero() {
		delete(m, key)
	}
}

func naiveUsed[K comparable](m map[K]*naiveUsage, key K) (u naiveUsage) {
	if p := m[key]; p != nil {
		u = *p
	}
	return u
}
