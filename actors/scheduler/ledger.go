package scheduler

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
)

// Ledger is what access keys, projects and domains take. Their quotas are over all scaling groups, so the schedulers of a cluster keep
// one together (spec/scheduling-lifecycle §8).
type Ledger struct {
	keys    map[string]*usage
	groups  map[uuid.UUID]*usage
	domains map[string]*usage
	// freed are the scopes of which something was given back, for the other schedulers; nobody keeps them for a scheduler alone.
	freed  []scope
	shared bool
	// records are those of the schedulers that share the ledger, by scaling group: each has to know what the others do to it.
	records map[string]*Record
}

// NewLedger makes an empty one.
func NewLedger() *Ledger {
	return &Ledger{keys: make(map[string]*usage), groups: make(map[uuid.UUID]*usage), domains: make(map[string]*usage)}
}

func (l *Ledger) clone() *Ledger {
	return &Ledger{keys: cloneUsage(l.keys), groups: cloneUsage(l.groups), domains: cloneUsage(l.domains)}
}

// quotaFreed tells a scheduler that others have given something back of these quotas.
type quotaFreed struct{ scopes []scope }

// Council is what the schedulers of a cluster have in common. They all live in one shard, hence in one process and one epoch. A core is only
// used while its council's lock is held: what one of them sees of a quota and takes of it is one step. So one scheduler may wait for a step of
// another, which only computes (no step does I/O): milliseconds, as under the original's lock, which was held over queries as well.
type Council struct {
	mu      sync.Mutex
	ledger  *Ledger
	missing map[string]bool // scaling groups whose rows are not counted yet: nobody may decide before
	seats   map[string]*actor.PID
}

// NewCouncil makes one for the schedulers of these scaling groups. More can come.
func NewCouncil(groups []string) *Council {
	c := &Council{ledger: NewLedger(), missing: make(map[string]bool, len(groups)), seats: make(map[string]*actor.PID)}
	for _, g := range groups {
		c.missing[g] = true
	}
	return c
}

// join takes a scheduler in.
func (c *Council) join(group string, pid *actor.PID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats[group] = pid
	c.ledger.shared = len(c.seats) > 1
}

// counted tells that the rows of a scaling group are in the ledger, or can't be read. Those it returns may decide now.
func (c *Council) counted(group string) (ready []*actor.PID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.missing[group] {
		return nil
	}
	if delete(c.missing, group); len(c.missing) > 0 {
		return nil
	}
	for _, pid := range c.seats {
		ready = append(ready, pid)
	}
	return ready
}

// ready tells whether all rows are in the ledger.
func (c *Council) ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.missing) == 0
}

// step runs a step of one scheduler's core. It returns what the others have to hear of, and who they are.
func (c *Council) step(group string, f func()) (freed []scope, others []*actor.PID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	if len(c.ledger.freed) == 0 {
		return nil, nil
	}
	freed, c.ledger.freed = c.ledger.freed, nil
	for g, pid := range c.seats {
		if g != group {
			others = append(others, pid)
		}
	}
	return freed, others
}
