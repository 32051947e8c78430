package scheduler

import (
	"maps"
	"slices"
	"strings"

	backendai "backend.ai/manager"
)

// arrangement is how a policy needs the agents to be sorted.
type arrangement uint8

const (
	byKinds     arrangement = iota + 1 // fifo, lifo: first by which slots an agent has at all, then by how much
	byCapacity                         // drf: by how much
	byOccupancy                        // mof: all together; what is taken changes too often to sort by it
	byLeastUsed                        // to spread: by how much, and in each class by what is used
	byMostUsed                         // to pack: the same from the other end
)

// index finds the agent that a policy would choose from all candidates (agents that are alive and schedulable) without
// looking at each:
//
//	architecture ─▶ kind (the set of slots it has) ─▶ class (identical capacity) ─▶ tree of agents by id
//
// That it suffices to know the first fitting agent of each class: the original takes a running maximum over the
// agents in order of id, where a later one replaces the best only when strictly better, and agents of one class are equal in
// all that counts. The order is transitive, so whatever has beaten (or held out against) the first of a class does so against its others.
type index struct {
	arrangement arrangement
	columns     map[backendai.SlotName]int
	archs       map[string]*shelf
	// total is the sum of the candidates' capacities, nil when it has to be added up again; totals counts its values.
	total  *backendai.ResourceSlots
	totals uint64
	wants  []want   // scratch
	found  []*Agent // scratch
}

// shelf holds the candidates of one architecture.
type shelf struct {
	candidates int
	kinds      map[string]*kind
	list       []*kind
}

// kind holds candidates whose positive slots are the same, so that a request leaves as many of them unused on each.
type kind struct {
	name    string
	sample  backendai.ResourceSlots // of any: all have the same slots
	classes map[string]*class
	// sorted has larger capacities before smaller ones (a linear extension of the partial order); above[i] is, slot by slot,
	// the largest capacity of sorted[i:]. Both are nil when classes came or went.
	sorted []*class
	above  []backendai.ResourceSlots
}

// class holds candidates of identical capacity in order of id.
type class struct {
	kind      *kind
	key       string
	available backendai.ResourceSlots
	agents    []*Agent
	tree      *tree // nil when agents came or went
	rank      *rank // the same, where placement goes by what is used
}

func newIndex() *index {
	return &index{columns: make(map[backendai.SlotName]int), archs: make(map[string]*shelf)}
}

// arrange sorts the agents anew when the policy wants them differently.
func (x *index) arrange(how arrangement) {
	if x.arrangement == how {
		return
	}
	var all []*Agent
	for _, s := range x.archs {
		for _, k := range s.list {
			for _, c := range k.classes {
				all = append(all, c.agents...)
			}
		}
	}
	x.arrangement = how
	clear(x.archs)
	for _, a := range all {
		a.class = nil
		x.put(a)
	}
}

// put takes an agent in that is not in the index.
func (x *index) put(a *Agent) {
	x.total = nil
	x.name(a)
	s := x.archs[a.Architecture]
	if s == nil {
		s = &shelf{kinds: make(map[string]*kind)}
		x.archs[a.Architecture] = s
	}
	s.candidates++
	name, key := x.names(a)
	k := s.kinds[name]
	if k == nil {
		k = &kind{name: name, classes: make(map[string]*class), sample: a.Available}
		s.kinds[name] = k
		s.list = append(s.list, k)
	}
	c := k.classes[key]
	if c == nil {
		c = &class{kind: k, key: key, available: a.Available}
		k.classes[key] = c
		k.sorted, k.above = nil, nil
	}
	at, _ := slices.BinarySearchFunc(c.agents, a, compareID)
	c.agents = slices.Insert(c.agents, at, a)
	c.tree, c.rank, a.class = nil, nil, c
}

func compareID(a, b *Agent) int { return strings.Compare(a.ID, b.ID) }

// names are those of the kind and the class an agent belongs to.
func (x *index) names(a *Agent) (kind, class string) {
	if x.arrangement == byOccupancy {
		return "", ""
	}
	if x.arrangement == byKinds {
		var positive []string
		for name, amount := range a.Available.All() {
			if amount.Sign() > 0 {
				positive = append(positive, string(name))
			}
		}
		slices.Sort(positive)
		kind = strings.Join(positive, "\n")
	}
	return kind, canonical(a.Available)
}

// canonical is a text that equal slots share: in order of names, without zeros and trailing zeros.
func canonical(s backendai.ResourceSlots) string {
	names := s.Names()
	slices.Sort(names)
	var b []byte
	for _, name := range names {
		if amount := s.Get(name); !amount.IsZero() {
			text, _ := amount.Normalize().MarshalText()
			b = append(append(append(append(b, name...), '='), text...), '\n')
		}
	}
	return string(b)
}

// take removes an agent; harmless when it is not in the index. It must still be as it was put.
func (x *index) take(a *Agent) {
	c := a.class
	if c == nil {
		return
	}
	x.total, a.class = nil, nil
	at, _ := slices.BinarySearchFunc(c.agents, a, compareID)
	c.agents = slices.Delete(c.agents, at, at+1)
	c.tree, c.rank = nil, nil
	s := x.archs[a.Architecture]
	s.candidates--
	if len(c.agents) > 0 {
		return
	}
	k := c.kind
	delete(k.classes, c.key)
	k.sorted, k.above = nil, nil
	if len(k.classes) == 0 {
		delete(s.kinds, k.name)
		s.list = slices.DeleteFunc(s.list, func(o *kind) bool { return o == k })
	}
}

// changed takes in what an agent has occupied now.
func (x *index) changed(a *Agent) {
	c := a.class
	if c == nil || c.tree == nil && c.rank == nil {
		return
	}
	if x.name(a) {
		c.tree, c.rank = nil, nil
		return
	}
	if c.rank != nil && c.rank.width == len(x.columns)+1 {
		c.rank.move(a.position, a, x.columns)
	} else {
		c.rank = nil
	}
	if c.tree == nil {
		return
	}
	if c.tree.width != len(x.columns)+1 {
		c.tree = nil
		return
	}
	pos := a.position
	c.tree.set(pos, a, x.columns)
	c.tree.climb(pos)
}

// name gives a column to every slot of an agent and tells whether any is new.
func (x *index) name(a *Agent) (added bool) {
	for name := range a.Available.All() {
		added = x.column(name) || added
	}
	for name := range a.Occupied.All() {
		added = x.column(name) || added
	}
	return added
}

func (x *index) column(name backendai.SlotName) (added bool) {
	if _, ok := x.columns[name]; ok {
		return false
	}
	x.columns[name] = len(x.columns) + 1 // column 0 is overdrawn
	return true
}

// ready makes the tree of a class if it has none that is up to date.
func (x *index) ready(c *class) *tree {
	if c.tree != nil && c.tree.width == len(x.columns)+1 {
		return c.tree
	}
	for i, a := range c.agents {
		a.position = i
	}
	c.tree = newTree(len(c.agents), len(x.columns)+1, x.arrangement == byOccupancy)
	for i, a := range c.agents {
		c.tree.set(i, a, x.columns)
	}
	c.tree.joinAll()
	return c.tree
}

// demand is what a request wants by columns. Empty for amounts that bounds cannot deal with (negative, or no
// number): then every agent is asked.
func (x *index) demand(requested backendai.ResourceSlots) (wants []want, possible bool) {
	x.wants = append(x.wants[:0], want{overdrawn, 0})
	for name, amount := range requested.All() {
		if amount.IsNaN() || amount.Sign() < 0 {
			return nil, true
		}
		if amount.IsZero() {
			continue
		}
		column, ok := x.columns[name]
		if !ok {
			return nil, false // no agent has ever had any
		}
		x.wants = append(x.wants, want{column, lower(amount)})
	}
	return x.wants, true
}

// has tells whether there is any candidate of an architecture.
func (x *index) has(arch string) bool { s := x.archs[arch]; return s != nil && s.candidates > 0 }

// shelfFor is where agents for a request are, and what it wants of them; nil if there can be none.
func (x *index) shelfFor(arch string, requested backendai.ResourceSlots) (*shelf, []want) {
	s := x.archs[arch]
	if s == nil {
		return nil, nil
	}
	wants, possible := x.demand(requested)
	if !possible {
		return nil, nil
	}
	return s, wants
}

// best is the running maximum of the original over the fitting candidates: by the fewest kinds of slots left unused if the agents
// are sorted by kinds, then by capacity. nil if nothing fits.
func (x *index) best(arch string, requested backendai.ResourceSlots) *Agent {
	s, wants := x.shelfFor(arch, requested)
	if s == nil {
		return nil
	}
	x.found = x.found[:0]
	least, tied := -1, 0
	for done := -1; ; done = least { // level by level of unused kinds
		least, tied = -1, 0
		var only *kind
		for _, k := range s.list {
			switch n := x.extras(k, requested); {
			case n <= done:
			case least < 0 || n < least:
				least, tied, only = n, 1, k
			case n == least:
				tied++
			}
		}
		if least < 0 {
			return nil
		}
		if tied == 1 {
			x.gather(only, wants, requested, true)
		} else {
			for _, k := range s.list {
				if x.extras(k, requested) == least {
					x.gather(k, wants, requested, false)
				}
			}
		}
		if len(x.found) > 0 {
			break
		}
	}
	slices.SortFunc(x.found, compareID)
	best := x.found[0]
	for _, a := range x.found[1:] {
		if a.Available.Greater(best.Available) {
			best = a
		}
	}
	return best
}

// extras is how many of a kind's slots a request leaves unused.
func (x *index) extras(k *kind, requested backendai.ResourceSlots) int {
	if x.arrangement != byKinds {
		return 0
	}
	return extraSlots(k.sample, requested)
}

// gather adds the first fitting agent of each class of a kind. Where no other kind competes, the first class that is at least as
// large as all after it ends the search: it would replace, or hold out against, any of them.
func (x *index) gather(k *kind, wants []want, requested backendai.ResourceSlots, alone bool) {
	x.sort(k)
	for i, c := range k.sorted {
		t := x.ready(c)
		if !t.may(1, wants) {
			continue
		}
		pos := t.next(0, wants, nil, func(pos int) bool { return requested.FitsIn(c.agents[pos].Available, c.agents[pos].Occupied) })
		if pos < 0 {
			continue
		}
		x.found = append(x.found, c.agents[pos])
		if alone && len(x.found) == 1 && (i+1 == len(k.sorted) || k.above[i+1].LessEq(c.available)) {
			return
		}
	}
}

func (x *index) sort(k *kind) {
	if k.sorted != nil {
		return
	}
	k.sorted = slices.Collect(maps.Values(k.classes))
	names := slices.Sorted(maps.Keys(x.columns))
	slices.SortFunc(k.sorted, func(a, b *class) int {
		for _, name := range names {
			if order, _ := b.available.Get(name).Cmp(a.available.Get(name)); order != 0 {
				return order
			}
		}
		return strings.Compare(a.key, b.key)
	})
	k.above = make([]backendai.ResourceSlots, len(k.sorted))
	for i := len(k.sorted) - 1; i >= 0; i-- {
		k.above[i] = k.sorted[i].available
		if i+1 < len(k.sorted) {
			k.above[i] = larger(k.above[i+1], k.sorted[i].available)
		}
	}
}

// larger is the larger amount of each slot; what is no number stays, and compares with nothing.
func larger(a, b backendai.ResourceSlots) backendai.ResourceSlots {
	for name, amount := range b.All() {
		if have := a.Get(name); !amount.LessEq(have) && !have.IsNaN() {
			a = a.With(name, amount)
		}
	}
	return a
}

// leastOccupied is the original's running minimum by what is taken, over the fitting candidates in order of id.
func (x *index) leastOccupied(arch string, requested backendai.ResourceSlots) (best *Agent) {
	s := x.archs[arch]
	if s == nil || s.candidates == 0 {
		return nil
	}
	c := s.list[0].classes[""]
	t := x.ready(c)
	wants, possible := x.demand(requested)
	if !possible {
		return nil
	}
	var lessThan []float64
	accept := func(pos int) bool {
		a := c.agents[pos]
		return requested.FitsIn(a.Available, a.Occupied) && (best == nil || a.Occupied.Less(best.Occupied))
	}
	for pos := t.next(0, wants, nil, accept); pos >= 0; pos = t.next(pos+1, wants, lessThan, accept) {
		best = c.agents[pos]
		if lessThan == nil {
			lessThan = make([]float64, t.width)
		}
		clear(lessThan)
		for name, amount := range best.Occupied.All() {
			lessThan[x.columns[name]] = upper(amount)
		}
		lessThan[overdrawn] = 0
	}
	return best
}

// capacity is the sum of all candidates' capacities.
func (x *index) capacity(agents map[string]*Agent, order []string) backendai.ResourceSlots {
	if x.total == nil {
		var total backendai.ResourceSlots
		for _, id := range order {
			if a := agents[id]; a.candidate() {
				total = total.Add(a.Available)
			}
		}
		x.total = &total
		x.totals++
	}
	return *x.total
}
