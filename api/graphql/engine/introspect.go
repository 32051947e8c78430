package engine

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// introspection binds __schema and __type of the query type.
func (b *binder) introspection(query *object) {
	about := &schemaInfo{b.schema}
	for name, fn := range map[string]any{
		"__schema": func() *schemaInfo { return about },
		"__type": func(args struct{ Name string }) *typeInfo {
			if def := b.schema.Types[args.Name]; def != nil {
				return about.named(def.Name)
			}
			return nil
		},
	} {
		f, v := b.schema.Query.Fields.ForName(name), reflect.ValueOf(fn)
		query.fields[name] = &field{def: f, call: b.method(v.Type(), -1, 0, f), value: b.value(f.Type, v.Type().Out(0))}
		query.fields[name].call.fn = v
	}
}

// orNil is for what may be missing.
func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// deprecation reads a directive.
type deprecation ast.DirectiveList

func (d deprecation) IsDeprecated() bool { return ast.DirectiveList(d).ForName("deprecated") != nil }

func (d deprecation) DeprecationReason() *string {
	found := ast.DirectiveList(d).ForName("deprecated")
	if found == nil {
		return nil
	}
	reason := "No longer supported"
	if given := found.Arguments.ForName("reason"); given != nil {
		reason = given.Value.Raw
	}
	return &reason
}

type deprecatedArgs struct{ IncludeDeprecated bool }

// schemaInfo is __Schema.
type schemaInfo struct{ schema *ast.Schema }

func (s *schemaInfo) Description() *string { return orNil(s.schema.Description) }

func (s *schemaInfo) named(name string) *typeInfo { return s.of(ast.NamedType(name, nil)) }

func (s *schemaInfo) of(t *ast.Type) *typeInfo { return &typeInfo{s, t} }

func (s *schemaInfo) root(def *ast.Definition) *typeInfo {
	if def == nil {
		return nil
	}
	return s.named(def.Name)
}

func (s *schemaInfo) Types() []*typeInfo {
	list := []*typeInfo{}
	for _, name := range slices.Sorted(maps.Keys(s.schema.Types)) {
		list = append(list, s.named(name))
	}
	return list
}

func (s *schemaInfo) QueryType() *typeInfo        { return s.root(s.schema.Query) }
func (s *schemaInfo) MutationType() *typeInfo     { return s.root(s.schema.Mutation) }
func (s *schemaInfo) SubscriptionType() *typeInfo { return s.root(s.schema.Subscription) }

func (s *schemaInfo) Directives() []*directiveInfo {
	list := []*directiveInfo{}
	for _, name := range slices.Sorted(maps.Keys(s.schema.Directives)) {
		list = append(list, &directiveInfo{s, s.schema.Directives[name]})
	}
	return list
}

// typeInfo is __Type.
type typeInfo struct {
	of *schemaInfo
	t  *ast.Type
}

// def is nil for lists and what must not be null.
func (t *typeInfo) def() *ast.Definition {
	if t.t.NonNull || t.t.Elem != nil {
		return nil
	}
	return t.of.schema.Types[t.t.NamedType]
}

func (t *typeInfo) Kind() string {
	switch def := t.def(); {
	case def != nil:
		return string(def.Kind)
	case t.t.NonNull:
		return "NON_NULL"
	}
	return "LIST"
}

func (t *typeInfo) Name() *string {
	if t.def() == nil {
		return nil
	}
	return &t.t.NamedType
}

func (t *typeInfo) Description() *string {
	if def := t.def(); def != nil {
		return orNil(def.Description)
	}
	return nil
}

func (t *typeInfo) SpecifiedByURL() *string {
	if def := t.def(); def != nil {
		if d := def.Directives.ForName("specifiedBy"); d != nil {
			return &d.Arguments.ForName("url").Value.Raw
		}
	}
	return nil
}

func (t *typeInfo) Fields(args deprecatedArgs) *[]*fieldInfo {
	def := t.def()
	if def == nil || def.Kind != ast.Object && def.Kind != ast.Interface {
		return nil
	}
	list := []*fieldInfo{}
	for _, f := range def.Fields {
		if deprecated := deprecation(f.Directives); !strings.HasPrefix(f.Name, "__") && (args.IncludeDeprecated || !deprecated.IsDeprecated()) {
			list = append(list, &fieldInfo{deprecated, t.of, f})
		}
	}
	return &list
}

func (t *typeInfo) Interfaces() *[]*typeInfo {
	def := t.def()
	if def == nil || def.Kind != ast.Object {
		return nil
	}
	list := []*typeInfo{}
	for _, name := range def.Interfaces {
		list = append(list, t.of.named(name))
	}
	return &list
}

func (t *typeInfo) PossibleTypes() *[]*typeInfo {
	def := t.def()
	if def == nil || !def.IsAbstractType() {
		return nil
	}
	names := []string{}
	for _, possible := range t.of.schema.GetPossibleTypes(def) {
		names = append(names, possible.Name)
	}
	slices.Sort(names)
	list := []*typeInfo{}
	for _, name := range names {
		list = append(list, t.of.named(name))
	}
	return &list
}

func (t *typeInfo) EnumValues(args deprecatedArgs) *[]*enumValueInfo {
	def := t.def()
	if def == nil || def.Kind != ast.Enum {
		return nil
	}
	list := []*enumValueInfo{}
	for _, v := range def.EnumValues {
		if deprecated := deprecation(v.Directives); args.IncludeDeprecated || !deprecated.IsDeprecated() {
			list = append(list, &enumValueInfo{deprecated, v})
		}
	}
	return &list
}

func (t *typeInfo) InputFields(args deprecatedArgs) *[]*inputInfo {
	def := t.def()
	if def == nil || def.Kind != ast.InputObject {
		return nil
	}
	list := []*inputInfo{}
	for _, f := range def.Fields {
		if deprecated := deprecation(f.Directives); args.IncludeDeprecated || !deprecated.IsDeprecated() {
			list = append(list, &inputInfo{deprecated, t.of, f.Name, f.Description, f.Type, f.DefaultValue})
		}
	}
	return &list
}

func (t *typeInfo) OfType() *typeInfo {
	switch {
	case t.t.NonNull:
		return t.of.of(&ast.Type{NamedType: t.t.NamedType, Elem: t.t.Elem})
	case t.t.Elem != nil:
		return t.of.of(t.t.Elem)
	}
	return nil
}

func (t *typeInfo) IsOneOf() *bool {
	def := t.def()
	if def == nil || def.Kind != ast.InputObject {
		return nil
	}
	is := def.Directives.ForName("oneOf") != nil
	return &is
}

// fieldInfo is __Field.
type fieldInfo struct {
	deprecation
	of    *schemaInfo
	field *ast.FieldDefinition
}

func (f *fieldInfo) Name() string         { return f.field.Name }
func (f *fieldInfo) Description() *string { return orNil(f.field.Description) }
func (f *fieldInfo) Type() *typeInfo      { return f.of.of(f.field.Type) }

func (f *fieldInfo) Args(args deprecatedArgs) []*inputInfo {
	return f.of.inputs(f.field.Arguments, args)
}

func (s *schemaInfo) inputs(defs ast.ArgumentDefinitionList, args deprecatedArgs) []*inputInfo {
	list := []*inputInfo{}
	for _, a := range defs {
		if deprecated := deprecation(a.Directives); args.IncludeDeprecated || !deprecated.IsDeprecated() {
			list = append(list, &inputInfo{deprecated, s, a.Name, a.Description, a.Type, a.DefaultValue})
		}
	}
	return list
}

// inputInfo is __InputValue.
type inputInfo struct {
	deprecation
	of                *schemaInfo
	name, description string
	t                 *ast.Type
	ifMissing         *ast.Value
}

func (i *inputInfo) Name() string         { return i.name }
func (i *inputInfo) Description() *string { return orNil(i.description) }
func (i *inputInfo) Type() *typeInfo      { return i.of.of(i.t) }

func (i *inputInfo) DefaultValue() *string {
	if i.ifMissing == nil {
		return nil
	}
	text := i.ifMissing.String()
	return &text
}

// enumValueInfo is __EnumValue.
type enumValueInfo struct {
	deprecation
	value *ast.EnumValueDefinition
}

func (v *enumValueInfo) Name() string         { return v.value.Name }
func (v *enumValueInfo) Description() *string { return orNil(v.value.Description) }

// directiveInfo is __Directive.
type directiveInfo struct {
	of        *schemaInfo
	directive *ast.DirectiveDefinition
}

func (d *directiveInfo) Name() string         { return d.directive.Name }
func (d *directiveInfo) Description() *string { return orNil(d.directive.Description) }
func (d *directiveInfo) IsRepeatable() bool   { return d.directive.IsRepeatable }

func (d *directiveInfo) Locations() []string {
	list := []string{}
	for _, l := range d.directive.Locations {
		list = append(list, string(l))
	}
	return list
}

func (d *directiveInfo) Args(args deprecatedArgs) []*inputInfo {
	return d.of.inputs(d.directive.Arguments, args)
}
