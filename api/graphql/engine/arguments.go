package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Input is an argument that reads itself from what a query or a variable holds: a string, int32, float64, bool, []any or map[string]any.
type Input interface{ UnmarshalGraphQL(any) error }

var inputType = reflect.TypeFor[Input]()

// arguments fill a struct.
type arguments struct {
	t      reflect.Type
	fields []argument
}

type argument struct {
	def   *ast.ArgumentDefinition
	index []int
	t     reflect.Type // without the pointer of an argument that may be missing
	may   bool         // be missing
}

func (b *binder) arguments(f *ast.FieldDefinition, t reflect.Type) *arguments {
	a := &arguments{t: t}
	for _, def := range f.Arguments {
		sf, ok := t.FieldByNameFunc(func(n string) bool { return fold(n) == fold(def.Name) })
		if !ok {
			panic(fmt.Sprintf("engine: %v has no field for the argument %s of %s", t, def.Name, f.Name))
		}
		arg := argument{def: def, index: sf.Index, t: sf.Type, may: sf.Type.Kind() == reflect.Pointer}
		if arg.may {
			arg.t = sf.Type.Elem()
		}
		needed := def.Type.NonNull || def.DefaultValue != nil
		known := reflect.PointerTo(arg.t).Implements(inputType) || arg.t.Kind() == reflect.String || arg.t.Kind() == reflect.Bool || arg.t.Kind() == reflect.Int32
		if needed == arg.may || !known {
			panic(fmt.Sprintf("engine: %v does not take the argument %s of %s", sf.Type, def.Name, f.Name))
		}
		a.fields = append(a.fields, arg)
	}
	return a
}

var errNull = errors.New("got null for non-null")

// pack reads the arguments of a selected field. A missing variable, and null, is the same as nothing: the default holds (spec/graphql §1.1).
func (a *arguments) pack(given ast.ArgumentList, variables map[string]any) (reflect.Value, error) {
	into := reflect.New(a.t).Elem()
	for _, arg := range a.fields {
		var v any
		if g := given.ForName(arg.def.Name); g != nil {
			v = literal(g.Value, variables)
		}
		if v == nil && arg.def.DefaultValue != nil {
			v = literal(arg.def.DefaultValue, nil)
		}
		if v == nil {
			if !arg.may {
				return reflect.Value{}, errNull
			}
			continue
		}
		read := reflect.New(arg.t)
		if err := unpack(read, v); err != nil {
			return reflect.Value{}, err
		}
		if !arg.may {
			read = read.Elem()
		}
		into.FieldByIndex(arg.index).Set(read)
	}
	return into, nil
}

// unpack gives what a pointer points to a value.
func unpack(into reflect.Value, v any) error {
	if in, ok := into.Interface().(Input); ok {
		return in.UnmarshalGraphQL(v)
	}
	refuse := func(why string) error {
		return fmt.Errorf("could not unmarshal %#v (%T) into %s: %s", v, v, into.Type().Elem(), why)
	}
	switch kind := into.Elem().Kind(); x := v.(type) {
	case string:
		if kind == reflect.String {
			into.Elem().SetString(x)
			return nil
		}
	case bool:
		if kind == reflect.Bool {
			into.Elem().SetBool(x)
			return nil
		}
	case int32:
		if kind == reflect.Int32 {
			into.Elem().SetInt(int64(x))
			return nil
		}
	case float64:
		if kind == reflect.Int32 {
			if x < math.MinInt32 || x > math.MaxInt32 || math.Trunc(x) != x {
				return refuse("not a 32-bit integer")
			}
			into.Elem().SetInt(int64(x))
			return nil
		}
	}
	return refuse("incompatible type: " + reflect.TypeOf(v).String())
}

// literal is a value of a query's text.
func literal(v *ast.Value, variables map[string]any) any {
	switch v.Kind {
	case ast.Variable:
		return variables[v.Raw]
	case ast.NullValue:
		return nil
	case ast.BooleanValue:
		return v.Raw == "true"
	case ast.IntValue, ast.FloatValue:
		n := json.Number(v.Raw)
		if i, err := n.Int64(); err == nil && int64(int32(i)) == i {
			return int32(i)
		}
		f, err := n.Float64()
		if err != nil {
			return v.Raw
		}
		return f
	case ast.ListValue:
		list := make([]any, len(v.Children))
		for i, c := range v.Children {
			list[i] = literal(c.Value, variables)
		}
		return list
	case ast.ObjectValue:
		m := make(map[string]any, len(v.Children))
		for _, c := range v.Children {
			m[c.Name] = literal(c.Value, variables)
		}
		return m
	}
	return v.Raw
}

// coerce makes values of declared variables: numbers do for texts and texts of digits for integers, null is the same as nothing, and what
// is not declared is ignored (spec/graphql §1.1). missing says which required ones are not there.
func (d *Document) coerce(op *ast.OperationDefinition, sent map[string]any) (variables map[string]any, missing []Problem) {
	variables = make(map[string]any, len(op.VariableDefinitions))
	for _, def := range op.VariableDefinitions {
		switch v := sent[def.Variable]; {
		case v != nil:
			variables[def.Variable] = coerced(v, def.Type.Name())
		case def.DefaultValue != nil:
			if v := literal(def.DefaultValue, nil); v != nil {
				variables[def.Variable] = v
			}
		case def.Type.NonNull:
			missing = append(missing, Problem{Message: fmt.Sprintf("Variable \"$%s\" of required type \"%s\" was not provided.", def.Variable, def.Type), Locations: at(def.Position)})
		}
	}
	return variables, missing
}

func coerced(v any, kind string) any {
	switch x := v.(type) {
	case json.Number:
		if kind == "String" || kind == "ID" {
			return x.String()
		}
		f, err := x.Float64()
		if err != nil {
			return x.String()
		}
		return f
	case string:
		if kind == "Int" && x != "" && strings.Trim(x, "0123456789") == "" {
			return coerced(json.Number(x), kind)
		}
	case []any:
		list := make([]any, len(x))
		for i := range x {
			list[i] = coerced(x[i], kind)
		}
		return list
	}
	return v
}
