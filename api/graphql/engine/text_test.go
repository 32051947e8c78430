package engine

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	backendai "backend.ai/manager"
)

// TestText: texts are spelled like every other answer of the API.
func TestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		want, err := backendai.EncodeJSON(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendText(nil, s); string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// robust: no text makes the engine fail, answers are JSON, and places are inside the text.
func robust(t interface{ Fatalf(string, ...any) }, s *Schema, text string) {
	d, problems := s.Document(text)
	if problems == nil {
		var data []byte
		data, problems = s.Execute(context.Background(), "", d, "", map[string]any{"x": json.Number("1"), "y": true, "z": "text"})
		if data != nil && !json.Valid(data) {
			t.Fatalf("%q: %s", text, data)
		}
	}
	lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1
	for _, p := range problems {
		if p.Message == "something broke" && !strings.Contains(text, "panics") {
			t.Fatalf("%q: %v", text, p)
		}
		for _, l := range p.Locations {
			if l.Line < 1 || l.Line > lines || l.Column < 1 || l.Column > len(text)+2 {
				t.Fatalf("%q: %v", text, p)
			}
		}
	}
}

func TestRobust(t *testing.T) {
	s := newZoo()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(rapid.SampledFrom([]string{"query", "mutation", "fragment", "F", "on", "Keeper", "Animal", "...", "...F", "{", "}", "{", "}", "(", ")", "[", "]", "$", "x", "$x", "$y", ":", "=", "!", "@", "@skip(if: $y)",
			"@include(if: true)", "Int", "String", "keeper", "animals", "animal(name: \"ape\")", "echo(text: $z)", "name", "__typename", "__schema", "panics", "if", `"a\"b"`, `"`, `"""`, "#", "\n", "\r", ",", " ", "é"}), rapid.String())
		robust(t, s, strings.Join(rapid.SliceOf(part).Draw(t, "text"), " "))
	})
}

func FuzzDocument(f *testing.F) {
	f.Add(`query Q($x: Int! = 1, $y: Boolean) { a: echo(number: $x, text: "}") @skip(if: $y) ...F ... on Zoo { keeper { name } } } fragment F on Zoo { wrong }`)
	f.Add("{ keeper @x { ...F @y(a: \"\") } } fragment F on T { w }")
	s := newZoo()
	f.Fuzz(func(t *testing.T, text string) { robust(t, s, text) })
}

// TestCache: it is bounded, and forgets what was not used for longest.
func TestCache(t *testing.T) {
	s := newZoo()
	pad := strings.Repeat(" ", 10_000)
	query := func(i int) string { return "{ a" + strings.Repeat("b", i) + ": echo }" + pad }
	first, _ := s.Document(query(0))
	for i := 1; i < 300; i++ {
		if _, problems := s.Document(query(i)); problems != nil {
			t.Fatal(problems)
		}
		if again, _ := s.Document(query(0)); again != first {
			t.Fatalf("the document in use is forgotten after %d others", i)
		}
	}
	if s.cache.bytes > mostCached || len(s.cache.found) != s.cache.order.Len() {
		t.Errorf("%d bytes, %d and %d documents", s.cache.bytes, len(s.cache.found), s.cache.order.Len())
	}
	old, _ := s.Document(query(1))
	if s.cache.get(query(2)) != nil || s.cache.get(query(1)) != old {
		t.Error("documents are not forgotten by age")
	}
	if long := "{ echo }" + strings.Repeat(" ", longestCached); func() bool { _, _ = s.Document(long); return s.cache.get(long) != nil }() {
		t.Error("a long text is kept")
	}
	if _, problems := s.Document("{ nope }"); problems == nil || s.cache.get("{ nope }") != nil {
		t.Error("a wrong document is kept")
	}
}
