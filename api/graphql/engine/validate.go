package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// theirs are gqlparser's rules whose texts are those of the original.
var theirs = []core.Rule{
	rules.FieldsOnCorrectTypeRule, rules.KnownDirectivesRule, rules.KnownFragmentNamesRule, rules.LoneAnonymousOperationRule, rules.MaxIntrospectionDepth,
	rules.NoFragmentCyclesRule, rules.NoUnusedFragmentsRule, rules.NoUnusedVariablesRule, rules.PossibleFragmentSpreadsRule, rules.UniqueInputFieldNamesRule,
	rules.ValuesOfCorrectTypeRule,
}

// atDots are those that name the dots of a spread as the place, not what follows them.
var atDots = map[string]bool{rules.NoFragmentCyclesRule.Name: true, rules.PossibleFragmentSpreadsRule.Name: true}

// validation gathers what is wrong with a document.
type validation struct {
	schema   *ast.Schema
	text     *source
	events   core.Events
	problems []Problem
}

func (s *Schema) validate(query string, doc *ast.QueryDocument) []Problem {
	text := newSource(query)
	v := &validation{schema: s.ast, text: text}
	for _, rule := range theirs {
		rule.RuleFunc(&v.events, func(options ...core.ErrorOption) {
			e := &gqlerror.Error{}
			for _, o := range options {
				o(e)
			}
			p := Problem{Message: e.Message}
			for _, l := range e.Locations {
				place := text.opening(Location{l.Line, l.Column})
				if atDots[rule.Name] {
					place = text.before(text.offset(place), "...")
				}
				p.Locations = append(p.Locations, place)
			}
			v.problems = append(v.problems, p)
		})
	}
	v.variables()
	v.arguments()
	v.unique(doc)
	v.fragments()
	v.leaves()
	core.Walk(s.ast, doc, &v.events)
	if v.problems == nil { // it relies on fragments that are there and do not spread themselves
		v.overlaps(doc, s.limits.Overlaps)
	}
	return inOrder(v.problems)
}

// inOrder sorts problems by their first place, and drops what was said twice: fragments are walked once for each operation.
func inOrder(list []Problem) []Problem {
	place := func(p Problem) Location {
		if len(p.Locations) == 0 {
			return Location{}
		}
		return p.Locations[0]
	}
	slices.SortStableFunc(list, func(a, b Problem) int {
		x, y := place(a), place(b)
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	return slices.CompactFunc(list, func(a, b Problem) bool { return a.Message == b.Message && slices.Equal(a.Locations, b.Locations) })
}

func (v *validation) add(places []Location, format string, args ...any) {
	v.problems = append(v.problems, Problem{Message: fmt.Sprintf(format, args...), Locations: places})
}

// variables must be declared, with types that fit where they are used.
func (v *validation) variables() {
	v.events.OnValue(func(w *core.Walker, value *ast.Value) {
		op := w.CurrentOperation
		if value.Kind != ast.Variable || op == nil {
			return
		}
		def := value.VariableDefinition
		if def == nil {
			by := ""
			if op.Name != "" {
				by = fmt.Sprintf(" by operation %q", op.Name)
			}
			v.add(at(value.Position, op.Position), "Variable \"$%s\" is not defined%s.", value.Raw, by)
			return
		}
		if value.ExpectedType == nil || def.Definition == nil {
			return
		}
		has := *def.Type
		if def.DefaultValue != nil && def.DefaultValue.Kind != ast.NullValue {
			has.NonNull = true
		}
		if !has.IsCompatible(value.ExpectedType) {
			v.add(at(def.Position, value.Position), "Variable \"$%s\" of type %q used in position expecting type %q.", value.Raw, has.String(), value.ExpectedType.String())
		}
	})
	v.events.OnVariable(func(_ *core.Walker, def *ast.VariableDefinition) {
		switch {
		case def.Definition == nil:
			v.add(at(def.Type.Position), "Unknown type %q.", def.Type.Name())
		case !def.Definition.IsInputType():
			v.add(at(def.Type.Position), "Variable \"$%s\" cannot be non-input type %q.", def.Variable, def.Type.String())
		case def.Type.NonNull && def.DefaultValue != nil:
			nullable := *def.Type
			nullable.NonNull = false
			v.add([]Location{v.text.opening(at(def.DefaultValue.Position)[0])}, "Variable \"$%s\" of type %q is required and will not use the default value. Perhaps you meant to use type %q.", def.Variable, def.Type.String(), nullable.String())
		}
	})
}

// arguments must be known, and there if they have to.
func (v *validation) arguments() {
	v.events.OnValue(func(_ *core.Walker, value *ast.Value) {
		if value.Kind == ast.IntValue && value.Definition != nil && value.Definition.Name == "Int" {
			if _, err := strconv.ParseInt(value.Raw, 10, 32); err != nil {
				v.add(at(value.Position), "Int cannot represent non 32-bit signed integer value: %s", value.Raw)
			}
		}
	})
	check := func(given ast.ArgumentList, known ast.ArgumentDefinitionList, place Location, kind, on, name string) {
		for _, arg := range given {
			if known.ForName(arg.Name) == nil {
				names := make([]string, len(known))
				for i, k := range known {
					names[i] = k.Name
				}
				suggestion := ""
				if similar := core.SuggestionList(arg.Name, names); len(similar) > 0 {
					suggestion = " Did you mean " + core.QuotedOrList(similar...) + "?"
				}
				v.add(at(arg.Position), "Unknown argument %q on %s %q.%s", arg.Name, strings.ToLower(kind), on, suggestion)
			}
		}
		for _, k := range known {
			if k.Type.NonNull && k.DefaultValue == nil && given.ForName(k.Name) == nil {
				v.add([]Location{place}, "%s %q argument %q of type %q is required but not provided.", kind, name, k.Name, k.Type.String())
			}
		}
	}
	v.events.OnField(func(_ *core.Walker, f *ast.Field) {
		if f.Definition != nil && f.ObjectDefinition != nil {
			check(f.Arguments, f.Definition.Arguments, at(f.Position)[0], "Field", f.ObjectDefinition.Name+"."+f.Name, f.Name)
		}
	})
	v.events.OnDirective(func(_ *core.Walker, d *ast.Directive) {
		if d.Definition != nil {
			check(d.Arguments, d.Definition.Arguments, v.text.opening(at(d.Position)[0]), "Directive", "@"+d.Name, "@"+d.Name)
		}
	})
}

// unique names: of operations, fragments, variables, arguments, and directives at one place.
func (v *validation) unique(doc *ast.QueryDocument) {
	type named struct {
		name  string
		place Location
	}
	once := func(list []named, format string) {
		places := map[string][]Location{}
		for _, n := range list {
			places[n.name] = append(places[n.name], n.place)
		}
		for name, p := range places {
			if name != "" && len(p) > 1 {
				v.add(p, format, name)
			}
		}
	}
	var names []named
	for _, op := range doc.Operations {
		names = append(names, named{op.Name, v.text.behind(op.Position, 1)})
	}
	once(names, `There can be only one operation named "%s".`)
	names = nil
	for _, f := range doc.Fragments {
		names = append(names, named{f.Name, v.text.behind(f.Position, 1)})
	}
	once(names, `There can be only one fragment named "%s".`)
	for _, op := range doc.Operations {
		names = nil
		for _, def := range op.VariableDefinitions {
			names = append(names, named{def.Variable, v.text.behind(def.Position, 1)})
		}
		once(names, `There can be only one variable named "$%s".`)
	}
	arguments := func(list ast.ArgumentList) {
		names := make([]named, len(list))
		for i, a := range list {
			names[i] = named{a.Name, at(a.Position)[0]}
		}
		once(names, `There can be only one argument named "%s".`)
	}
	v.events.OnField(func(_ *core.Walker, f *ast.Field) { arguments(f.Arguments) })
	v.events.OnDirective(func(_ *core.Walker, d *ast.Directive) { arguments(d.Arguments) })
	v.events.OnDirectiveList(func(_ *core.Walker, list []*ast.Directive) {
		names := make([]named, len(list))
		for i, d := range list {
			names[i] = named{d.Name, v.text.opening(at(d.Position)[0])}
		}
		once(names, `The directive "@%s" can only be used once at this location.`)
	})
}

// fragments must be of types that are there and have fields.
func (v *validation) fragments() {
	check := func(name string, place Location, which string) {
		if def := v.schema.Types[name]; def == nil {
			v.add([]Location{place}, "Unknown type %q.", name)
		} else if !def.IsCompositeType() {
			v.add([]Location{place}, "Fragment %scannot condition on non composite type %q.", which, name)
		}
	}
	v.events.OnInlineFragment(func(_ *core.Walker, f *ast.InlineFragment) {
		if f.TypeCondition != "" {
			check(f.TypeCondition, v.text.behind(f.Position, 1), "")
		}
	})
	v.events.OnFragment(func(_ *core.Walker, f *ast.FragmentDefinition) {
		check(f.TypeCondition, v.text.behind(f.Position, 3), fmt.Sprintf("%q ", f.Name))
	})
}

// leaves: what has fields must say which, and nothing else may.
func (v *validation) leaves() {
	v.events.OnField(func(w *core.Walker, f *ast.Field) {
		if f.Definition == nil {
			return
		}
		switch leaf := v.schema.Types[f.Definition.Type.Name()].IsLeafType(); {
		case leaf && len(f.SelectionSet) > 0:
			place := v.text.before(f.SelectionSet[0].GetPosition().Start, "{")
			v.add([]Location{place}, "Field %q must not have a selection since type %q has no subfields.", f.Name, f.Definition.Type.String())
		case !leaf && len(f.SelectionSet) == 0:
			v.add(at(f.Position), "Field %q of type %q must have a selection of subfields. Did you mean \"%s { ... }\"?", f.Name, f.Definition.Type.String(), f.Name)
		}
	})
}
