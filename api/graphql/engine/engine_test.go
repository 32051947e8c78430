package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
)

const zooSchema = `
schema { query: Zoo }
scalar Grams
scalar Tag
enum Diet { LEAVES MEAT }
interface Named { name: String }
type Animal implements Named {
  name: String
  legs: Int
  tame: Boolean
  weight: Grams
  tags: [String]
  parents: [Animal]
  keeper: Keeper!
  diet: Diet
  nicknames(most: Int = 2, like: String): [String!]
  sound: String!
  old_name: String @deprecated(reason: "It has a name.")
}
type Keeper implements Named { name: String, animals(tag: Tag): [Animal!] }
type Page { items: [Animal]!, total_count: Int! }
type Zoo {
  animal(name: String!): Animal
  animals(limit: Int!, tame: Boolean): Page
  keeper(id: ID): Keeper
  echo(text: String = "none", number: Int, flag: Boolean, tag: Tag, id: ID): String
  selected: Page
  broken: Animal
  wrong: String
  panics: String
  nothing: Keeper
}
`

type (
	grams int
	tag   string
	id    string
)

func (g grams) AppendGraphQL(b []byte) []byte { return fmt.Appendf(b, "%d.0", int(g)) }

func (t *tag) UnmarshalGraphQL(v any) error { *t = tag(fmt.Sprintf("%T %v", v, v)); return nil }

func (i *id) UnmarshalGraphQL(v any) error {
	if _, ok := v.(bool); ok {
		return errors.New("a bool is no ID")
	}
	*i = id(fmt.Sprint(v))
	return nil
}

type animal struct {
	Name    *string
	Legs    *int32
	Tame    *bool
	Weight  *grams
	Tags    *[]*string
	Parents *[]*animal
	Keeper  *keeper
	Diet    string
	OldName *string
}

func (a *animal) Nicknames(args struct {
	Most int32
	Like *string
}) []string {
	list := []string{}
	for i := range args.Most {
		name := fmt.Sprintf("%s-%d", *a.Name, i)
		if args.Like != nil {
			name = *args.Like + name
		}
		list = append(list, name)
	}
	return list
}

func (a *animal) Sound(context.Context) (*string, error) {
	if *a.Name == "cat" {
		return nil, errors.New("the cat is asleep")
	}
	sound := "the " + *a.Name + "'s"
	return &sound, nil
}

type keeper struct {
	Name *string
	own  []*animal
}

func (k *keeper) Animals(_ context.Context, args struct{ Tag *tag }) (*[]*animal, error) {
	return &k.own, nil
}

type page struct {
	Items      []*animal
	TotalCount int32
}

type zoo struct{ all map[string]*animal }

func (z *zoo) Animal(_ context.Context, args struct{ Name string }) (*animal, error) {
	return z.all[args.Name], nil
}

func (z *zoo) Animals(args struct {
	Limit int32
	Tame  *bool
}) (*page, error) {
	if args.Limit < 0 {
		return nil, errors.New("that is not a limit")
	}
	p := &page{TotalCount: int32(len(z.all))}
	for _, name := range []string{"ape", "bee", "cat"} {
		if a := z.all[name]; len(p.Items) < int(args.Limit) && (args.Tame == nil || *a.Tame == *args.Tame) {
			p.Items = append(p.Items, a)
		}
	}
	return p, nil
}

func (z *zoo) Keeper(args struct{ ID *id }) *keeper { return z.all["ape"].Keeper }

func (z *zoo) Echo(args struct {
	Text   string
	Number *int32
	Flag   *bool
	Tag    *tag
	ID     *id
}) string {
	list := []string{args.Text}
	if args.Number != nil {
		list = append(list, fmt.Sprint(*args.Number))
	}
	if args.Flag != nil {
		list = append(list, fmt.Sprint(*args.Flag))
	}
	if args.Tag != nil {
		list = append(list, string(*args.Tag))
	}
	if args.ID != nil {
		list = append(list, "id "+string(*args.ID))
	}
	return strings.Join(list, "|")
}

func (z *zoo) Selected(ctx context.Context) *page {
	text := strings.Join(Selected(ctx), " ")
	return &page{Items: []*animal{{Name: &text, Keeper: &keeper{}}}}
}

func (z *zoo) Broken() *animal                        { return &animal{Name: z.all["ape"].Name} } // without its keeper
func (z *zoo) Wrong(context.Context) (string, error)  { return "", errors.New("it went wrong") }
func (z *zoo) Panics(context.Context) (string, error) { panic("a secret") }
func (z *zoo) Nothing() *keeper                       { return nil }

func newZoo() *Schema {
	text := func(s string) *string { return &s }
	k := &keeper{Name: text("Ann \"é😀<&>\u2028\x01\\")}
	z := &zoo{all: map[string]*animal{}}
	for i, name := range []string{"ape", "bee", "cat"} {
		legs, tame, weight := int32([]int{2, 6, 4}[i]), i != 1, grams(10000*i)
		z.all[name] = &animal{Name: &name, Legs: &legs, Tame: &tame, Weight: &weight, Keeper: k, Diet: "LEAVES", Tags: &[]*string{text("t"), nil}}
		k.own = append(k.own, z.all[name])
	}
	z.all["ape"].Parents = &[]*animal{z.all["bee"], nil, z.all["cat"]}
	return New(zooSchema, z, Limits{Nesting: 40, Depth: 8, Selections: 300, Overlaps: 200}, Hooks{
		Explain:  func(err error) string { return "explained: " + err.Error() },
		Panicked: func(any) string { return "something broke" },
	})
}

// answer shows an answer as a transcript does: the data, then a line for each problem.
func answer(s *Schema, query, name string, variables map[string]any) string {
	var b strings.Builder
	d, problems := s.Document(query)
	if problems == nil {
		var data []byte
		data, problems = s.Execute(context.Background(), "", d, name, variables)
		if data != nil {
			fmt.Fprintf(&b, "%s\n", data)
			if !json.Valid(data) {
				b.WriteString("NOT JSON\n")
			}
		}
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "! %s", strings.ReplaceAll(p.Message, "\n", "⏎"))
		for _, l := range p.Locations {
			fmt.Fprintf(&b, " at %d:%d", l.Line, l.Column)
		}
		if p.Path != nil {
			fmt.Fprintf(&b, " in %v", p.Path)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestTranscripts: each query is asked twice, so that the second answer comes from the cache.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newZoo()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			query, text, _ := strings.Cut(d.Input, "\n---\n")
			var variables map[string]any
			if text != "" {
				dec := json.NewDecoder(strings.NewReader(text))
				dec.UseNumber()
				if err := dec.Decode(&variables); err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			name := ""
			d.MaybeScanArgs(t, "operation", &name)
			first := answer(s, query, name, variables)
			if again := answer(s, query, name, variables); again != first {
				d.Fatalf(t, "the second time it is\n%s", again)
			}
			return first
		})
	})
}

// TestSelections of a document that its parts make large: by fragments, and by pairs of fields.
func TestSelections(t *testing.T) {
	s := newZoo()
	doubling := "{ keeper { ...F0 } }"
	for i := range 30 {
		doubling += fmt.Sprintf(" fragment F%d on Keeper { ...F%d ...F%d }", i, i+1, i+1)
	}
	for text, want := range map[string]string{
		doubling + " fragment F30 on Keeper { name }":                                                                                        "query expands to too many selections (limit 300)",
		"{ keeper { " + strings.Repeat("name ", 30) + "} }":                                                                                  "Overlapping field validation aborted after examining 200 pairs",
		"{ a: keeper { name } " + strings.Repeat("a: keeper { animals { name } } ", 15) + "}":                                                "Overlapping field validation aborted after examining 200 pairs",
		strings.Repeat("{ a ", 41) + strings.Repeat("}", 41):                                                                                 "Syntax Error GraphQL: the query is nested deeper than 40 levels",
		"{ keeper { ...F ...G } } fragment F on Keeper { animals { keeper { ...G } } } fragment G on Keeper { animals { keeper { ...F } } }": "Cannot spread fragment",
	} {
		if got := answer(s, text, "", nil); !strings.Contains(got, want) {
			t.Errorf("%.60s…\ngot  %.300s\nwant %s", text, got, want)
		}
	}
}

// TestBeside: documents and plans serve many requests at once, each with its own variables.
func TestBeside(t *testing.T) {
	s := newZoo()
	queries := []string{
		"query($t: String, $i: Boolean = true) { a: echo(text: $t) @include(if: $i) b: echo(text: $t) animals(limit: 3) { items { sound nicknames keeper { name } } } keeper { animals { sound } } }",
		"query($t: String) { a: echo(text: $t) b: echo(text: $t) animals(limit: 2) { items { sound } } }",
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			text := fmt.Sprintf("text-%d", i)
			got := answer(s, queries[i%2], "", map[string]any{"t": text})
			if strings.Count(got, `"`+text+`"`) != 2 {
				t.Errorf("%s is not twice in %s", text, got)
			}
		})
	}
	wg.Wait()
}

// TestCancelled: an answer that came too late is none.
func TestCancelled(t *testing.T) {
	s := newZoo()
	d, problems := s.Document("{ wrong }")
	if problems != nil {
		t.Fatal(problems)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	data, problems := s.Execute(ctx, "", d, "", nil)
	if data != nil || len(problems) != 1 || problems[0].Message != "context canceled" {
		t.Errorf("%s %v", data, problems)
	}
}

func TestFields(t *testing.T) {
	d, problems := newZoo().Document("query A { x: keeper { name } wrong } query B { __typename }")
	if problems != nil {
		t.Fatal(problems)
	}
	if got := d.Fields("A"); !slices.Equal(got, []string{"keeper", "wrong"}) {
		t.Error(got)
	}
	if got := d.Fields("C"); got != nil {
		t.Error(got)
	}
}

// TestMisfits: what does not fit is found when the program starts.
func TestMisfits(t *testing.T) {
	for name, do := range map[string]func(){
		"no field":        func() { New("type Query { a: String }", &struct{ B *string }{}, Limits{}, Hooks{}) },
		"no list":         func() { New("type Query { a: [String] }", &struct{ A *string }{}, Limits{}, Hooks{}) },
		"no scalar":       func() { New("type Query { a: String }", &struct{ A *float64 }{}, Limits{}, Hooks{}) },
		"no schema":       func() { New("type {", &struct{}{}, Limits{}, Hooks{}) },
		"argument":        func() { New("type Query { a(b: Int): String }", misfit{}, Limits{}, Hooks{}) },
		"argument's type": func() { New("type Query { b(c: Int!): String }", misfit{}, Limits{}, Hooks{}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it fits")
				}
			}()
			do()
		})
	}
}

type misfit struct{}

func (misfit) A() string                        { return "" }
func (misfit) B(args struct{ C *int32 }) string { return "" }
