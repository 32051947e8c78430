package scheduler

import (
	"container/heap"
	"time"

	"github.com/google/btree"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// holding is what one session takes in this scaling group.
type holding struct {
	owner   string
	slots   backendai.ResourceSlots
	kernels int
}

// holder is an access key with its sessions.
type holder struct {
	sessions map[uuid.UUID]*holding
	// share is the largest of any of its sessions in the group's capacity, as of totals; known tells whether it still is.
	share  float64
	totals uint64
	known  bool
}

// regroupHoldings adds up who takes what; only drf wants to know.
func (c *Core) regroupHoldings() {
	c.sessions, c.holders = nil, nil
	if c.Policy.Name != policyDRF {
		return
	}
	c.sessions, c.holders = make(map[uuid.UUID]*holding), make(map[string]*holder)
	for _, a := range c.allocs {
		c.hold(a.SessionID, a.AccessKey, a.Slots, 1)
	}
}

// hold changes what a session takes.
func (c *Core) hold(session uuid.UUID, owner string, slots backendai.ResourceSlots, kernels int) {
	if c.sessions == nil {
		return
	}
	h := c.sessions[session]
	if h == nil {
		h = &holding{owner: owner}
		c.sessions[session] = h
		if c.holders[owner] == nil {
			c.holders[owner] = &holder{sessions: make(map[uuid.UUID]*holding)}
		}
		c.holders[owner].sessions[session] = h
	}
	o := c.holders[h.owner]
	current := o.known && o.totals == c.index.totals && c.index.total != nil
	if current && kernels <= 0 && dominant(h.slots, *c.index.total) >= o.share {
		current = false // the largest may be smaller now
	}
	h.slots = h.slots.Add(slots)
	h.kernels += kernels
	if h.kernels <= 0 {
		h.slots = backendai.ResourceSlots{}
		delete(c.sessions, session)
		delete(o.sessions, session)
		if len(o.sessions) == 0 {
			delete(c.holders, h.owner)
		}
	}
	if o.known = current; current {
		o.share = max(o.share, dominant(h.slots, *c.index.total))
	}
}

// shareOf is the dominant share of an access key: the maximum over its sessions.
func (c *Core) shareOf(owner string, total backendai.ResourceSlots) float64 {
	o := c.holders[owner]
	if o == nil {
		return 0
	}
	if !o.known || o.totals != c.index.totals {
		o.share, o.totals, o.known = 0, c.index.totals, true
		for _, h := range o.sessions {
			o.share = max(o.share, dominant(h.slots, total))
		}
	}
	return o.share
}

// dominant is the largest of the shares that slots are of a total.
func dominant(slots, total backendai.ResourceSlots) (share float64) {
	for name, amount := range slots.All() {
		if capacity := total.Get(name); !capacity.IsZero() {
			share = max(share, amount.Float64()/capacity.Float64())
		}
	}
	return share
}

// contest lets the owners of ready sessions compete: the first session of one of them goes next. By drf it is the owner whose largest
// single session has the smallest share of the group (the maximum over sessions, not their sum, is the original's and
// decides the order only); with a fair share it is first of all the one who has used the least. A higher priority goes before both.
type contest struct {
	policy
	core   *Core
	total  backendai.ResourceSlots
	before btree.LessFunc[*pending] // where owners stand equal
	owners []*contender             // a heap; the first goes next
	last   *contender
}

// contender is an owner with ready sessions.
type contender struct {
	owner string
	standing
	first *pending
}

// standing is what owners are compared by.
type standing struct {
	use   float64 // 0 without fair share
	share float64 // 0 unless the policy is drf
}

func (c *Core) standing(owner string, total backendai.ResourceSlots, now time.Time) (s standing) {
	if c.uses != nil {
		s.use = c.useOf(owner, total, now)
	}
	if c.Policy.Name == policyDRF {
		s.share = c.shareOf(owner, total)
	}
	return s
}

func (c *Core) newContest(p policy, now time.Time) *contest {
	d := &contest{policy: p, core: c, total: c.index.capacity(c.agents, c.order), before: c.turns()}
	for owner, ready := range c.ofOwner {
		first, _ := ready.Min()
		d.owners = append(d.owners, &contender{owner: owner, standing: c.standing(owner, d.total, now), first: first})
	}
	heap.Init(d)
	return d
}

func (d *contest) pick(c *Core) *pending {
	if d.last != nil { // its first session was looked at; others of it may have become ready
		if ready := c.ofOwner[d.last.owner]; ready != nil {
			d.last.first, _ = ready.Min()
			heap.Fix(d, 0)
		} else {
			heap.Pop(d)
		}
		d.last = nil
	}
	if len(d.owners) == 0 {
		return nil
	}
	d.last = d.owners[0]
	return d.last.first
}

// assigned raises the owner's share; what it has used is not more by this yet.
func (d *contest) assigned(_ *pending, requested backendai.ResourceSlots) {
	if d.core.Policy.Name == policyDRF {
		d.last.share = max(d.last.share, dominant(requested, d.total))
	}
}

// Len, Less, Swap, Push and Pop make a heap of the owners.
func (d *contest) Len() int { return len(d.owners) }

// Less orders by priority, use and share; ties go by what the policy says of their first sessions.
func (d *contest) Less(i, j int) bool {
	a, b := d.owners[i], d.owners[j]
	if n := d.core.byPriority(a.first, b.first); n != 0 {
		return n < 0
	}
	if a.use != b.use {
		return a.use < b.use
	}
	if a.share != b.share {
		return a.share < b.share
	}
	return d.before(a.first, b.first)
}

func (d *contest) Swap(i, j int) { d.owners[i], d.owners[j] = d.owners[j], d.owners[i] }
func (d *contest) Push(x any)    { d.owners = append(d.owners, x.(*contender)) }
func (d *contest) Pop() any {
	last := d.owners[len(d.owners)-1]
	d.owners = d.owners[:len(d.owners)-1]
	return last
}
