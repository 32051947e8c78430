package engine

import (
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
)

// measure refuses documents that are too deep or expand to too much, before anything is spent on them.
func (s *Schema) measure(doc *ast.QueryDocument) []Problem {
	m := &measurer{limits: s.limits, fragments: fragmentsOf(doc), inside: map[string]bool{}}
	for _, op := range doc.Operations {
		m.set(op.SelectionSet, 1)
	}
	for _, f := range doc.Fragments { // validation looks at each on its own
		m.set(f.SelectionSet, 1)
	}
	if m.selections > s.limits.Selections {
		return []Problem{{Message: fmt.Sprintf("query expands to too many selections (limit %d)", s.limits.Selections)}}
	}
	return m.problems
}

func fragmentsOf(doc *ast.QueryDocument) map[string]*ast.FragmentDefinition {
	byName := make(map[string]*ast.FragmentDefinition, len(doc.Fragments))
	for _, f := range doc.Fragments {
		if byName[f.Name] == nil {
			byName[f.Name] = f
		}
	}
	return byName
}

type measurer struct {
	limits     Limits
	fragments  map[string]*ast.FragmentDefinition
	inside     map[string]bool // fragments that are being measured: cycles are validation's to tell
	selections int
	problems   []Problem
}

func (m *measurer) set(set ast.SelectionSet, depth int) {
	for _, sel := range set {
		if m.selections++; m.selections > m.limits.Selections {
			return
		}
		switch sel := sel.(type) {
		case *ast.Field:
			if depth > m.limits.Depth {
				if m.problems == nil { // once is enough
					m.problems = []Problem{{Message: fmt.Sprintf("Field %q has depth %d that exceeds max depth %d", sel.Name, depth, m.limits.Depth), Locations: at(sel.Position)}}
				}
				continue
			}
			m.set(sel.SelectionSet, depth+1)
		case *ast.InlineFragment:
			m.set(sel.SelectionSet, depth)
		case *ast.FragmentSpread:
			if f := m.fragments[sel.Name]; f != nil && !m.inside[sel.Name] {
				m.inside[sel.Name] = true
				m.set(f.SelectionSet, depth)
				delete(m.inside, sel.Name)
			}
		}
	}
}
