package graphql

import (
	"context"
	"slices"
	"strings"

	"backend.ai/manager/api/graphql/engine"
)

// fields are the names selected below something: "id", "containers", "containers.id".
type fields []string

// selected are the fields below the resolver that runs.
func selected(ctx context.Context) fields { return engine.Selected(ctx) }

// below are the fields selected below one of them.
func (f fields) below(name string) fields {
	var list fields
	for _, path := range f {
		if rest, ok := strings.CutPrefix(path, name+"."); ok {
			list = append(list, rest)
		}
	}
	return list
}

// has tells whether one of the fields is selected.
func (f fields) has(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(f, n) })
}

// own are the fields of the object itself, with what has to be read for some of them: needs has the columns that a
// field is made of.
func (f fields) own(needs map[string][]string) []string {
	var list []string
	add := func(name string) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, path := range f {
		if strings.ContainsRune(path, '.') {
			continue
		}
		columns, ok := needs[path]
		if !ok {
			add(path)
		}
		for _, c := range columns {
			add(c)
		}
	}
	return list
}
