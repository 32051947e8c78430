package listing

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// shown writes a filter with all brackets.
func shown(n node) string {
	switch n := n.(type) {
	case not:
		return "!(" + shown(n.of) + ")"
	case junction:
		op := " & "
		if n.or {
			op = " | "
		}
		return "(" + shown(n.left) + op + shown(n.right) + ")"
	case comparison:
		return n.name + " " + string(n.op) + " " + backendai.Repr(n.value)
	}
	return "?"
}

func TestParseFilter(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`a == 1 & b == 2 | c == 3`, `(a == 1 & (b == 2 | c == 3))`},
		{`!a == 1 & b == 2`, `!((a == 1 & b == 2))`},
		{`!(a == 1) & b == 2`, `!((a == 1 & b == 2))`},
		{`(a == 1 & b == 2) | c == 3`, `((a == 1 & b == 2) | c == 3)`},
		{` name  like "g%" `, `name like 'g%'`},
		{`name=="x\"y\\"`, `name == 'x"y\\\\'`},
		{`a in ["x", "y"]`, `a in ['x', 'y']`},
		{`a in []`, `a in []`},
		{`a isnot null`, `a isnot None`},
		{`a is true`, `a is True`},
		{`a >= -1.5e3`, `a >= -1500`},
		{`a<=+7`, `a <= 7`},
		{`a == "é
"`, "ERROR unexpected '\"é', at line 1 col 6"},
		{`a == 1e3`, "ERROR unexpected '1e3', at line 1 col 6"},
		{`name ~~ 3`, "ERROR unexpected '~', at line 1 col 6"},
		{``, "ERROR unexpected end of the text, at line 1 col 1"},
		{`a == "x`, "ERROR unexpected '\"x', at line 1 col 6"},
		{`a == 1 b`, "ERROR unexpected 'b', at line 1 col 8"},
		{"a == 1 &\n  ]", "ERROR unexpected ']', at line 2 col 3"},
		{`a in [[1]]`, "ERROR unexpected '[', at line 1 col 7"},
		{strings.Repeat("(", 5000), "ERROR more than 1000 terms"},
		{strings.Repeat("!", 5000), "ERROR more than 1000 terms"},
		{"a in [" + strings.Repeat("1,", 5000), "ERROR more than 1000 terms"},
	} {
		got := ""
		if n, err := parseFilter(c.text); err != nil {
			got = "ERROR " + err.Error()
		} else {
			got = shown(n)
		}
		if got != c.want {
			t.Errorf("%.60q:\ngot  %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestParseOrder(t *testing.T) {
	for text, want := range map[string]int{"": 0, " ": 0, "a": 1, "-a, +b,c": 3, "a,": -1, "a b": -1, "--a": -1, "1": -1, "a;b": -1} {
		list, err := parseOrder(text)
		if n := len(list); err != nil && want != -1 || err == nil && n != want {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
}

var paged = map[string]*Relation{"sessions": Sessions, "containers": Containers, "keypairs": Keypairs, "users": Users, "agents": Agents, "folders": VirtualFolders}

func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse("2006-01-02", text)
	return t, err == nil
}

// values that a filter may compare a kind with.
var fitting = map[valueType][]string{
	textValue: {`"x"`, `"%_"`, `"'; DROP TABLE kernels; --"`, `"é\""`}, numberValue: {"1", "-1.5", "9223372036854775807"}, boolValue: {"true", "false"},
	timeValue: {`"2022-01-01"`}, uuidValue: {`"2de2b969-1d04-48a6-af16-0bc8adb3c831"`},
}

// TestEveryName: every filter and order name of every list, with every operator that fits, is SQL that the database takes.
func TestEveryName(t *testing.T) {
	pool := dbtest.New(t)
	for relation, r := range paged {
		for name, o := range r.filters {
			values := slices.Clone(fitting[o.kind])
			for v := range o.enum {
				values = append(values, `"`+v+`"`)
			}
			for _, v := range values {
				for _, op := range []string{"==", "!=", ">", ">=", "<", "<=", "is", "isnot"} {
					count(t, pool, r, relation, name+" "+op+" "+v)
				}
				count(t, pool, r, relation, name+" in ["+v+", "+v+"]")
				if o.kind == textValue {
					count(t, pool, r, relation, name+" contains "+v+" | "+name+" like "+v+" | "+name+" ilike "+v)
				}
			}
			count(t, pool, r, relation, name+" is null & !"+name+" != null")
		}
		for name := range r.orders {
			order := "-" + name + ", +" + name
			if _, err := Read[struct{}](context.Background(), pool, r, Query{Order: &order}, nil); err != nil {
				t.Errorf("%s ordered by %s: %v", relation, order, err)
			}
		}
	}
	for name := range LegacySessions.orders {
		if _, err := Read[struct{}](context.Background(), pool, LegacySessions, Query{Order: &name}, nil); err != nil {
			t.Errorf("legacy sessions ordered by %s: %v", name, err)
		}
	}
}

func count(t *testing.T, pool *pgxpool.Pool, r *Relation, relation, filter string) {
	t.Helper()
	if _, err := Count(context.Background(), pool, r, Query{Filter: &filter, ParseTime: parseTime}); err != nil {
		t.Errorf("%s, %s: %v", relation, filter, err)
	}
}

// TestAnyText: whatever is asked for, the answer is rows or a complaint, never an error of the database, and no text gets into the SQL.
func TestAnyText(t *testing.T) {
	pool := dbtest.New(t)
	relations := slices.Sorted(maps.Keys(paged))
	rapid.Check(t, func(t *rapid.T) {
		r := paged[rapid.SampledFrom(relations).Draw(t, "relation")]
		names := append(slices.Sorted(maps.Keys(r.filters)), "nope")
		part := rapid.OneOf(rapid.SampledFrom(names), rapid.SampledFrom([]string{"==", "!=", ">", "<=", "contains", "in", "is", "isnot", "like", "ilike", "&", "|", "!", "(", ")", "[", "]", ",",
			"null", "true", "1", "-2.5", "1e400", "99999999999999999999", `"RUNNING"`, `"2022-01-01"`, `"a\"b"`, `"\\"`, `"%"`, `"'"`, "\"\x00\"", `$1`, ";", "--", "\xff"}), rapid.String())
		filter := strings.Join(rapid.SliceOfN(part, 0, 12).Draw(t, "filter"), " ")
		order := strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(append(slices.Sorted(maps.Keys(r.orders)), "-", "+", ",", "nope")), rapid.String()), 0, 5).Draw(t, "order"), " ")
		q := Query{Filter: &filter, Order: &order, ParseTime: parseTime}
		if rapid.Bool().Draw(t, "plain order") {
			q.Order = nil
		}
		if _, err := Read[struct{}](context.Background(), pool, r, q, nil); err != nil && !errors.Is(err, backendai.InvalidArgument) {
			t.Fatalf("filter %q, order %q: %v", filter, order, err)
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`name like "g%" & status == "RUNNING"`, `!(a in [1, "x"]) | b isnot null`, `"`, `((((`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range paged {
			s := &statement{relation: r, query: Query{Filter: &text, Order: &text, ParseTime: parseTime}}
			if err := s.conditions(); err == nil && len(s.where) != 1 {
				t.Fatalf("%q: %q", text, s.where)
			}
			_, _ = s.orderBy()
		}
	})
}
