package backendai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ParseSlotAmount reads one amount as people write it. Bytes: a size ("4g", "inf", "1073741824"), which is whole. Count and unique: a
// decimal, rounded half to even to three fraction digits, trailing zeros dropped ("0.12345" = 0.123). NaN is refused.
// Errors: InvalidArgument. (spec/scheduling §2.5)
func ParseSlotAmount(text string, t SlotType) (Decimal, error) {
	if t == SlotBytes {
		return ParseBinarySize(text)
	}
	d, err := ParseDecimal(text)
	if err != nil {
		return Decimal{}, err
	}
	return normalizeAmount(d, t)
}

// normalizeAmount applies the unit's rule to a number: bytes stay as they are, counts are quantized.
func normalizeAmount(d Decimal, t SlotType) (Decimal, error) {
	if d.IsNaN() {
		return Decimal{}, Errorf(InvalidArgument, "not a number")
	}
	if t == SlotBytes {
		return d, nil
	}
	q, ok := d.Quantize(3)
	if !ok {
		return Decimal{}, Errorf(InvalidArgument, "the number has too many digits")
	}
	return q, nil
}

// member is one entry of a JSON object in document order; a later duplicate replaces the value of the earlier one.
type member struct {
	name  string
	value any // nil, bool, string, json.Number, or json.RawMessage for nested values
}

// orderedObject decodes a JSON object keeping its order; null is an empty one.
func orderedObject(raw []byte) ([]member, error) {
	malformed := func(err error) ([]member, error) {
		return nil, Errorf(InvalidArgument, "resource slots must be a JSON object").WithCause(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	switch open, err := dec.Token(); {
	case err != nil:
		return malformed(err)
	case open == nil:
		return nil, nil
	case open != json.Delim('{'):
		return malformed(nil)
	}
	var list []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return malformed(err)
		}
		var v any
		if err := dec.Decode(&v); err != nil {
			return malformed(err)
		}
		m := member{key.(string), v}
		if i := slices.IndexFunc(list, func(o member) bool { return o.name == m.name }); i >= 0 {
			list[i] = m
		} else {
			list = append(list, m)
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed(err)
	}
	return list, nil
}

// SlotsFromUser reads slots from a request's JSON object: values are strings or numbers, nulls are skipped, a name that is not known is
// refused, and every known slot that is missing becomes 0. With known == nil types are guessed and nothing is filled. Fractional
// JSON numbers are refused for byte slots. Errors: InvalidArgument. (spec/scheduling §2.5, spec/database §3.3)
func SlotsFromUser(raw []byte, known *KnownSlots) (ResourceSlots, error) {
	list, err := orderedObject(raw)
	if err != nil {
		return ResourceSlots{}, err
	}
	return slotsFromMembers(list, known)
}

// SlotsFromUserMap is SlotsFromUser for decoded values (GraphQL variables, msgpack); names are taken in sorted order.
func SlotsFromUserMap[K ~string](object map[K]any, known *KnownSlots) (ResourceSlots, error) {
	list := make([]member, 0, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		list = append(list, member{string(name), object[name]})
	}
	return slotsFromMembers(list, known)
}

func slotsFromMembers(list []member, known *KnownSlots) (r ResourceSlots, err error) {
	for _, m := range list {
		name := SlotName(m.name)
		t, ok := known.Type(name)
		if !ok {
			if known != nil {
				return ResourceSlots{}, Errorf(InvalidArgument, "unit unknown for slot %s", Repr(clip(m.name)))
			}
			t = GuessSlotType(name)
		}
		if m.value == nil {
			continue
		}
		d, err := amountFromUser(m.value, t)
		if err != nil {
			return ResourceSlots{}, Errorf(InvalidArgument, "cannot convert to decimal: slot %s: %s", Repr(clip(m.name)), *AsError(err).Message)
		}
		r.set(name, d)
	}
	r.fill(known, Decimal{})
	return r, nil
}

func amountFromUser(v any, t SlotType) (Decimal, error) {
	switch x := v.(type) {
	case string:
		return ParseSlotAmount(x, t)
	case Decimal:
		return normalizeAmount(x, t)
	case json.Number:
		if t == SlotBytes && strings.ContainsAny(x.String(), ".eE") {
			return Decimal{}, Errorf(InvalidArgument, "a size must be a whole number of bytes or a text")
		}
		return ParseSlotAmount(x.String(), t)
	case float64:
		if t == SlotBytes && x != math.Trunc(x) {
			return Decimal{}, Errorf(InvalidArgument, "a size must be a whole number of bytes or a text")
		}
		return ParseSlotAmount(strconv.FormatFloat(x, 'f', -1, 64), t)
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return ParseSlotAmount(fmt.Sprint(x), t)
	}
	return Decimal{}, Errorf(InvalidArgument, "an amount must be a string or a number")
}

// SlotsFromPolicy reads what a policy grants: total_resource_slots without unknown slots, each known slot that is missing filled with 0
// (LIMITED) or Infinity (UNLIMITED). Errors: InvalidArgument. (spec/scheduling §2.5)
func SlotsFromPolicy(total ResourceSlots, missing DefaultForUnspecified, known *KnownSlots) (r ResourceSlots, err error) {
	for _, s := range total.items {
		t, ok := known.Type(s.name)
		if !ok {
			continue
		}
		d, err := normalizeAmount(s.amount, t)
		if err != nil {
			return ResourceSlots{}, err
		}
		r.items = append(r.items, slot{s.name, d})
	}
	fill := Decimal{}
	if missing == Unlimited {
		fill = Infinity()
	}
	r.fill(known, fill)
	return r, nil
}

// MarshalJSON renders the form of rows and of the agent protocol: an object of plain-notation strings, trailing zeros as they are
// (spec/scheduling §2.2). It is also what pgx writes to a jsonb column.
func (r ResourceSlots) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, s := range r.items {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(string(s.name))
		if err != nil {
			return nil, err
		}
		b = append(append(b, name...), ':', '"')
		b = append(s.amount.appendText(b), '"')
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads a row: strings or numbers; nulls are dropped; a "mem" that is not a plain number is a size (rows of old versions:
// "4g"). SQL NULL and JSON null are empty. Errors: InvalidArgument. (spec/database §3.3)
func (r *ResourceSlots) UnmarshalJSON(raw []byte) error {
	list, err := orderedObject(raw)
	if err != nil {
		return err
	}
	var c ResourceSlots
	for _, m := range list {
		var text string
		switch x := m.value.(type) {
		case nil:
			continue
		case string:
			text = x
		case json.Number:
			text = x.String()
		default:
			return Errorf(InvalidArgument, "slot %s: an amount must be a string or a number", Repr(clip(m.name)))
		}
		d, err := ParseDecimal(text)
		if err != nil && SlotName(m.name) == Mem {
			d, err = ParseBinarySize(text)
		}
		if err != nil {
			return err
		}
		c.items = append(c.items, slot{SlotName(m.name), d})
	}
	*r = c
	return nil
}

// Scan reads a jsonb column; SQL NULL is empty, like JSON null. It implements sql.Scanner. Errors: InvalidArgument.
func (r *ResourceSlots) Scan(column any) error {
	switch x := column.(type) {
	case nil:
		*r = ResourceSlots{}
		return nil
	case string:
		return r.UnmarshalJSON([]byte(x))
	case []byte:
		return r.UnmarshalJSON(x)
	}
	return Errorf(InvalidArgument, "resource slots cannot be read from a %T column", column)
}

// Strings is the form of the agent protocol and GraphQL: amounts as plain-notation text.
func (r ResourceSlots) Strings() map[string]string {
	m := make(map[string]string, len(r.items))
	for _, s := range r.items {
		m[string(s.name)] = s.amount.String()
	}
	return m
}

// SlotText is one entry of a rendering for people.
type SlotText struct {
	Name SlotName
	Text string
}

// SlotTexts is a rendering for people; as JSON it is an object in the same order.
type SlotTexts []SlotText

// MarshalJSON renders an object in order.
func (t SlotTexts) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, s := range t {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, string(s.Name)), ':')
		b = strconv.AppendQuote(b, s.Text)
	}
	return append(b, '}'), nil
}

// String renders "cpu=2 mem=1g".
func (t SlotTexts) String() string {
	parts := make([]string, len(t))
	for i, s := range t {
		parts[i] = string(s.Name) + "=" + s.Text
	}
	return strings.Join(parts, " ")
}

// Humanized renders sizes in the short form ("1.5g"), other amounts plainly; Infinity stays "Infinity". Slots that are not known are
// rendered by their guessed type. (spec/scheduling §2.5)
func (r ResourceSlots) Humanized(known *KnownSlots) SlotTexts {
	texts := make(SlotTexts, len(r.items))
	for i, s := range r.items {
		t, ok := known.Type(s.name)
		if !ok {
			t = GuessSlotType(s.name)
		}
		text := s.amount.String()
		if t == SlotBytes {
			text = s.amount.HumanSize()
		}
		texts[i] = SlotText{s.name, text}
	}
	return texts
}
