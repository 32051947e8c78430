package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/btree"

	"backend.ai/manager/actors/protocol"
)

// The order in which sessions are looked at, the most important first:
//
//	priority (Options.Priority) ─▶ what the owner has used (Options.FairShareHalfLife) ─▶ the policy: for drf the owner's
//	share now, then age; for fifo who has failed too often comes last, then age; for lifo youth
//
// What changes with time or with others' sessions (use, shares) is of owners, so trees are sorted by the rest only, one for each
// owner where owners compete; a pass lets the owners' first ones compete (drf.go).

// ownersCompete tells whether what owners use has a part in the order.
func (c *Core) ownersCompete() bool {
	return c.Policy.Name == policyDRF || c.Policy.Options.FairShareHalfLife > 0
}

// byPriority compares by what sessions say of themselves; 0 where nobody asked for it. The higher comes first.
func (c *Core) byPriority(a, b *pending) int {
	if !c.Policy.Options.Priority {
		return 0
	}
	return cmp.Compare(b.Wishes.Priority, a.Wishes.Priority)
}

// lineup is how the ready sessions are sorted, those that have failed too often apart from the others: for lifo the last goes first.
func (c *Core) lineup() btree.LessFunc[*pending] {
	switch {
	case !c.Policy.Options.Priority:
		return older
	case c.Policy.Name == policyLIFO:
		return func(a, b *pending) bool {
			return cmp.Or(cmp.Compare(a.Wishes.Priority, b.Wishes.Priority), compareAge(a, b)) < 0
		}
	}
	return func(a, b *pending) bool {
		return cmp.Or(cmp.Compare(b.Wishes.Priority, a.Wishes.Priority), compareAge(a, b)) < 0
	}
}

// turns is the order in which the policy looks at sessions of one owner, or of all where owners do not compete.
func (c *Core) turns() btree.LessFunc[*pending] {
	own := c.policysTurns()
	if !c.Policy.Options.Priority {
		return own
	}
	return func(a, b *pending) bool {
		if a.Wishes.Priority != b.Wishes.Priority {
			return a.Wishes.Priority > b.Wishes.Priority
		}
		return own(a, b)
	}
}

// policysTurns is that without priorities.
func (c *Core) policysTurns() btree.LessFunc[*pending] {
	skip := c.retriesToSkip()
	switch {
	case c.Policy.Name == policyLIFO:
		return func(a, b *pending) bool { return older(b, a) }
	case skip > 0:
		return func(a, b *pending) bool {
			if a, b := a.Retries >= skip, b.Retries >= skip; a != b {
				return b
			}
			return older(a, b)
		}
	}
	return older
}

// overtakes tells whether a session is to be looked at before the one that holds up the queue, although that came first.
func (c *Core) overtakes(p, head *pending) bool {
	if head == nil || head == p {
		return false
	}
	if n := c.byPriority(p, head); n != 0 {
		return n < 0
	}
	if c.uses == nil || p.AccessKey == head.AccessKey {
		return false
	}
	total := c.index.capacity(c.agents, c.order)
	return c.useOf(p.AccessKey, total, c.now) < c.useOf(head.AccessKey, total, c.now)
}

// setWishes takes what a waiting session says of itself now.
func (c *Core) setWishes(p *pending, w protocol.Wishes) {
	if p.Wishes == w {
		return
	}
	if p.placing != nil {
		p.Wishes = w
		c.bookings++
		for _, k := range p.Kernels { // all of them, before any is taken in again
			if a := c.allocs[k.ID]; a != nil {
				c.untrack(a)
			}
		}
		for _, k := range p.Kernels {
			if a := c.allocs[k.ID]; a != nil {
				a.Wishes = w
				c.track(a)
			}
		}
		return
	}
	c.unpark(p) // the crowd that it is in is sorted by it, too
	c.unready(p)
	p.Wishes = w
	c.ready(p)
	if g := p.leads; g != nil { // another of its crowd may go before it now
		p.leads, g.ahead = nil, nil
		c.sendAhead(g)
		c.dissolve(g)
	}
	if o := c.Policy.Options; o.Priority || o.Backfill || o.Preemption {
		c.wake(true)
	}
}

// ahead is who would be looked at before a session, of those that could be looked at.
type ahead struct {
	all      int
	priority int // because theirs is higher
	use      int // because their owners have used less
}

// aheadOf counts them.
func (c *Core) aheadOf(p *pending, now time.Time) (n ahead) {
	own := c.policysTurns()
	standings := make(map[string]standing)
	of := func(owner string) standing { return standing{} }
	if c.ownersCompete() {
		total := c.index.capacity(c.agents, c.order)
		of = func(owner string) standing {
			s, ok := standings[owner]
			if !ok {
				s = c.standing(owner, total, now)
				standings[owner] = s
			}
			return s
		}
	}
	mine := of(p.AccessKey)
	count := func(o *pending) bool {
		if o == p {
			return true
		}
		its := of(o.AccessKey)
		switch priority, use, share := c.byPriority(o, p), cmp.Compare(its.use, mine.use), cmp.Compare(its.share, mine.share); {
		case priority < 0:
			n.all++
			n.priority++
		case priority > 0:
		case use < 0:
			n.all++
			n.use++
		case use > 0:
		case share < 0 || share == 0 && own(o, p):
			n.all++
		}
		return true
	}
	c.fresh.Ascend(count)
	c.stale.Ascend(count)
	return n
}

// priorities are those that make a difference to a session that waits: each a little more than that of some that are looked at before it.
func (c *Core) priorities(p *pending) (list []int) {
	add := func(o *pending) bool {
		for _, n := range []int{o.Wishes.Priority, o.Wishes.Priority + 1} { // equal may do, if it is older
			if n > p.Wishes.Priority && n <= protocol.MaxPriority {
				list = append(list, n)
			}
		}
		return true
	}
	c.fresh.Ascend(add)
	c.stale.Ascend(add)
	slices.Sort(list)
	return slices.Compact(list)
}
