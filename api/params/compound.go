package params

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Nullable is "T|null": null gives nil. The complaint of a wrong value names both alternatives.
func Nullable[T any](t Type[T]) Type[*T] {
	return func(raw any) (*T, Complaint) {
		if raw == nil {
			return nil, nil
		}
		v, c := t(raw)
		if c != nil {
			return nil, map[string]any{"0": "value should be None", "1": c}
		}
		return &v, nil
	}
}

// Else is "T|null" whose null gives a value: for lists and maps, where nil and empty mean the same.
func Else[T any](ifNull T, t Type[T]) Type[T] {
	n := Nullable(t)
	return func(raw any) (T, Complaint) {
		v, c := n(raw)
		if v == nil {
			return ifNull, c
		}
		return *v, nil
	}
}

// Or is the first alternative that accepts; complaints are numbered in the order of the alternatives.
func Or[T any](alternatives ...Type[T]) Type[T] {
	return func(raw any) (T, Complaint) {
		complaints := make(map[string]any, len(alternatives))
		for i, t := range alternatives {
			v, c := t(raw)
			if c == nil {
				return v, nil
			}
			complaints[strconv.Itoa(i)] = c
		}
		var none T
		return none, complaints
	}
}

// To converts what a type accepts, so that alternatives of different types can meet in one.
func To[A, B any](t Type[A], convert func(A) B) Type[B] {
	return func(raw any) (B, Complaint) {
		v, c := t(raw)
		if c != nil {
			var none B
			return none, c
		}
		return convert(v), nil
	}
}

// Check adds a rule to a type; it returns the complaint.
func Check[T any](t Type[T], rule func(T) Complaint) Type[T] {
	return func(raw any) (T, Complaint) {
		v, c := t(raw)
		if c == nil {
			c = rule(v)
		}
		return v, c
	}
}

// List is an array whose items are all of a type; complaints are keyed by index.
func List[T any](t Type[T]) Type[[]T] {
	return func(raw any) ([]T, Complaint) {
		items, ok := raw.([]any)
		if !ok {
			return nil, "value is not a list"
		}
		list := make([]T, 0, len(items))
		var complaints map[string]any
		for i, item := range items {
			v, c := t(item)
			if c != nil {
				if complaints == nil {
					complaints = map[string]any{}
				}
				complaints[strconv.Itoa(i)] = c
			}
			list = append(list, v)
		}
		if complaints != nil {
			return nil, complaints
		}
		return list, nil
	}
}

// ListOf is List with a least number of items.
func ListOf[T any](least int, t Type[T]) Type[[]T] {
	return Check(List(t), func(v []T) Complaint {
		if len(v) < least {
			return fmt.Sprintf("list length is less than %d", least)
		}
		return nil
	})
}

// Map is an object whose values are all of a type; complaints are keyed by key.
func Map[T any](t Type[T]) Type[map[string]T] {
	return func(raw any) (map[string]T, Complaint) {
		entries, ok := raw.(map[string]any)
		if !ok {
			return nil, "value is not a dict"
		}
		m := make(map[string]T, len(entries))
		var complaints map[string]any
		for k, entry := range entries {
			v, c := t(entry)
			if c != nil {
				if complaints == nil {
					complaints = map[string]any{}
				}
				complaints[k] = map[string]any{"value": c}
			}
			m[k] = v
		}
		if complaints != nil {
			return nil, complaints
		}
		return m, nil
	}
}

// Dict is an object of anything.
func Dict(raw any) (map[string]any, Complaint) {
	m, ok := raw.(map[string]any)
	if !ok {
		return nil, "value is not a dict"
	}
	return m, nil
}

// Object is an object with parameters of its own. Complaints are those of its parameters, by name.
func Object[T any](fill func(*T, *Binder)) Type[T] {
	return func(raw any) (T, Complaint) {
		values, ok := raw.(map[string]any)
		if !ok {
			var none T
			return none, "value is not a dict"
		}
		v, complaints := bind(values, fill)
		if complaints != nil {
			return v, complaints
		}
		return v, nil
	}
}

// JSON is a text that holds JSON of a type.
func JSON[T any](t Type[T]) Type[T] {
	return func(raw any) (T, Complaint) {
		var none T
		s, ok := raw.(string)
		if !ok {
			return none, "value is not a valid JSON string"
		}
		v, err := parseJSON([]byte(s))
		if err != nil {
			return none, "value is not a valid JSON string"
		}
		return t(v)
	}
}

// Raw is any value as JSON, for what is stored or handed on untouched.
func Raw(raw any) (json.RawMessage, Complaint) {
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, "value is not a valid JSON value"
	}
	return text, nil
}
