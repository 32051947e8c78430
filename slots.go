package backendai

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
)

// SlotName names a countable resource: "cpu", "mem", or "{device}.{kind}" for accelerators ("cuda.shares").
type SlotName string

// The intrinsic slots, known to every cluster.
const (
	CPU SlotName = "cpu"
	Mem SlotName = "mem"
)

// Device is the part before the first dot: "cuda" of "cuda.shares".
func (n SlotName) Device() string { d, _, _ := strings.Cut(string(n), "."); return d }

// SlotType is the unit of a slot.
type SlotType string

const (
	SlotCount  SlotType = "count"  // decimals of three fraction digits
	SlotBytes  SlotType = "bytes"  // bytes, written as sizes
	SlotUnique SlotType = "unique" // treated like count by the manager (spec/scheduling §2.1)
)

// ParseSlotType accepts the exact value. Errors: InvalidArgument.
func ParseSlotType(text string) (SlotType, error) {
	return oneOf("slot type", SlotType(text), []SlotType{SlotCount, SlotBytes, SlotUnique})
}

// GuessSlotType is the type of a slot nobody has declared: bytes when the name contains "mem", else count (spec/scheduling §2.5).
func GuessSlotType(name SlotName) SlotType {
	if strings.Contains(string(name), "mem") {
		return SlotBytes
	}
	return SlotCount
}

// KnownSlots are the slots of a cluster with their types, in order: cpu, mem, then as declared (etcd config/resource_slots, in etcd
// order). The zero value and nil know nothing. Immutable. (spec/scheduling §2.1)
type KnownSlots struct {
	names []SlotName
	types map[SlotName]SlotType
}

// KnownSlot is one declaration.
type KnownSlot struct {
	Name SlotName
	Type SlotType
}

// NewKnownSlots makes the intrinsic slots plus the declared ones; a declaration may override an intrinsic type.
func NewKnownSlots(declared ...KnownSlot) *KnownSlots {
	k := &KnownSlots{types: make(map[SlotName]SlotType, 2+len(declared))}
	for _, d := range append([]KnownSlot{{CPU, SlotCount}, {Mem, SlotBytes}}, declared...) {
		if _, ok := k.types[d.Name]; !ok {
			k.names = append(k.names, d.Name)
		}
		k.types[d.Name] = d.Type
	}
	return k
}

// Type is the declared type.
func (k *KnownSlots) Type(name SlotName) (t SlotType, ok bool) {
	if k == nil {
		return "", false
	}
	t, ok = k.types[name]
	return t, ok
}

// Names in order. The caller must not change the slice.
func (k *KnownSlots) Names() []SlotName {
	if k == nil {
		return nil
	}
	return k.names
}

// slot is one entry of ResourceSlots.
type slot struct {
	name   SlotName
	amount Decimal
}

// ResourceSlots are amounts by slot name: what an agent has, a kernel asks for, a policy grants. Immutable: every operation returns a new
// value, so one may be shared between actors freely. The zero value is empty. A slot that is absent counts as 0 in arithmetic and
// comparison, but is absent in renderings. The order of entries is the order they were given in, as renderings show it.
//
// Comparison is a partial order: neither of {cpu 2, mem 1g} and {cpu 1, mem 2g} is ≤ the other, so !a.LessEq(b) does not mean that
// b ≤ a. (spec/scheduling §2.6)
type ResourceSlots struct {
	items []slot // names distinct; never changed once shared
}

// SlotsOf makes slots from alternating names and amounts, for constants and tests: SlotsOf("cpu", "2", "mem", "1g"). Amounts are read by
// the guessed type. It panics on a malformed list.
func SlotsOf(pairs ...string) ResourceSlots {
	if len(pairs)%2 != 0 {
		panic("SlotsOf: a name without an amount")
	}
	var r ResourceSlots
	for i := 0; i < len(pairs); i += 2 {
		name := SlotName(pairs[i])
		d, err := ParseSlotAmount(pairs[i+1], GuessSlotType(name))
		if err != nil {
			panic(err)
		}
		r.set(name, d)
	}
	return r
}

// CollectSlots makes slots of about n entries from names and amounts, in their order; the last amount of a name counts.
func CollectSlots(n int, entries iter.Seq2[SlotName, Decimal]) ResourceSlots {
	var r ResourceSlots
	if n > 0 {
		r.items = make([]slot, 0, n)
	}
	for name, amount := range entries {
		r.set(name, amount)
	}
	return r
}

// set changes r in place; only for values under construction.
func (r *ResourceSlots) set(name SlotName, d Decimal) {
	for i := range r.items {
		if r.items[i].name == name {
			r.items[i].amount = d
			return
		}
	}
	r.items = append(r.items, slot{name, d})
}

// Lookup returns the amount and whether the slot is present.
func (r ResourceSlots) Lookup(name SlotName) (Decimal, bool) {
	for i := range r.items {
		if r.items[i].name == name {
			return r.items[i].amount, true
		}
	}
	return Decimal{}, false
}

// at is Lookup with a guess of the position, which holds when two values come from the same source.
func (r ResourceSlots) at(hint int, name SlotName) (Decimal, bool) {
	if hint < len(r.items) && r.items[hint].name == name {
		return r.items[hint].amount, true
	}
	return r.Lookup(name)
}

// Get returns the amount, 0 when absent.
func (r ResourceSlots) Get(name SlotName) Decimal { d, _ := r.Lookup(name); return d }

// Len is the number of entries.
func (r ResourceSlots) Len() int { return len(r.items) }

// Names in order.
func (r ResourceSlots) Names() []SlotName {
	names := make([]SlotName, len(r.items))
	for i := range r.items {
		names[i] = r.items[i].name
	}
	return names
}

// All iterates over the entries in order.
func (r ResourceSlots) All() iter.Seq2[SlotName, Decimal] {
	return func(yield func(SlotName, Decimal) bool) {
		for i := range r.items {
			if !yield(r.items[i].name, r.items[i].amount) {
				return
			}
		}
	}
}

// With returns r with one amount set.
func (r ResourceSlots) With(name SlotName, amount Decimal) ResourceSlots {
	c := ResourceSlots{items: slices.Clone(r.items)}
	c.set(name, amount)
	return c
}

// Without returns r without the named slots.
func (r ResourceSlots) Without(names ...SlotName) ResourceSlots {
	return r.filter(func(n SlotName) bool { return !slices.Contains(names, n) })
}

func (r ResourceSlots) filter(keep func(SlotName) bool) ResourceSlots {
	var c ResourceSlots
	for _, s := range r.items {
		if keep(s.name) {
			c.items = append(c.items, s)
		}
	}
	return c
}

// Add returns r + o per slot over the union of names: r's in order, then what only o has.
func (r ResourceSlots) Add(o ResourceSlots) ResourceSlots {
	if len(r.items) == 0 {
		return o
	}
	return r.combine(o, Decimal.Add)
}

// Sub returns r − o per slot over the union of names. Amounts may become negative.
func (r ResourceSlots) Sub(o ResourceSlots) ResourceSlots { return r.combine(o, Decimal.Sub) }

func (r ResourceSlots) combine(o ResourceSlots, op func(a, b Decimal) Decimal) ResourceSlots {
	if len(o.items) == 0 {
		return r
	}
	items := make([]slot, len(r.items), len(r.items)+o.missingIn(r))
	for i, s := range r.items {
		if d, ok := o.at(i, s.name); ok {
			s.amount = op(s.amount, d)
		}
		items[i] = s
	}
	if cap(items) > len(items) {
		for i, s := range o.items {
			if _, ok := r.at(i, s.name); !ok {
				items = append(items, slot{s.name, op(Decimal{}, s.amount)})
			}
		}
	}
	return ResourceSlots{items: items}
}

// missingIn counts the names of o that r lacks.
func (o ResourceSlots) missingIn(r ResourceSlots) (n int) {
	for i := range o.items {
		if _, ok := r.at(i, o.items[i].name); !ok {
			n++
		}
	}
	return n
}

// Sum adds up, in order of first appearance.
func Sum(list ...ResourceSlots) (total ResourceSlots) {
	for _, r := range list {
		total = total.Add(r)
	}
	return total
}

// each calls holds for every slot of the union; false as soon as one does not hold.
func (r ResourceSlots) each(o ResourceSlots, holds func(a, b Decimal) bool) bool {
	for i := range r.items {
		d, _ := o.at(i, r.items[i].name)
		if !holds(r.items[i].amount, d) {
			return false
		}
	}
	for i := range o.items {
		if _, ok := r.at(i, o.items[i].name); !ok && !holds(Decimal{}, o.items[i].amount) {
			return false
		}
	}
	return true
}

// Equal tells whether all amounts are equal by value over the union of names.
func (r ResourceSlots) Equal(o ResourceSlots) bool { return r.each(o, Decimal.Equal) }

// LessEq tells r ≤ o: every amount is.
func (r ResourceSlots) LessEq(o ResourceSlots) bool { return r.each(o, Decimal.LessEq) }

// Less tells r < o: r ≤ o and not equal.
func (r ResourceSlots) Less(o ResourceSlots) bool { return r.LessEq(o) && !r.Equal(o) }

// GreaterEq mirrors LessEq.
func (r ResourceSlots) GreaterEq(o ResourceSlots) bool { return o.LessEq(r) }

// Greater mirrors Less.
func (r ResourceSlots) Greater(o ResourceSlots) bool { return o.Less(r) }

// FitsIn tells r ≤ available − occupied, without building the difference: the scheduler's innermost question.
func (r ResourceSlots) FitsIn(available, occupied ResourceSlots) bool {
	for i := range r.items {
		have, _ := available.at(i, r.items[i].name)
		used, _ := occupied.at(i, r.items[i].name)
		if !r.items[i].amount.LessEq(have.Sub(used)) {
			return false
		}
	}
	// A slot not asked for must not be overdrawn either: 0 ≤ available − occupied (spec/scheduling §2.6).
	for i := range occupied.items {
		name := occupied.items[i].name
		if _, asked := r.at(i, name); asked {
			continue
		}
		have, _ := available.at(i, name)
		if !occupied.items[i].amount.LessEq(have) {
			return false
		}
	}
	for i := range available.items {
		name := available.items[i].name
		if _, asked := r.at(i, name); asked || available.items[i].amount.Sign() >= 0 {
			continue
		}
		if used, _ := occupied.at(i, name); !used.LessEq(available.items[i].amount) {
			return false
		}
	}
	return true
}

// Exceeding lists the slots of the union whose amount is not ≤ limit's: the reasons why r ≤ limit does not hold.
func (r ResourceSlots) Exceeding(limit ResourceSlots) (names []SlotName) {
	for i := range r.items {
		if d, _ := limit.at(i, r.items[i].name); !r.items[i].amount.LessEq(d) {
			names = append(names, r.items[i].name)
		}
	}
	for i := range limit.items {
		if _, ok := r.at(i, limit.items[i].name); !ok && limit.items[i].amount.Sign() < 0 {
			names = append(names, limit.items[i].name)
		}
	}
	return names
}

// IsZero tells whether all amounts are 0.
func (r ResourceSlots) IsZero() bool {
	for i := range r.items {
		if !r.items[i].amount.IsZero() {
			return false
		}
	}
	return true
}

// Normalize drops slots that are not known and adds the missing known ones with 0 (spec/scheduling §2.5).
func (r ResourceSlots) Normalize(known *KnownSlots) ResourceSlots {
	c := r.filter(func(n SlotName) bool { _, ok := known.Type(n); return ok })
	c.fill(known, Decimal{})
	return c
}

// fill adds the missing known slots, in known order.
func (r *ResourceSlots) fill(known *KnownSlots, amount Decimal) {
	for _, n := range known.Names() {
		if _, ok := r.Lookup(n); !ok {
			r.items = append(r.items, slot{n, amount})
		}
	}
}

// Unknown lists the slots that are not known, in order.
func (r ResourceSlots) Unknown(known *KnownSlots) (names []SlotName) {
	for i := range r.items {
		if _, ok := known.Type(r.items[i].name); !ok {
			names = append(names, r.items[i].name)
		}
	}
	return names
}

// String renders for logs: "cpu=2 mem=1073741824".
func (r ResourceSlots) String() string {
	var b []byte
	for i, s := range r.items {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, s.name...), '=')
		b = s.amount.appendText(b)
	}
	return string(b)
}

// MarshalJSON writes a list of [name, type] in order; null knows nothing.
func (k *KnownSlots) MarshalJSON() ([]byte, error) {
	if k == nil || k.types == nil {
		return []byte("null"), nil
	}
	list := make([][2]string, len(k.names))
	for i, name := range k.names {
		list[i] = [2]string{string(name), string(k.types[name])}
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *KnownSlots) UnmarshalJSON(raw []byte) error {
	var list [][2]string
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	declared := make([]KnownSlot, len(list))
	for i, s := range list {
		declared[i] = KnownSlot{SlotName(s[0]), SlotType(s[1])}
	}
	if *k = (KnownSlots{}); list != nil {
		*k = *NewKnownSlots(declared...)
	}
	return nil
}
