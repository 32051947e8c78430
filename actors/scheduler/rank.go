package scheduler

import (
	"math"
	"slices"

	backendai "backend.ai/manager"
)

// rank is a search tree over the agents of one class in the order of the dominant share that is used of them; for Options.Placement. As
// in tree, each node holds bounds of what is below: the most and the least that any agent has free, by columns. The most rules
// subtrees out that nothing fits in; each of the two bounds what the share would be after placing, from below (spread) or from above (pack).
//
// In the order of what is used, because agents that are alike in that stand side by side: full ones are ruled out together, and the best is
// found at one end. It is a treap: its shape follows from the agents' positions, not from what has happened.
type rank struct {
	class  *class
	pack   bool
	width  int
	root   int32
	nodes  []rankNode // by the agents' positions in the class
	most   bounds     // free, upper bounds
	least  bounds     // free, lower bounds
	low    []float64  // of the capacity by columns; 0 for what doesn't count
	high   []float64
	wanted []float64 // scratch: a request by columns, rounded to the side of the bound that is asked for
}

// rankNode is one agent.
type rankNode struct {
	left, right int32 // −1: none
	first       int32 // the least position below
	weight      uint32
	key         float64 // the dominant share that is used
}

// bounds hold, per node, the agent's own amounts by columns and those of all below it.
type bounds struct{ own, all []float64 }

func newRank(c *class, columns map[backendai.SlotName]int, pack bool) *rank {
	n, width := len(c.agents), len(columns)+1
	r := &rank{class: c, pack: pack, width: width, root: -1, nodes: make([]rankNode, n), low: make([]float64, width), high: make([]float64, width),
		wanted: make([]float64, width)}
	for _, b := range []*bounds{&r.most, &r.least} {
		b.own, b.all = make([]float64, n*width), make([]float64, n*width)
	}
	for name, amount := range c.available.All() {
		if amount.Sign() > 0 && amount.IsFinite() {
			r.low[columns[name]], r.high[columns[name]] = lower(amount), upper(amount)
		}
	}
	for i, a := range c.agents {
		r.set(int32(i), a, columns)
		r.root = r.insert(r.root, int32(i), false)
	}
	r.pullAll(r.root)
	return r
}

func (r *rank) clone(c *class) *rank {
	if r == nil {
		return nil
	}
	n := *r
	n.class, n.nodes, n.wanted = c, slices.Clone(r.nodes), make([]float64, r.width)
	n.most, n.least = r.most.clone(), r.least.clone()
	return &n
}

func (b bounds) clone() bounds { return bounds{slices.Clone(b.own), slices.Clone(b.all)} }

// move takes in what an agent has occupied now.
func (r *rank) move(pos int, a *Agent, columns map[backendai.SlotName]int) {
	r.root = r.erase(r.root, int32(pos))
	r.set(int32(pos), a, columns)
	r.root = r.insert(r.root, int32(pos), true)
}

// set makes the node of an agent, without a place in the tree.
func (r *rank) set(pos int32, a *Agent, columns map[backendai.SlotName]int) {
	weight := (uint32(pos) + 1) * 2654435761
	weight = (weight ^ weight>>15) * 2246822519
	r.nodes[pos] = rankNode{left: -1, right: -1, first: pos, weight: weight ^ weight>>13, key: usedShare(a.Available, a.Occupied, backendai.ResourceSlots{})}
	at := int(pos) * r.width
	most, least := r.most.own[at:at+r.width], r.least.own[at:at+r.width]
	if !(backendai.ResourceSlots{}).FitsIn(a.Available, a.Occupied) { // overdrawn: out of both bounds
		for i := range most {
			most[i], least[i] = math.Inf(-1), math.Inf(1)
		}
		return
	}
	clear(most)
	clear(least)
	for name, amount := range a.Available.All() {
		free := amount.Sub(a.Occupied.Get(name))
		most[columns[name]], least[columns[name]] = upper(free), lower(free)
	}
	for name, amount := range a.Occupied.All() {
		if _, ok := a.Available.Lookup(name); !ok {
			free := backendai.Decimal{}.Sub(amount)
			most[columns[name]], least[columns[name]] = upper(free), lower(free)
		}
	}
}

// before orders nodes: by what is used; equal ones so that the search meets the first by id first.
func (r *rank) before(a, b int32) bool {
	switch x, y := r.nodes[a].key, r.nodes[b].key; {
	case x != y:
		return x < y
	case r.pack:
		return a > b
	}
	return a < b
}

func (r *rank) insert(t, n int32, pull bool) int32 {
	if t < 0 {
		if pull {
			r.pull(n)
		}
		return n
	}
	switch {
	case r.nodes[n].weight > r.nodes[t].weight:
		r.nodes[n].left, r.nodes[n].right = r.split(t, n, pull)
		t = n
	case r.before(n, t):
		r.nodes[t].left = r.insert(r.nodes[t].left, n, pull)
	default:
		r.nodes[t].right = r.insert(r.nodes[t].right, n, pull)
	}
	if pull {
		r.pull(t)
	}
	return t
}

// split parts a subtree into what comes before a node and what comes after.
func (r *rank) split(t, n int32, pull bool) (before, after int32) {
	if t < 0 {
		return -1, -1
	}
	if r.before(t, n) {
		r.nodes[t].right, after = r.split(r.nodes[t].right, n, pull)
		before = t
	} else {
		before, r.nodes[t].left = r.split(r.nodes[t].left, n, pull)
		after = t
	}
	if pull {
		r.pull(t)
	}
	return before, after
}

func (r *rank) erase(t, n int32) int32 {
	switch {
	case t < 0:
		return t
	case t == n:
		return r.merge(r.nodes[t].left, r.nodes[t].right)
	case r.before(n, t):
		r.nodes[t].left = r.erase(r.nodes[t].left, n)
	default:
		r.nodes[t].right = r.erase(r.nodes[t].right, n)
	}
	r.pull(t)
	return t
}

func (r *rank) merge(a, b int32) int32 {
	switch {
	case a < 0:
		return b
	case b < 0:
		return a
	case r.nodes[a].weight > r.nodes[b].weight:
		r.nodes[a].right = r.merge(r.nodes[a].right, b)
		r.pull(a)
		return a
	}
	r.nodes[b].left = r.merge(a, r.nodes[b].left)
	r.pull(b)
	return b
}

func (r *rank) pullAll(t int32) {
	if t >= 0 {
		r.pullAll(r.nodes[t].left)
		r.pullAll(r.nodes[t].right)
		r.pull(t)
	}
}

// pull renews a node's bounds from its own amounts and those of its children.
func (r *rank) pull(t int32) {
	n, w := &r.nodes[t], r.width
	at := int(t) * w
	n.first = t
	most, least := r.most.all[at:at+w], r.least.all[at:at+w]
	copy(most, r.most.own[at:at+w])
	copy(least, r.least.own[at:at+w])
	for _, child := range [2]int32{n.left, n.right} {
		if child < 0 {
			continue
		}
		n.first = min(n.first, r.nodes[child].first)
		below := int(child) * w
		for i, v := range r.most.all[below : below+w] {
			if v > most[i] {
				most[i] = v
			}
		}
		for i, v := range r.least.all[below : below+w] {
			if v < least[i] {
				least[i] = v
			}
		}
	}
}

// ranking is the best agent so far.
type ranking struct {
	best  *Agent
	share float64
}

// better tells whether a share, at an agent of an id, would be chosen instead.
func (g *ranking) better(pack bool, share float64, id string) bool {
	switch {
	case g.best == nil:
		return true
	case share != g.share:
		return share < g.share != pack
	}
	return id < g.best.ID
}

// search looks below a node for an agent that is better than the best so far.
func (r *rank) search(t int32, wants []want, requested backendai.ResourceSlots, g *ranking) {
	if t < 0 || !may(r.most.all, int(t)*r.width, wants) {
		return
	}
	n := &r.nodes[t]
	if wants != nil && !g.better(r.pack, r.bound(t), r.class.agents[n.first].ID) { // else the request is a strange one: every agent is asked
		return
	}
	near, far := n.left, n.right
	if r.pack {
		near, far = far, near
	}
	r.search(near, wants, requested, g)
	if a := r.class.agents[t]; may(r.most.own, int(t)*r.width, wants) && requested.FitsIn(a.Available, a.Occupied) {
		if share := usedShare(a.Available, a.Occupied, requested); g.better(r.pack, share, a.ID) {
			g.best, g.share = a, share
		}
	}
	r.search(far, wants, requested, g)
}

// bound is no more (spread) or no less (pack) than the share that any agent below a node would have used after placing.
func (r *rank) bound(t int32) (share float64) {
	at := int(t) * r.width
	free, capacity, of := r.most.all[at:at+r.width], r.low, r.high
	if r.pack {
		free, capacity, of = r.least.all[at:at+r.width], r.high, r.low
	}
	for i, c := range capacity {
		if of[i] <= 0 {
			continue
		}
		if v := (c - free[i] + r.wanted[i]) / of[i]; v > share || v != v {
			if share = v; v != v { // no bound at all
				if share = 0; r.pack {
					share = math.Inf(1)
				}
				return share
			}
		}
	}
	return share
}

// want sets the request that bounds are asked for.
func (r *rank) want(requested backendai.ResourceSlots, columns map[backendai.SlotName]int) {
	clear(r.wanted)
	for name, amount := range requested.All() {
		if column, ok := columns[name]; !ok {
			continue
		} else if r.pack {
			r.wanted[column] = upper(amount)
		} else {
			r.wanted[column] = lower(amount)
		}
	}
}

// usedShare is the dominant share that would be used of an agent: the largest of what is occupied and requested in its capacity. Slots of which
// it has none, or no end, do not count.
func usedShare(available, occupied, requested backendai.ResourceSlots) (share float64) {
	for name, capacity := range available.All() {
		if capacity.Sign() <= 0 || !capacity.IsFinite() {
			continue
		}
		if v := amountOf(occupied.Get(name).Add(requested.Get(name))) / amountOf(capacity); v > share {
			share = v
		}
	}
	return share
}

// amountOf is an amount in thousandths, as bounds have it where they are exact.
func amountOf(d backendai.Decimal) float64 {
	if v, ok := thousandths(d); ok {
		return v
	}
	return d.Float64() * 1000
}

// byRank is the agent on which the dominant used share after placing is the smallest, or for pack the largest; ties go by id. nil if nothing fits.
func (x *index) byRank(arch string, requested backendai.ResourceSlots) *Agent {
	s, wants := x.shelfFor(arch, requested)
	if s == nil {
		return nil
	}
	var g ranking
	for _, k := range s.list {
		x.sort(k)
		for _, c := range k.sorted {
			r := x.ranked(c)
			r.want(requested, x.columns)
			r.search(r.root, wants, requested, &g)
		}
	}
	return g.best
}

// ranked makes the rank of a class if it has none that is up to date.
func (x *index) ranked(c *class) *rank {
	if c.rank == nil || c.rank.width != len(x.columns)+1 {
		for i, a := range c.agents {
			a.position = i
		}
		c.rank = newRank(c, x.columns, x.arrangement == byMostUsed)
	}
	return c.rank
}
