package scheduler

import (
	"math"

	backendai "backend.ai/manager"
)

// tree is a segment tree over agents in order of id. Each node holds, per column (a kind of slot), the most that any agent below
// has free and, where asked for, the least that any has occupied: a request that exceeds the former, or wants
// less than the latter, passes the whole subtree by.
//
// Bounds only ever rule out; whether an agent fits is asked of its exact amounts, at the leaf. So a bound may be
// loose (amounts beyond 2^53 thousandths are), but never too tight.
type tree struct {
	agents int
	leaves int // a power of two, at least as many
	width  int
	most   []float64 // node·width + column
	least  []float64 // nil unless the policy looks at occupancy
}

// The column that every request asks 0 of: an agent overdrawn in any slot has −∞ here and fits nothing.
const overdrawn = 0

// want is a request's amount in one column.
type want struct {
	column int
	amount float64
}

func newTree(agents, width int, occupancy bool) *tree {
	leaves := 1
	for leaves < agents {
		leaves *= 2
	}
	t := &tree{agents: agents, leaves: leaves, width: width, most: make([]float64, 2*leaves*width)}
	for i := range t.most {
		t.most[i] = math.Inf(-1)
	}
	if occupancy {
		t.least = make([]float64, len(t.most))
		for i := range t.least {
			t.least[i] = math.Inf(1)
		}
	}
	return t
}

// set writes a leaf without looking at the nodes above it.
func (t *tree) set(pos int, a *Agent, columns map[backendai.SlotName]int) {
	at := (t.leaves + pos) * t.width
	most := t.most[at : at+t.width]
	if !(backendai.ResourceSlots{}).FitsIn(a.Available, a.Occupied) {
		for i := range most {
			most[i] = math.Inf(-1)
		}
	} else {
		clear(most)
		for name, amount := range a.Available.All() {
			most[columns[name]] = upper(amount.Sub(a.Occupied.Get(name)))
		}
		for name, amount := range a.Occupied.All() {
			if _, ok := a.Available.Lookup(name); !ok {
				most[columns[name]] = upper(backendai.Decimal{}.Sub(amount))
			}
		}
	}
	if t.least != nil {
		least := t.least[at : at+t.width]
		clear(least)
		for name, amount := range a.Occupied.All() {
			least[columns[name]] = lower(amount)
		}
	}
}

// climb renews the nodes above a leaf.
func (t *tree) climb(pos int) {
	for node := (t.leaves + pos) / 2; node >= 1; node /= 2 {
		if !t.join(node) {
			return
		}
	}
}

// join renews one node and tells whether it has changed.
func (t *tree) join(node int) (changed bool) {
	w := t.width
	to, l, r := node*w, 2*node*w, (2*node+1)*w
	for i := range w {
		if v := max(t.most[l+i], t.most[r+i]); v != t.most[to+i] {
			t.most[to+i], changed = v, true
		}
	}
	if t.least != nil {
		for i := range w {
			if v := min(t.least[l+i], t.least[r+i]); v != t.least[to+i] {
				t.least[to+i], changed = v, true
			}
		}
	}
	return changed
}

func (t *tree) joinAll() {
	for node := t.leaves - 1; node >= 1; node-- {
		t.join(node)
	}
}

// may tells whether an agent below the node could have all that is wanted.
func (t *tree) may(node int, wants []want) bool {
	return may(t.most, node*t.width, wants)
}

// may tells whether bounds, from a place on, let a request through.
func may(most []float64, at int, wants []want) bool {
	for _, w := range wants {
		if w.amount > most[at+w.column] {
			return false
		}
	}
	return true
}

// mayBeLess tells whether an agent below the node could have less occupied, by the partial order, than what is given by columns.
func (t *tree) mayBeLess(node int, than []float64) bool {
	at, strict := node*t.width, false
	for i, amount := range than {
		switch least := t.least[at+i]; {
		case least > amount:
			return false
		case least < amount:
			strict = true
		}
	}
	return strict
}

// next is the first position ≥ from that the bounds let through and accept takes; −1 if there is none.
func (t *tree) next(from int, wants []want, lessThan []float64, accept func(pos int) bool) int {
	return t.descend(1, 0, t.leaves, from, wants, lessThan, accept)
}

func (t *tree) descend(node, low, high, from int, wants []want, lessThan []float64, accept func(pos int) bool) int {
	if high <= from || low >= t.agents || !t.may(node, wants) || lessThan != nil && !t.mayBeLess(node, lessThan) {
		return -1
	}
	if high-low == 1 {
		if accept(low) {
			return low
		}
		return -1
	}
	middle := (low + high) / 2
	if found := t.descend(2*node, low, middle, from, wants, lessThan, accept); found >= 0 {
		return found
	}
	return t.descend(2*node+1, middle, high, from, wants, lessThan, accept)
}

// exact is the largest whole number up to which float64 holds every one.
const exact = 1 << 53

// slack is what a bound is widened by where a float64 cannot hold the amount.
const slack = 1e-9

// thousandths is an amount as a whole number of thousandths where float64 holds it exactly, as it does nearly always.
func thousandths(d backendai.Decimal) (float64, bool) {
	whole, ok := d.Int64()
	if !ok || whole > exact/1000-1 || whole < -exact/1000+1 {
		return 0, false
	}
	fraction := d.Sub(backendai.DecimalOf(whole))
	if fraction.IsZero() {
		return float64(whole * 1000), true
	}
	part := int64(math.Round(fraction.Float64() * 1000))
	if !fraction.Equal(backendai.DecimalScaled(part, 3)) {
		return 0, false
	}
	return float64(whole*1000 + part), true
}

// upper is no less than the amount; no number at all is taken for anything.
func upper(d backendai.Decimal) float64 { return widened(d, slack, math.Inf(1)) }

// lower is no more than the amount.
func lower(d backendai.Decimal) float64 { return widened(d, -slack, math.Inf(-1)) }

func widened(d backendai.Decimal, by, unknown float64) float64 {
	if v, ok := thousandths(d); ok {
		return v
	}
	f := d.Float64() * 1000
	switch {
	case math.IsNaN(f):
		return unknown
	case math.IsInf(f, 0):
		return f
	}
	return f + math.Copysign(math.Abs(f)*math.Abs(by)+math.Abs(by), by)
}
