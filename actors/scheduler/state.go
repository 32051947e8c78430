package scheduler

import (
	"time"

	"github.com/google/btree"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Agent is a candidate with what is taken of it.
type Agent struct {
	protocol.AgentState
	Occupied backendai.ResourceSlots

	class    *class // in the index; nil when no candidate
	position int    // in the class's tree
}

func (a *Agent) candidate() bool { return a.Alive && a.Schedulable }

// Core is the state of one scaling group's scheduler. Not for concurrent use.
type Core struct {
	Group  string
	Policy protocol.Policy // the one in use
	Known  *backendai.KnownSlots

	*Ledger
	agents     map[string]*Agent
	order      []string // agent ids, sorted: ties of the original are unordered, ours go by id
	index      *index
	alive      int                                // agents
	queue      *btree.BTreeG[*pending]            // all that wait
	fresh      *btree.BTreeG[*pending]            // those that the next pass looks at,
	stale      *btree.BTreeG[*pending]            // but first those that have not failed too often
	ofOwner    map[string]*btree.BTreeG[*pending] // the same by access key, where owners compete
	clock      *btree.BTreeG[*pending]            // those that wait for their start time, by it
	parked     int
	spare      *btree.FreeListG[*pending]
	crowds     map[crowdKey]*crowd
	watches    watches
	dependents map[uuid.UUID]map[*pending]bool // by what they wait for
	byID       map[uuid.UUID]*pending
	placing    map[uuid.UUID]*pending             // not in the queue: sent to the session, not yet acknowledged
	nowhere    map[string]bool                    // sizes of requests for which no agent had room, since anything was freed
	allocs     map[uuid.UUID]*protocol.Allocation // by kernel; the core's own

	problem    string // what of the policy that was read last is not understood
	understood bool   // Policy was, all of it

	changes  uint64   // counts what may make an explanation obsolete
	holdsUp  *pending // whom blocked is about
	due      bool     // something has happened that a pass could act on
	blocked  bool     // the last pass ended at a session that fits nowhere; newcomers wait behind it
	touched  map[string]bool
	owners   map[string]bool
	sessions map[uuid.UUID]*holding
	holders  map[string]*holder
	now      time.Time       // of the event that is being applied; never goes back
	uses     map[string]*use // by access key; nil without a fair share
	halving  halving         // of uses
	usesTold time.Time
	// usesWanted: what was written down of the uses is not read yet.
	usesWanted bool
	doubts     map[uuid.UUID]doubt // what the last look at the rows has found to be different
	// agentDoubts are agents' rows that were different then.
	agentDoubts map[string]protocol.AgentState

	// What backfill and preemption need (tenure.go, reservation.go, preempt.go); all nil where the policy's options ask for neither.
	tenures     map[uuid.UUID]*tenure
	ends        *btree.BTreeG[*tenure]  // those that end at a known time, by it
	leaving     map[uuid.UUID]time.Time // kernels whose end was asked for, and when that was heard of
	dismissed   map[uuid.UUID]time.Time // sessions that were told to make room, and when
	reservation *reservation            // of holdsUp
	held        *hold                   // replaced, never changed
	vain        vain
	bookings    uint64  // counts changes of allocations and agents
	backfilled  int     // how many have started behind a head, and
	preempted   int     // have been told to go, since this scheduler has begun
	record      *Record // nil: none is kept

	names    []string   // scratch
	foreseen int        // how many effects the last pass had
	blanks   []*pending // of sessions that were placed, to be used again
}

// NewCore makes an empty scheduler for a scaling group.
func NewCore(group string, policy protocol.Policy, known *backendai.KnownSlots) *Core {
	c := &Core{
		Group: group, Policy: policy, Known: known,
		agents: make(map[string]*Agent), byID: make(map[uuid.UUID]*pending), allocs: make(map[uuid.UUID]*protocol.Allocation),
		Ledger:  NewLedger(),
		touched: make(map[string]bool), owners: make(map[string]bool), placing: make(map[uuid.UUID]*pending),
		index: newIndex(), spare: btree.NewFreeListG[*pending](256),
		ofOwner: make(map[string]*btree.BTreeG[*pending]), crowds: make(map[crowdKey]*crowd), watches: newWatches(),
		dependents: make(map[uuid.UUID]map[*pending]bool), nowhere: make(map[string]bool),
	}
	c.queue, c.fresh, c.stale, c.clock = c.sorted(older), c.sorted(c.lineup()), c.sorted(c.lineup()), c.sorted(earlier)
	c.regroupHoldings()
	c.retrack(false)
	c.regroupUses()
	return c
}

// Due reports whether a pass has something to look at.
func (c *Core) Due() bool { return c.due }

// QueueLength is the number of sessions that wait, and how many of them are parked.
func (c *Core) QueueLength() (waiting, parked int) { return c.queue.Len(), c.parked }

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
		a := c.agents[id]
		list[i] = Agent{AgentState: a.AgentState, Occupied: a.Occupied}
	}
	return list
}

// allocate takes in an allocation, which is the core's from then on.
func (c *Core) allocate(a *protocol.Allocation) {
	if c.allocs[a.KernelID] != nil {
		return
	}
	c.allocs[a.KernelID] = a
	if agent := c.agents[a.Agent]; agent != nil {
		c.occupy(agent, agent.Occupied.Add(a.Slots))
	}
	c.hold(a.SessionID, a.AccessKey, a.Slots, 1)
	c.startUsing(a)
	c.touched[a.Agent] = true
	c.bookings++
	c.track(a)
	if a.CountsForUser {
		c.charge(a, a.Slots, 1, false)
	}
}

// adopt takes in what a row says, as a copy: the event may be looked at again, by a record.
func (c *Core) adopt(a *protocol.Allocation) {
	own := *a
	c.allocate(&own)
}

// free removes an allocation; harmless when it is gone already.
func (c *Core) free(kernel uuid.UUID) {
	a := c.allocs[kernel]
	if a == nil {
		return
	}
	c.untrack(a)
	delete(c.allocs, kernel)
	c.bookings++
	if agent := c.agents[a.Agent]; agent != nil {
		c.occupy(agent, agent.Occupied.Sub(a.Slots))
	}
	clear(c.nowhere)
	if c.sessions != nil {
		c.hold(a.SessionID, a.AccessKey, negative(a.Slots), -1)
	}
	c.using(a.AccessKey, a.Slots, -1, true)
	c.touched[a.Agent] = true
	if a.CountsForUser {
		c.charge(a, a.Slots, 1, true)
	}
	c.wake(true)
}

// occupy sets what is taken of an agent.
func (c *Core) occupy(a *Agent, occupied backendai.ResourceSlots) {
	a.Occupied = occupied
	c.index.changed(a)
}

// wake makes a pass due if there is anything for it to look at. unblock says that the session which holds up the queue may fit now.
func (c *Core) wake(unblock bool) {
	if unblock {
		c.blocked = false
	}
	if (!c.blocked || c.Policy.Options.Backfill) && c.fresh.Len()+c.stale.Len() > 0 {
		c.due = true
	}
}

func negative(s backendai.ResourceSlots) backendai.ResourceSlots {
	return backendai.ResourceSlots{}.Sub(s)
}
