package scheduler

import (
	"bytes"
	"time"

	"github.com/google/btree"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// parking is what a session waits for that the scheduler does not look at again before it comes.
type parking uint8

const (
	notParked  parking = iota
	forClock           // its start time
	forSession         // a dependency's success
	forAccess          // a right to the scaling group: newer limits
	forQuota           // somebody's slots or sessions: it is in a crowd
)

// pending is a queued session with what the scheduler knows of its wait.
type pending struct {
	protocol.PendingSession
	requested backendai.ResourceSlots // sum over its kernels
	size      string                  // equal for equal requests
	parked    parking
	crowd     *crowd // that it is parked in
	leads     *crowd // that it was sent ahead of
	stale     bool   // among the ready ones: has failed so often that others may go first
	placing   *protocol.Placement
	placedAt  moment
	told      moment // when it was last reported that it can't start behind the head
	found     finding
}

// blanksKept bounds what is kept to be used again: a pass places so many before its sessions are heard of.
const blanksKept = 1024

// reuse keeps what a session that was placed and forgotten leaves for one that comes. Nothing refers to it any more, unless it was the last
// to hold up the queue.
func (c *Core) reuse(p *pending) {
	if p != c.holdsUp && len(c.blanks) < blanksKept {
		*p = pending{}
		c.blanks = append(c.blanks, p)
	}
}

// blank is for a session that comes.
func (c *Core) blank() *pending {
	last := len(c.blanks) - 1
	if last < 0 {
		return &pending{}
	}
	p := c.blanks[last]
	c.blanks = c.blanks[:last]
	return p
}

// finding is what the last look at a session has found. Many wait for long: what of it can be found again is not kept.
type finding struct {
	at       moment
	changes  uint64    // of the core, then
	since    moment    // since when it is of this kind
	failing  failing   // predicates
	obstacle *obstacle // otherwise
}

// moment is a time in nanoseconds of Unix, 0 for none. Each session that waits has four, which the garbage collector need not look
// into as it does into time.Time.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.UnixNano())
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(m)).UTC()
}

const degree = 16

// sorted makes an empty tree. There can be as many as there are crowds: all of a core share their spare nodes.
func (c *Core) sorted(before btree.LessFunc[*pending]) *btree.BTreeG[*pending] {
	return btree.NewWithFreeListG(degree, before, c.spare)
}

func older(a, b *pending) bool { return compareAge(a, b) < 0 }

func compareAge(a, b *pending) int {
	if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
		return n
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// earlier orders by start time.
func earlier(a, b *pending) bool {
	if n := a.StartsAt.Compare(*b.StartsAt); n != 0 {
		return n < 0
	}
	return older(a, b)
}

// insert keeps the queue in the order of creation; ties go by id.
func (c *Core) insert(p *pending) {
	c.byID[p.ID] = p
	c.queue.ReplaceOrInsert(p)
	for _, d := range p.DependsOn {
		if c.dependents[d.ID] == nil {
			c.dependents[d.ID] = make(map[*pending]bool)
		}
		c.dependents[d.ID][p] = true
	}
	c.ready(p)
}

// dequeue removes a session from the queue but remembers it: its placement is on the way.
func (c *Core) dequeue(p *pending) {
	if _, ok := c.queue.Delete(p); !ok {
		return
	}
	if p.parked != notParked {
		c.unpark(p)
	}
	c.unready(p)
	for _, d := range p.DependsOn {
		delete(c.dependents[d.ID], p)
		if len(c.dependents[d.ID]) == 0 {
			delete(c.dependents, d.ID)
		}
	}
	if p.leads != nil {
		c.followUp(p)
	}
}

func (c *Core) forget(p *pending) {
	c.dequeue(p)
	delete(c.byID, p.ID)
	delete(c.placing, p.ID)
}

// ready lets the next pass look at a session.
func (c *Core) ready(p *pending) {
	skip := c.retriesToSkip()
	p.stale = skip > 0 && p.Retries >= skip
	if p.stale {
		c.stale.ReplaceOrInsert(p)
	} else {
		c.fresh.ReplaceOrInsert(p)
	}
	if c.blocked && c.overtakes(p, c.holdsUp) {
		c.blocked = false
	}
	if !c.ownersCompete() {
		return
	}
	own := c.ofOwner[p.AccessKey]
	if own == nil {
		own = c.sorted(c.turns())
		c.ofOwner[p.AccessKey] = own
	}
	own.ReplaceOrInsert(p)
}

func (c *Core) unready(p *pending) {
	if p.stale {
		c.stale.Delete(p)
	} else {
		c.fresh.Delete(p)
	}
	if own := c.ofOwner[p.AccessKey]; own != nil {
		own.Delete(p)
		if own.Len() == 0 {
			delete(c.ofOwner, p.AccessKey)
		}
	}
}

// regroup sorts the ready sessions as a policy wants them and lets the next pass look at every one.
func (c *Core) regroup() {
	c.fresh, c.stale = c.sorted(c.lineup()), c.sorted(c.lineup())
	clear(c.ofOwner)
	clear(c.crowds)
	c.watches = newWatches()
	c.clock.Clear(false)
	c.parked = 0
	c.regroupHoldings()
	c.regroupUses()
	c.queue.Ascend(func(p *pending) bool {
		p.parked, p.crowd, p.leads = notParked, nil, nil
		c.ready(p)
		return true
	})
}

// park lays a session aside until an event of the class that could help it. One of the predicates it fails is enough to watch: as
// long as that one fails, the others do not matter.
func (c *Core) park(p *pending, why parking, where scope) {
	c.unready(p)
	p.parked = why
	c.parked++
	switch why {
	case forClock:
		c.clock.ReplaceOrInsert(p)
	case forQuota:
		c.join(p, where)
	}
}

// unpark lets the next pass look at a parked session.
func (c *Core) unpark(p *pending) {
	switch p.parked {
	case notParked:
		return
	case forClock:
		c.clock.Delete(p)
	case forQuota:
		c.leave(p)
	}
	p.parked = notParked
	c.parked--
	c.ready(p)
}

// unparkOldest is the original's regular look at the queue, bounded.
func (c *Core) unparkOldest(n int) {
	var first []*pending
	c.queue.Ascend(func(p *pending) bool {
		first = append(first, p)
		return len(first) < n
	})
	for _, p := range first {
		c.unpark(p)
	}
}

// unparkDue lets the pass look at those whose start time has come.
func (c *Core) unparkDue(now time.Time) {
	for {
		p, ok := c.clock.Min()
		if !ok || p.StartsAt.After(now) {
			return
		}
		c.unpark(p)
	}
}
