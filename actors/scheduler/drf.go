package scheduler

import (
	"container/heap"

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

// drf takes the oldest session of the owner whose largest single session has the
// smallest share of the group. (The maximum over sessions, not their sum, is the
// original's and decides the order only.)
type drf struct {
	total  backendai.ResourceSlots
	owners []*contender // a heap; the first goes next
	last   *contender
}

// contender is an owner with ready sessions.
type contender struct {
	owner string
	share float64
	first *pending
}

func (c *Core) newDRF() *drf {
	d := &drf{total: c.index.capacity(c.agents, c.order)}
	for owner, ready := range c.ofOwner {
		first, _ := ready.Min()
		d.owners = append(d.owners, &contender{owner: owner, share: c.shareOf(owner, d.total), first: first})
	}
	heap.Init(d)
	return d
}

func (d *drf) pick(c *Core) *pending {
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

func (d *drf) choose(x *index, arch string, requested backendai.ResourceSlots) *Agent {
	return x.best(arch, requested)
}

func (d *drf) assigned(_ *pending, requested backendai.ResourceSlots) {
	d.last.share = max(d.last.share, dominant(requested, d.total))
}

// Len, Less, Swap, Push and Pop make a heap of the owners.
func (d *drf) Len() int { return len(d.owners) }

// Less orders by share; ties go to the owner of the oldest session.
func (d *drf) Less(i, j int) bool {
	a, b := d.owners[i], d.owners[j]
	if a.share != b.share {
		return a.share < b.share
	}
	return older(a.first, b.first)
}

func (d *drf) Swap(i, j int) { d.owners[i], d.owners[j] = d.owners[j], d.owners[i] }
func (d *drf) Push(x any)    { d.owners = append(d.owners, x.(*contender)) }
func (d *drf) Pop() any {
	last := d.owners[len(d.owners)-1]
	d.owners = d.owners[:len(d.owners)-1]
	return last
}
