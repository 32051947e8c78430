package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// moved sends those placements again that were on their way to sessions whose shard has moved.
func (c *Core) moved(e *protocol.Moved, now time.Time) (effects []Effect) {
	for id := range sortedIDs(maps.Keys(c.placing)) {
		p := c.placing[id]
		if e.Has(cluster.ShardOf(cluster.Session(p.ID), e.Of)) {
			p.placedAt = momentOf(now)
			effects = append(effects, Place{SessionID: p.ID, Placement: p.placing})
		}
	}
	return effects
}

// reconcile mends what lost messages have left behind: agents that are not as their rows have them, sessions that wait without being in
// the queue, allocations of kernels that are dead, and kernels that run without one. Rows and messages overtake each other; so only what two readings in a row show counts.
func (c *Core) reconcile(e *protocol.Reread, now time.Time) (effects []Effect) {
	before, doubts := c.doubts, make(map[uuid.UUID]doubt)
	c.doubts = doubts
	confirmed := func(id uuid.UUID, d doubt) bool {
		if before[id] == d {
			return true
		}
		doubts[id] = d
		return false
	}
	c.reconcileAgents(e.Rows.Agents)
	if c.usesWanted && e.Rows.UsesRead {
		c.takeUses(e.Rows.Uses)
	}
	live := make(map[uuid.UUID]bool, len(e.Rows.Allocations))
	for _, a := range e.Rows.Allocations {
		live[a.KernelID] = true
		switch known := c.allocs[a.KernelID]; {
		case known == nil:
			if confirmed(a.KernelID, unknown) {
				c.adopt(a)
			}
		case known.Since.IsZero() && !a.Since.IsZero():
			c.runs(known, a.Since)
		}
	}
	var over []uuid.UUID
	for id, a := range c.allocs {
		if live[id] || c.byID[a.SessionID] != nil { // a placement that is on its way has no row yet
			continue
		}
		if confirmed(id, dead) {
			over = append(over, id)
		}
	}
	for id := range sortedIDs(slices.Values(over)) {
		c.free(id)
	}
	pending := make(map[uuid.UUID]bool, len(e.Rows.Pending))
	for _, s := range e.Rows.Pending {
		pending[s.ID] = true
		switch p := c.byID[s.ID]; {
		case p == nil:
			if confirmed(s.ID, missing) {
				effects = append(effects, c.enqueue(s, now)...)
			}
		case p.placing == nil && p.Wishes != s.Wishes && confirmed(s.ID, otherWishes):
			c.setWishes(p, s.Wishes)
		}
	}
	over = over[:0]
	for id, p := range c.byID {
		if !pending[id] && p.placing == nil && confirmed(id, gone) {
			over = append(over, id)
		}
	}
	for id := range sortedIDs(slices.Values(over)) {
		c.withdraw(id)
	}
	return effects
}

// recount has everything that is derived written again with the next books.
func (c *Core) recount() {
	for _, id := range c.order {
		c.touched[id] = true
	}
	for key := range c.keys {
		c.owners[key] = true
	}
}

// reconcileAgents takes an agent as its row has it when two readings in a row show the same, and that is not what is known.
func (c *Core) reconcileAgents(rows []protocol.AgentState) {
	before, doubts := c.agentDoubts, make(map[string]protocol.AgentState)
	c.agentDoubts = doubts
	here := make(map[string]bool, len(rows))
	compare := func(s protocol.AgentState) {
		if old := c.agents[s.ID]; old != nil && sameState(old.AgentState, s) {
			return
		}
		if was, ok := before[s.ID]; ok && sameState(was, s) {
			c.agentState(s)
			return
		}
		doubts[s.ID] = s
	}
	for _, s := range rows {
		here[s.ID] = true
		compare(s)
	}
	for _, id := range slices.Clone(c.order) {
		if !here[id] { // it has moved to another group
			compare(protocol.AgentState{ID: id})
		}
	}
}

func sameState(a, b protocol.AgentState) bool {
	return a.Addr == b.Addr && a.ScalingGroup == b.ScalingGroup && a.Architecture == b.Architecture && a.Alive == b.Alive &&
		a.Schedulable == b.Schedulable && a.Available.Equal(b.Available)
}

// doubt is a difference between the rows and what the scheduler knows, seen once.
type doubt uint8

const (
	unknown     doubt = iota + 1 // a live kernel without an allocation
	dead                         // an allocation without a live kernel
	otherWishes                  // a queued session that says something else of itself in its row
	missing                      // a pending session that is not in the queue
	gone                         // a queued session that is not pending
)
