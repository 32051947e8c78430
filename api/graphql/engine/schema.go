package engine

import (
	"context"
	"reflect"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// Limits bound what a query may cost before anything is executed; none may be 0.
type Limits struct {
	Nesting    int // brackets inside each other in the text, looked at before parsing
	Depth      int // fields inside each other
	Selections int // fields and fragments, counted wherever they are spread
	Overlaps   int // pairs of fields with the same key, which validation compares
}

// Hooks are what the engine asks its user. All must be set.
type Hooks struct {
	// Explain gives the text of a method's error for clients.
	Explain func(error) string
	// Panicked is told of a panic in a method, and gives the text for clients.
	Panicked func(value any) string
}

// Schema is a schema with the Go types that serve it. It may be used by many goroutines.
type Schema struct {
	ast    *ast.Schema
	limits Limits
	hooks  Hooks
	root   reflect.Value
	query  *object
	cache  *cache
}

// New parses a schema and binds it to root, a struct whose fields and methods are the fields of the query type.
func New(text string, root any, limits Limits, hooks Hooks) *Schema {
	s := &Schema{ast: gqlparser.MustLoadSchema(&ast.Source{Name: "schema", Input: text}), limits: limits, hooks: hooks, root: reflect.ValueOf(root), cache: newCache()}
	delete(s.ast.Directives, "defer") // is not served
	b := &binder{schema: s.ast, objects: map[objectKey]*object{}}
	s.query = b.object(s.ast.Query, s.root.Type())
	b.introspection(s.query)
	return s
}

// Problem is an error as clients see it.
type Problem struct {
	Message   string     `json:"message"`
	Locations []Location `json:"locations,omitempty"`
	Path      []any      `json:"path,omitempty"` // keys, and indices of lists
}

// Location is a place in a query's text, in characters, from 1.
type Location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

func at(positions ...*ast.Position) []Location {
	list := make([]Location, len(positions))
	for i, p := range positions {
		list[i] = Location{p.Line, p.Column}
	}
	return list
}

type selectedKey struct{}

// Selected are the names selected below the method that a context was given to: "id", "containers", "containers.id". Names that begin with
// two underscores are left out. The caller may append to the list.
func Selected(ctx context.Context) []string {
	names, _ := ctx.Value(selectedKey{}).([]string)
	return names
}
