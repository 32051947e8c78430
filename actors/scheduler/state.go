package scheduler

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Agent is a candidate with what is taken of it.
type Agent struct {
	protocol.AgentState
	Occupied backendai.ResourceSlots
}

func (a *Agent) candidate() bool { return a.Alive && a.Schedulable }

// pending is a queued session with what the scheduler knows of its wait.
type pending struct {
	protocol.PendingSession
	requested backendai.ResourceSlots // sum over its kernels
	parked    bool
	placing   *protocol.Placement // sent to the session, not yet acknowledged
	placedAt  time.Time
}

// usage is what one owner (an access key, a project, a domain) takes in this scaling group.
type usage struct {
	sessions int
	slots    backendai.ResourceSlots
}

// Core is the state of one scaling group's scheduler. Not for concurrent use.
type Core struct {
	Group  string
	Policy protocol.Policy
	Known  *backendai.KnownSlots

	agents  map[string]*Agent
	order   []string // agent ids, sorted: ties of the original are unordered, ours go by id
	queue   []*pending
	byID    map[uuid.UUID]*pending
	allocs  map[uuid.UUID]*protocol.Allocation // by kernel
	keys    map[string]*usage
	groups  map[uuid.UUID]*usage
	domains map[string]*usage

	due     bool // something has happened that a pass could act on
	blocked bool // the last pass ended at a session that fits nowhere; newcomers wait behind it
	touched map[string]bool
	owners  map[string]bool
	doubts  map[uuid.UUID]doubt // what the last look at the rows has found to be different
	// agentDoubts are agents' rows that were different then.
	agentDoubts map[string]protocol.AgentState
}

// NewCore makes an empty scheduler for a scaling group.
func NewCore(group string, policy protocol.Policy, known *backendai.KnownSlots) *Core {
	return &Core{
		Group: group, Policy: policy, Known: known,
		agents: make(map[string]*Agent), byID: make(map[uuid.UUID]*pending), allocs: make(map[uuid.UUID]*protocol.Allocation),
		keys: make(map[string]*usage), groups: make(map[uuid.UUID]*usage), domains: make(map[string]*usage),
		touched: make(map[string]bool), owners: make(map[string]bool),
	}
}

// Due reports whether a pass has something to look at.
func (c *Core) Due() bool { return c.due }

// QueueLength is the number of sessions that wait, and how many of them are parked.
func (c *Core) QueueLength() (waiting, parked int) {
	for _, p := range c.queue {
		if p.parked {
			parked++
		}
	}
	return len(c.queue), parked
}

// Free is what an agent has left.
func (c *Core) Free(agent string) (backendai.ResourceSlots, bool) {
	a := c.agents[agent]
	if a == nil {
		return backendai.ResourceSlots{}, false
	}
	return a.Available.Sub(a.Occupied), true
}

// Agents copies the agents in order of id.
func (c *Core) Agents() []Agent {
	list := make([]Agent, len(c.order))
	for i, id := range c.order {
		list[i] = *c.agents[id]
	}
	return list
}

func (c *Core) allocate(a *protocol.Allocation) {
	if c.allocs[a.KernelID] != nil {
		return
	}
	c.allocs[a.KernelID] = a
	if agent := c.agents[a.Agent]; agent != nil {
		agent.Occupied = agent.Occupied.Add(a.Slots)
	}
	c.touched[a.Agent] = true
	if a.CountsForUser {
		c.charge(a, a.Slots, 1)
	}
}

// free removes an allocation; harmless when it is gone already.
func (c *Core) free(kernel uuid.UUID) {
	a := c.allocs[kernel]
	if a == nil {
		return
	}
	delete(c.allocs, kernel)
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
func (c *Core) charge(a *protocol.Allocation, slots backendai.ResourceSlots, sessions int) {
	if !a.Main {
		sessions = 0
	}
	add(c.keys, a.AccessKey, slots, sessions)
	add(c.groups, a.GroupID, slots, sessions)
	add(c.domains, a.DomainName, slots, sessions)
	if sessions != 0 {
		c.owners[a.AccessKey] = true
	}
}

func add[K comparable](m map[K]*usage, key K, slots backendai.ResourceSlots, sessions int) {
	u := m[key]
	if u == nil {
		u = &usage{}
		m[key] = u
	}
	u.slots = u.slots.Add(slots)
	u.sessions += sessions
	if u.sessions == 0 && u.slots.IsZero() {
		delete(m, key)
	}
}

func used[K comparable](m map[K]*usage, key K) (u usage) {
	if p := m[key]; p != nil {
		u = *p
	}
	return u
}

// wake makes a pass due. unblock says that the session which holds up the queue may fit now.
func (c *Core) wake(unblock bool) {
	if unblock {
		c.blocked = false
	}
	if !c.blocked && len(c.queue) > 0 {
		c.due = true
	}
}

// unpark lets the next pass look at every parked session again.
func (c *Core) unpark() {
	for _, p := range c.queue {
		p.parked = false
	}
}

// insert keeps the queue in the order of creation; ties go by id.
func (c *Core) insert(p *pending) {
	c.byID[p.ID] = p
	at, _ := slices.BinarySearchFunc(c.queue, p, compareAge)
	c.queue = slices.Insert(c.queue, at, p)
}

func compareAge(a, b *pending) int {
	if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
		return n
	}
	return strings.Compare(a.ID.String(), b.ID.String())
}

// dequeue removes a session from the queue but remembers it: its placement is on the way.
func (c *Core) dequeue(p *pending) {
	if at, ok := slices.BinarySearchFunc(c.queue, p, compareAge); ok {
		c.queue = slices.Delete(c.queue, at, at+1)
	}
}

func (c *Core) forget(p *pending) {
	c.dequeue(p)
	delete(c.byID, p.ID)
}

func negative(s backendai.ResourceSlots) backendai.ResourceSlots {
	return backendai.ResourceSlots{}.Sub(s)
}
