package params

import (
	"maps"

	backendai "backend.ai/manager"
)

// Complaint is what is wrong with a value: a string, or a map[string]any of complaints about its parts. Nil = nothing.
type Complaint any

// Type checks and converts a raw value: a string, bool, json.Number, nil, []any or map[string]any.
type Type[T any] func(raw any) (T, Complaint)

// Binder fills one struct from values.
type Binder struct {
	values     Values
	complaints map[string]any
	asked      map[string]struct{}
	extra      bool
}

// Bind fills a T. Errors: InvalidAPIParameters "Input validation error" with all complaints as data (spec/rest-core §4).
func Bind[T any](values Values, fill func(*T, *Binder)) (T, error) {
	v, complaint := bind(values, fill)
	if complaint != nil {
		return v, backendai.InvalidParameters("Input validation error", complaint)
	}
	return v, nil
}

func bind[T any](values Values, fill func(*T, *Binder)) (T, map[string]any) {
	var v T
	b := Binder{values: values, asked: make(map[string]struct{}, 8)}
	fill(&v, &b)
	if !b.extra {
		for key := range values {
			if _, asked := b.asked[key]; !asked {
				b.Complain(key, key+" is not allowed key")
			}
		}
	}
	return v, b.complaints
}

// Complain adds a complaint about a parameter, for rules between parameters. The first one about a parameter stays.
func (b *Binder) Complain(name string, c Complaint) {
	if b.complaints == nil {
		b.complaints = map[string]any{}
	}
	if _, there := b.complaints[name]; !there {
		b.complaints[name] = c
	}
}

// AllowExtra accepts parameters that no line asks for; Extra has them.
func (b *Binder) AllowExtra() { b.extra = true }

// Extra are the parameters that no line before this call asked for.
func (b *Binder) Extra() Values {
	rest := maps.Clone(b.values)
	maps.DeleteFunc(rest, func(key string, _ any) bool { _, asked := b.asked[key]; return asked })
	return rest
}

// find gives the first alias that is there.
func (b *Binder) find(names []string) (name string, raw any, there bool) {
	for _, n := range names {
		b.asked[n] = struct{}{}
		if v, ok := b.values[n]; ok && !there {
			name, raw, there = n, v, true
		}
	}
	return name, raw, there
}

// Need binds a parameter that must be there. names: the primary one, then aliases.
func Need[T any](b *Binder, into *T, t Type[T], names ...string) {
	if !assign(b, into, t, names) {
		b.Complain(names[0], "is required")
	}
}

// Opt binds a parameter that may be left out. An explicit null is a value like any other: see Maybe and Nullable.
func Opt[T any](b *Binder, into *T, ifAbsent T, t Type[T], names ...string) {
	if !assign(b, into, t, names) {
		*into = ifAbsent
	}
}

// Maybe binds a parameter that may be left out or null: "T|null = null".
func Maybe[T any](b *Binder, into **T, t Type[T], names ...string) {
	Opt(b, into, nil, Nullable(t), names...)
}

func assign[T any](b *Binder, into *T, t Type[T], names []string) bool {
	name, raw, there := b.find(names)
	if !there {
		return false
	}
	v, complaint := t(raw)
	if complaint != nil {
		b.Complain(name, complaint)
		return true
	}
	*into = v
	return true
}

// Sent tells whether any of the names was sent, for defaults that depend on that.
func (b *Binder) Sent(names ...string) bool { _, _, there := b.find(names); return there }
