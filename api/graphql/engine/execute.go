package engine

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
)

// mostBeside is how many methods of one answer run at a time.
const mostBeside = 10

// Execute answers an operation of a document: data is JSON behind head, nil when nothing was executed. name may be "" when there is only
// one operation. sent are the variables of the request, undeclared ones too.
func (s *Schema) Execute(ctx context.Context, head string, d *Document, name string, sent map[string]any) (data []byte, problems []Problem) {
	defer func() {
		if p := recover(); p != nil { // outside of methods: a mistake of this package
			data, problems = []byte(head+null), []Problem{{Message: s.hooks.Panicked(p)}}
		}
	}()
	op, err := d.operation(name)
	if err != nil {
		return nil, []Problem{{Message: err.Error()}}
	}
	switch op.Operation {
	case ast.Mutation:
		return nil, []Problem{{Message: "no mutations are offered by the schema"}}
	case ast.Subscription:
		return nil, []Problem{{Message: "graphql-ws protocol header is missing"}}
	}
	variables, missing := d.coerce(op, sent)
	if missing != nil {
		return nil, missing
	}
	p, undecided := d.plan(s, op, variables)
	size := &p.size
	p, args, unread := p.pack(variables)
	x := &execution{schema: s, args: args, beside: make(chan struct{}, mostBeside), problems: append(slices.Clip(undecided), unread...)}
	w := walk{x: x, ctx: ctx}
	last := int(size.Load())
	data, _ = w.object(append(make([]byte, 0, max(2048, last+last/8)), head...), p.nodes, s.root, nil)
	size.Store(int64(len(data)))
	if err := ctx.Err(); err != nil {
		return nil, []Problem{{Message: err.Error()}}
	}
	return data, append(x.problems, w.problems...)
}

// execution is one answer in the making.
type execution struct {
	schema   *Schema
	args     []reflect.Value // by slot
	beside   chan struct{}
	problems []Problem // of the variables
}

// walk is one goroutine's part of an answer.
type walk struct {
	x        *execution
	ctx      context.Context
	problems []Problem
}

// step is a part of a path.
type step struct {
	above *step
	key   string
	index int // of a list, where key is ""
}

func (p *step) path() (list []any) {
	for ; p != nil; p = p.above {
		if p.key != "" {
			list = append(list, p.key)
		} else {
			list = append(list, p.index)
		}
	}
	slices.Reverse(list)
	return list
}

func (w *walk) problem(n *node, p *step, text string) {
	w.problems = append(w.problems, Problem{Message: text, Locations: at(n.first.Position), Path: p.path()})
}

// object writes an object, or null because something in it must not be null; wasNull tells which.
func (w *walk) object(b []byte, nodes []*node, v reflect.Value, above *step) (_ []byte, wasNull bool) {
	parts := w.ahead(nodes, v, above)
	fields := v
	if fields.Kind() == reflect.Pointer {
		fields = fields.Elem()
	}
	start := len(b)
	b = append(b, '{')
	for i, n := range nodes {
		if i > 0 {
			b = append(b, ',', ' ')
		}
		b = append(b, n.prefix...)
		fieldNull := false
		switch {
		case n.field == nil:
			b = append(b, n.name...)
		case parts != nil && parts[i] != nil:
			part := parts[i]
			b, fieldNull = append(b, part.data...), part.wasNull
			w.problems = append(w.problems, part.problems...)
		case n.field.call != nil:
			b, fieldNull = w.call(b, n, v, &step{above: above, key: n.key})
		case n.field.value.writes:
			b = n.field.value.write(b, inside(fields, n.field.index))
		default:
			b, fieldNull = w.value(b, n, n.field.value, inside(fields, n.field.index), &step{above: above, key: n.key})
		}
		if fieldNull && n.field.value.nonNull {
			for _, later := range parts[min(i+1, len(parts)):] {
				if later != nil {
					w.problems = append(w.problems, later.problems...)
				}
			}
			return append(b[:start], null...), true
		}
	}
	return append(b, '}'), false
}

func inside(v reflect.Value, index []int) reflect.Value {
	if len(index) == 1 {
		return v.Field(index[0])
	}
	return v.FieldByIndex(index)
}

// part is what a goroutine of its own has written.
type part struct {
	data     []byte
	wasNull  bool
	problems []Problem
}

// ahead runs the fields of an object that may wait beside each other, if there are several. The parts are by node; nil = nothing was run.
func (w *walk) ahead(nodes []*node, v reflect.Value, above *step) []*part {
	waiting := 0
	for _, n := range nodes {
		if n.waits && n.field.call != nil {
			waiting++
		}
	}
	if waiting < 2 {
		return nil
	}
	parts := make([]*part, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if n.waits && n.field.call != nil {
			parts[i] = &part{}
			wg.Go(func() {
				p := &step{above: above, key: n.key}
				w.apart(parts[i], n, p, func(own *walk) ([]byte, bool) { return own.call(nil, n, v, p) })
			})
		}
	}
	wg.Wait()
	return parts
}

// apart does a walk of its own into a part, on a goroutine that a panic must not end with the process.
func (w *walk) apart(into *part, n *node, p *step, do func(*walk) ([]byte, bool)) {
	own := &walk{x: w.x, ctx: w.ctx}
	defer func() {
		if value := recover(); value != nil {
			own.problem(n, p, w.x.schema.hooks.Panicked(value))
			into.data, into.wasNull = []byte(null), true
		}
		into.problems = own.problems
	}()
	into.data, into.wasNull = do(own)
}

// call writes what a method gives.
func (w *walk) call(b []byte, n *node, receiver reflect.Value, p *step) ([]byte, bool) {
	result, trouble, failed := w.ask(n, receiver)
	if failed {
		w.problem(n, p, trouble)
		return append(b, null...), true
	}
	return w.value(b, n, n.field.value, result, p)
}

// ask calls a method.
func (w *walk) ask(n *node, receiver reflect.Value) (result reflect.Value, trouble string, failed bool) {
	m := n.field.call
	defer func() {
		if value := recover(); value != nil {
			trouble, failed = w.x.schema.hooks.Panicked(value), true
		}
	}()
	if m.waitsFor {
		w.x.beside <- struct{}{}
		defer func() { <-w.x.beside }()
		if err := w.ctx.Err(); err != nil {
			return result, err.Error(), true
		}
	}
	in := make([]reflect.Value, 0, 2)
	if m.context {
		in = append(in, reflect.ValueOf(context.WithValue(w.ctx, selectedKey{}, n.names)))
	}
	if m.args != nil {
		in = append(in, w.x.args[n.slot])
	}
	fn := m.fn
	if m.index >= 0 {
		fn = receiver.Method(m.index)
	}
	out := fn.Call(in)
	if m.fails && !out[1].IsNil() {
		return result, w.x.schema.hooks.Explain(out[1].Interface().(error)), true
	}
	return out[0], "", false
}

// value writes a value; wasNull tells whether it is null, or had to become it.
func (w *walk) value(b []byte, n *node, t *value, v reflect.Value, p *step) (_ []byte, wasNull bool) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		if t.nonNull {
			w.problem(n, p, fmt.Sprintf("graphql: got nil for non-null %q", t.name))
		}
		return append(b, null...), true
	}
	switch {
	case t.object != nil:
		return w.object(b, n.below, v, p)
	case t.list != nil:
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		return w.list(b, n, t.list, v, p)
	}
	return t.write(b, v), false
}

func (w *walk) list(b []byte, n *node, of *value, v reflect.Value, p *step) (_ []byte, wasNull bool) {
	var parts []*part
	if slices.ContainsFunc(n.below, func(b *node) bool { return b.waits }) && v.Len() > 1 {
		parts = w.itemsAhead(n, of, v, p)
	}
	start := len(b)
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',', ' ')
		}
		itemNull := false
		switch {
		case parts != nil:
			b, itemNull = append(b, parts[i].data...), parts[i].wasNull
			w.problems = append(w.problems, parts[i].problems...)
		case of.writes:
			b = of.write(b, v.Index(i))
		default:
			b, itemNull = w.value(b, n, of, v.Index(i), &step{above: p, index: i})
		}
		if itemNull && of.nonNull {
			for _, later := range parts[min(i+1, len(parts)):] {
				w.problems = append(w.problems, later.problems...)
			}
			return append(b[:start], null...), true
		}
	}
	return append(b, ']'), false
}

// itemsAhead runs the items of a list beside each other, some at a time.
func (w *walk) itemsAhead(n *node, of *value, v reflect.Value, p *step) []*part {
	parts := make([]*part, v.Len())
	room := make(chan struct{}, mostBeside)
	var wg sync.WaitGroup
	for i := range parts {
		parts[i] = &part{}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			s := &step{above: p, index: i}
			w.apart(parts[i], n, s, func(own *walk) ([]byte, bool) { return own.value(nil, n, of, v.Index(i), s) })
		})
	}
	wg.Wait()
	return parts
}
