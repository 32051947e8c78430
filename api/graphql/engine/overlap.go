package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// overlaps finds fields with the same key that can't be merged, in every selection set of a document. Each pair is compared, and most bounds
// how many: a query of a few kilobytes could ask for billions.
func (v *validation) overlaps(doc *ast.QueryDocument, most int) {
	o := &overlap{validation: v, left: most, most: most, sets: map[*ast.Selection]map[string][]*ast.Field{}}
	for _, op := range doc.Operations {
		o.within(op.SelectionSet)
	}
	for _, f := range doc.Fragments {
		o.within(f.SelectionSet)
	}
}

type overlap struct {
	*validation
	left, most int
	sets       map[*ast.Selection]map[string][]*ast.Field // of what was collected, by a set's first selection
}

// within compares the fields of one selection set, and of all below it.
func (o *overlap) within(set ast.SelectionSet) {
	fields := o.fields(set)
	for _, key := range sortedByPlace(fields) {
		list := fields[key]
		for i, a := range list {
			for _, b := range list[i+1:] {
				if reasons, places := o.conflict(a, b, false); len(reasons) > 0 {
					o.add(places, "Fields %q conflict because %s. Use different aliases on the fields to fetch both if this was intentional.", key, strings.Join(reasons, " and "))
				}
				if o.left < 0 {
					return
				}
			}
		}
	}
	o.below(set)
}

func (o *overlap) below(set ast.SelectionSet) {
	for _, sel := range set {
		if o.left < 0 {
			return
		}
		switch sel := sel.(type) {
		case *ast.Field:
			o.within(sel.SelectionSet)
		case *ast.InlineFragment:
			o.below(sel.SelectionSet)
		}
	}
}

// conflict tells why two fields with the same key can't be merged. apart: they belong to different types, so that only one of them is ever
// there.
func (o *overlap) conflict(a, b *ast.Field, apart bool) (reasons []string, places []Location) {
	if a == b {
		return nil, nil
	}
	if o.left--; o.left <= 0 {
		if o.left == 0 {
			o.left = -1
			o.add(at(a.Position), "Overlapping field validation aborted after examining %d pairs (limit %d). Consider restructuring the query or increasing the limit.", o.most, o.most)
		}
		return nil, nil
	}
	here := at(a.Position, b.Position)
	if a.Definition != nil && b.Definition != nil && !o.sameShape(a.Definition.Type, b.Definition.Type) {
		return []string{fmt.Sprintf("they return conflicting types %q and %q", a.Definition.Type, b.Definition.Type)}, here
	}
	p, q := a.ObjectDefinition, b.ObjectDefinition
	apart = apart || p != nil && q != nil && p != q && p.Kind == ast.Object && q.Kind == ast.Object
	if !apart {
		if a.Name != b.Name {
			return []string{fmt.Sprintf("%q and %q are different fields", a.Name, b.Name)}, here
		}
		if !sameArguments(a.Arguments, b.Arguments) {
			return []string{"they have differing arguments"}, here
		}
	}
	inA, inB := o.fields(a.SelectionSet), o.fields(b.SelectionSet)
	for _, key := range sortedByPlace(inA) {
		for _, x := range inA[key] {
			for _, y := range inB[key] {
				why, where := o.conflict(x, y, apart)
				for _, r := range why {
					reasons = append(reasons, fmt.Sprintf("subfields %q conflict because %s", key, r))
				}
				places = append(places, where...)
			}
		}
	}
	if reasons != nil {
		places = append(places, here...)
	}
	return reasons, places
}

// fields are those of a set by key, fragments dissolved.
func (o *overlap) fields(set ast.SelectionSet) map[string][]*ast.Field {
	if len(set) == 0 {
		return nil
	}
	if known := o.sets[&set[0]]; known != nil {
		return known
	}
	fields := map[string][]*ast.Field{}
	inside := map[string]bool{}
	var collect func(ast.SelectionSet)
	collect = func(set ast.SelectionSet) {
		for _, sel := range set {
			switch sel := sel.(type) {
			case *ast.Field:
				fields[sel.Alias] = append(fields[sel.Alias], sel)
			case *ast.InlineFragment:
				collect(sel.SelectionSet)
			case *ast.FragmentSpread:
				if sel.Definition != nil && !inside[sel.Name] { // twice the same fragment adds nothing
					inside[sel.Name] = true
					collect(sel.Definition.SelectionSet)
				}
			}
		}
	}
	collect(set)
	o.sets[&set[0]] = fields
	return fields
}

// sortedByPlace are the keys by where they come first in the text.
func sortedByPlace(fields map[string][]*ast.Field) []string {
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return fields[a][0].Position.Start - fields[b][0].Position.Start })
	return keys
}

// sameShape tells whether values of two types look alike: the same scalar in the same lists, or objects, whose fields are compared instead.
func (o *overlap) sameShape(a, b *ast.Type) bool {
	if a.NonNull != b.NonNull || (a.Elem == nil) != (b.Elem == nil) {
		return false
	}
	if a.Elem != nil {
		return o.sameShape(a.Elem, b.Elem)
	}
	return a.NamedType == b.NamedType || !o.schema.Types[a.NamedType].IsLeafType() && !o.schema.Types[b.NamedType].IsLeafType()
}

func sameArguments(a, b ast.ArgumentList) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		y := b.ForName(x.Name)
		if y == nil || x.Value.Kind != y.Value.Kind || x.Value.String() != y.Value.String() {
			return false
		}
	}
	return true
}
