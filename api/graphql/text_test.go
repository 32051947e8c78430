package graphql

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	backendai "backend.ai/manager"
)

// TestOutline: no text makes the rough reading fail, and places are inside the text.
func TestOutline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(rapid.SampledFrom([]string{"query", "fragment", "F", "on", "...", "{", "}", "(", ")", "[", "]", "$", "x", ":", "=", "!", "@", "Int", `"a\"b"`, `"`, `"""`, "#", "\n", ",", " "}), rapid.String())
		text := ""
		for _, p := range rapid.SliceOf(part).Draw(t, "text") {
			text += p
		}
		doc, ok := outline(text)
		if !ok {
			return
		}
		op := doc.operation("")
		for _, f := range op.fields() {
			if l, ok := doc.locate(op, []any{f}); ok && (l.Line < 1 || l.Column < 1) {
				t.Fatalf("%q: %v", text, l)
			}
		}
		doc.coerce(op, map[string]any{"x": json.Number("1")}, nil)
	})
}

func FuzzOutline(f *testing.F) {
	f.Add(`query Q($a: [Int!]! = [1], $b: String) { x: y(a: $a, s: "}") { ...F ... on T { z } } } fragment F on T { w }`)
	f.Fuzz(func(t *testing.T, text string) {
		if doc, ok := outline(text); ok {
			doc.locate(doc.operation(""), []any{"x", 1, "y"})
		}
	})
}

// TestRespell: bodies are spelled like every other answer of the API.
func TestRespell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"a": rapid.String().Draw(t, "a"), "b": []any{rapid.Float64().Draw(t, "b"), nil, rapid.String().Draw(t, "c")}, rapid.String().Draw(t, "k"): true}
		compact, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		want, err := backendai.EncodeJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := respell(nil, compact); string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestPlainSlots(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, `{"cpu": "1", "mem": "268435456"}`: true, `{"cuda.shares": "0.5"}`: true, `{"cpu": 1}`: false, `{"mem": "4g"}`: false, `{"a": "1", "b": null}`: false,
		`null`: false, `{"a": {"b": "1"}}`: false, `{"cpu": ""}`: false, `{"cpu": 1, "mem": "2"}`: false,
	} {
		if plainSlots(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// TestParseTime: dates without a zone are in this machine's.
func TestParseTime(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("here", 9*3600)
	for text, want := range map[string]string{
		"2022-05-01": "2022-04-30T15:00:00Z", "2022-05-01 12:00:00": "2022-05-01T03:00:00Z", "2022-05-01T12:00:00Z": "2022-05-01T12:00:00Z",
		"2022-05-01T12:00:00+00:00": "2022-05-01T12:00:00Z", "2022-05-01T12:00:00+01:00": "2022-05-01T11:00:00Z", "Sun, 01 May 2022 12:00:00 GMT": "2022-05-01T12:00:00Z",
	} {
		got, ok := parseTime(text)
		if !ok || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}
