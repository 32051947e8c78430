package engine

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Output is a scalar that writes itself as JSON, spelled as the API does.
type Output interface{ AppendGraphQL([]byte) []byte }

// object is an object type of the schema as a Go type serves it.
type object struct {
	def    *ast.Definition
	fields map[string]*field
}

// is tells whether objects of this type are of another one: itself, or an interface.
func (o *object) is(name string) bool {
	if name == "" || name == o.def.Name {
		return true
	}
	for _, i := range o.def.Interfaces {
		if i == name {
			return true
		}
	}
	return false
}

// field is where a field's value comes from.
type field struct {
	def   *ast.FieldDefinition
	index []int   // of a struct field, unless there is
	call  *method // a method
	value *value
}

// method is a Go method, or a function without a receiver.
type method struct {
	index    int // of the receiver's method; -1 = fn
	fn       reflect.Value
	context  bool
	fails    bool // gives an error, too
	args     *arguments
	waitsFor bool // may wait for others
}

// value is how a value of some type is written.
type value struct {
	nonNull bool
	name    string // of the type, for problems
	write   func([]byte, reflect.Value) []byte
	list    *value
	object  *object
	writes  bool // write does all, for nil as well: none of the others is set
}

type objectKey struct {
	def string
	t   reflect.Type
}

type binder struct {
	schema  *ast.Schema
	objects map[objectKey]*object
}

func (b *binder) object(def *ast.Definition, t reflect.Type) *object {
	key := objectKey{def.Name, t}
	if o := b.objects[key]; o != nil {
		return o
	}
	o := &object{def: def, fields: make(map[string]*field, len(def.Fields))}
	b.objects[key] = o // before its fields: types refer to themselves
	for _, f := range def.Fields {
		if strings.HasPrefix(f.Name, "__") {
			continue // those of the root are bound apart
		}
		bound := &field{def: f}
		var result reflect.Type
		if m, ok := t.MethodByName(methodNamed(t, f.Name)); ok {
			bound.call = b.method(m.Type, m.Index, 1, f)
			result = m.Type.Out(0)
		} else {
			s := t
			if s.Kind() == reflect.Pointer {
				s = s.Elem()
			}
			sf, ok := s.FieldByNameFunc(func(n string) bool { return fold(n) == fold(f.Name) })
			if !ok || !sf.IsExported() {
				panic(fmt.Sprintf("engine: %v has neither method nor field for %s.%s", t, def.Name, f.Name))
			}
			bound.index, result = sf.Index, sf.Type
		}
		bound.value = b.value(f.Type, result)
		o.fields[f.Name] = bound
	}
	return o
}

func methodNamed(t reflect.Type, name string) string {
	for i := range t.NumMethod() {
		if m := t.Method(i).Name; fold(m) == fold(name) {
			return m
		}
	}
	return ""
}

func fold(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	outputType  = reflect.TypeFor[Output]()
)

// method reads a signature; receiver = how many parameters come before those that matter.
func (b *binder) method(t reflect.Type, index, receiver int, f *ast.FieldDefinition) *method {
	m := &method{index: index}
	in := receiver
	if in < t.NumIn() && t.In(in) == contextType {
		m.context = true
		in++
	}
	if in < t.NumIn() {
		m.args = b.arguments(f, t.In(in))
		in++
	}
	m.fails = t.NumOut() == 2 && t.Out(1) == errorType
	if in != t.NumIn() || t.NumOut() != 1 && !m.fails || m.args == nil && len(f.Arguments) > 0 {
		panic(fmt.Sprintf("engine: %v does not serve %s", t, f.Name))
	}
	m.waitsFor = m.context || m.fails
	return m
}

// value binds a type of the schema to a Go type.
func (b *binder) value(t *ast.Type, goType reflect.Type) *value {
	v := &value{nonNull: t.NonNull, name: (&ast.Type{NamedType: t.NamedType, Elem: t.Elem}).String()}
	inner := goType
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	if t.Elem != nil {
		if inner.Kind() != reflect.Slice {
			panic(fmt.Sprintf("engine: %v is no list", goType))
		}
		v.list = b.value(t.Elem, inner.Elem())
		return v
	}
	def := b.schema.Types[t.NamedType]
	switch def.Kind {
	case ast.Object:
		v.object = b.object(def, goType)
	case ast.Scalar, ast.Enum:
		v.write, v.writes = scalar(goType), !t.NonNull
	default:
		panic(fmt.Sprintf("engine: %s can't be bound", t))
	}
	return v
}

// scalar is how a Go type is written; for pointers, nil as null.
func scalar(t reflect.Type) func([]byte, reflect.Value) []byte {
	inner := t
	if t.Kind() == reflect.Pointer {
		inner = t.Elem()
	}
	var write func([]byte, reflect.Value) []byte
	switch {
	case t.Implements(outputType): // of the pointer, so that nothing is copied
		write = func(b []byte, v reflect.Value) []byte { return v.Interface().(Output).AppendGraphQL(b) }
	case inner.Kind() == reflect.String:
		write = func(b []byte, v reflect.Value) []byte { return appendText(b, v.String()) }
	case inner.Kind() == reflect.Bool:
		write = func(b []byte, v reflect.Value) []byte { return appendBool(b, v.Bool()) }
	case inner.Kind() == reflect.Int32:
		write = func(b []byte, v reflect.Value) []byte { return appendInt(b, v.Int()) }
	default:
		panic(fmt.Sprintf("engine: %v is no scalar", t))
	}
	if t.Kind() != reflect.Pointer {
		return write
	}
	whole := t.Implements(outputType)
	return func(b []byte, v reflect.Value) []byte {
		if v.IsNil() {
			return append(b, null...)
		}
		if whole {
			return write(b, v)
		}
		return write(b, v.Elem())
	}
}
