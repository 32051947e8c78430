package engine

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vektah/gqlparser/v2/ast"
)

// plan is what an operation selects.
type plan struct {
	nodes []*node
	slots int          // of arguments
	size  atomic.Int64 // of its last answer, in bytes
}

// node is a key of the answer below some object.
type node struct {
	key    string
	prefix []byte     // the key as JSON, with its colon
	first  *ast.Field // its place is that of problems
	field  *field     // nil = __typename
	name   []byte     // of the type as JSON, for __typename
	below  []*node
	sets   []ast.SelectionSet // of all fields that were merged, while the plan is made
	names  []string           // Selected
	slot   int                // of the arguments; -1 = none
	waits  bool               // it, or something below, may wait for others
}

// planner makes a plan for variables.
type planner struct {
	variables map[string]any
	problems  []Problem
	slots     int
}

// plan gives the plan of an operation. It is kept where no directive asks for variables.
func (d *Document) plan(s *Schema, op *ast.OperationDefinition, variables map[string]any) (*plan, []Problem) {
	if !d.decided {
		d.mu.Lock()
		defer d.mu.Unlock()
		if p := d.plans[op]; p != nil {
			return p, nil
		}
	}
	m := &planner{variables: variables}
	p := &plan{nodes: m.set(s.query, []ast.SelectionSet{op.SelectionSet})}
	p.slots = m.slots
	if !d.decided {
		d.plans[op] = p
	}
	return p, m.problems
}

// set makes the nodes of an object: selection sets with the same parent are one.
func (m *planner) set(o *object, sets []ast.SelectionSet) []*node {
	var nodes []*node
	byKey := map[string]*node{}
	for _, set := range sets {
		nodes = m.collect(nodes, byKey, o, set)
	}
	for _, n := range nodes {
		m.complete(n)
	}
	return nodes
}

func (m *planner) collect(nodes []*node, byKey map[string]*node, o *object, set ast.SelectionSet) []*node {
	for _, sel := range set {
		switch sel := sel.(type) {
		case *ast.Field:
			if m.skips(sel.Directives) {
				continue
			}
			n := byKey[sel.Alias]
			if n == nil {
				n = &node{key: sel.Alias, prefix: append(appendText(nil, sel.Alias), ": "...), first: sel, field: o.fields[sel.Name], slot: -1}
				if n.field == nil { // validation leaves nothing else
					n.name = appendText(nil, o.def.Name)
				}
				byKey[sel.Alias], nodes = n, append(nodes, n)
			}
			n.sets = append(n.sets, sel.SelectionSet)
		case *ast.InlineFragment:
			if !m.skips(sel.Directives) && o.is(sel.TypeCondition) {
				nodes = m.collect(nodes, byKey, o, sel.SelectionSet)
			}
		case *ast.FragmentSpread:
			if !m.skips(sel.Directives) && o.is(sel.Definition.TypeCondition) {
				nodes = m.collect(nodes, byKey, o, sel.Definition.SelectionSet)
			}
		}
	}
	return nodes
}

// complete plans what is below a node.
func (m *planner) complete(n *node) {
	if n.field == nil {
		return
	}
	if c := n.field.call; c != nil {
		n.waits = c.waitsFor
		if c.args != nil {
			n.slot = m.slots
			m.slots++
		}
	}
	if o := n.field.value.objects(); o != nil {
		n.below = m.set(o, n.sets)
	}
	n.sets = nil
	seen := map[string]bool{}
	for _, b := range n.below {
		n.waits = n.waits || b.waits
		n.names = b.appendNames(n.names, seen)
	}
	n.names = slices.Clip(n.names)
}

func (n *node) appendNames(list []string, seen map[string]bool) []string {
	if n.field == nil || strings.HasPrefix(n.first.Name, "__") {
		return list
	}
	name := n.first.Name
	if !seen[name] {
		seen[name] = true
		list = append(list, name)
	}
	for _, below := range n.names {
		if path := name + "." + below; !seen[path] {
			seen[path] = true
			list = append(list, path)
		}
	}
	return list
}

// objects are what a value is, or consists of; nil for scalars.
func (v *value) objects() *object {
	for v.list != nil {
		v = v.list
	}
	return v.object
}

// skips is the rule of @skip and @include.
func (m *planner) skips(directives ast.DirectiveList) bool {
	for _, d := range directives {
		given := d.Arguments.ForName("if")
		if given == nil || d.Name != "skip" && d.Name != "include" {
			continue
		}
		decided := reflect.New(reflect.TypeFor[bool]())
		v, err := literal(given.Value, m.variables), errNull
		if v != nil {
			err = unpack(decided, v)
		}
		switch {
		case err != nil:
			m.problems = append(m.problems, Problem{Message: errorText(err)})
		case decided.Elem().Bool() == (d.Name == "skip"):
			return true
		}
	}
	return false
}

func errorText(err error) string {
	if errors.Is(err, errNull) {
		return "graphql: " + err.Error()
	}
	return err.Error()
}

// pack reads all arguments of a plan. Where one can't be read, its field and those behind it in the same object are not executed.
func (p *plan) pack(variables map[string]any) (*plan, []reflect.Value, []Problem) {
	k := &packing{variables: variables, values: make([]reflect.Value, p.slots)}
	nodes := k.pack(p.nodes)
	if k.problems == nil {
		return p, k.values, nil
	}
	return &plan{nodes: nodes, slots: p.slots}, k.values, k.problems
}

type packing struct {
	variables map[string]any
	values    []reflect.Value
	problems  []Problem
}

func (k *packing) pack(nodes []*node) []*node {
	for i, n := range nodes {
		if n.slot >= 0 {
			v, err := n.field.call.args.pack(n.first.Arguments, k.variables)
			if err != nil {
				k.problems = append(k.problems, Problem{Message: errorText(err)})
				return nodes[:i]
			}
			k.values[n.slot] = v
		}
		if n.below == nil {
			continue
		}
		if below := k.pack(n.below); len(below) < len(n.below) || k.problems != nil {
			short := *n
			short.below = below
			nodes = slices.Clone(nodes)
			nodes[i] = &short
		}
	}
	return nodes
}
