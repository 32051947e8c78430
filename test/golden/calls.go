package golden

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"backend.ai/manager/actors/agent/callosum"
)

// Call is one recorded call of an agent, as JSON: bytes are {"bin_hex": "…"}.
type Call struct {
	Args   []any          `json:"args"`
	Kwargs map[string]any `json:"kwargs"`
}

// LoadCalls reads a capture of calls: the first of each method.
func LoadCalls(tb testing.TB, path string) map[string]Call {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var frames map[string][]struct {
		Request struct{ Payload Call }
	}
	if err := json.Unmarshal(raw, &frames); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	calls := make(map[string]Call, len(frames))
	for method, list := range frames {
		if len(list) > 0 {
			calls[method] = list[0].Request.Payload
		}
	}
	return calls
}

// CallOf is a call that was made, in the form of recorded ones.
func CallOf(tb testing.TB, c callosum.Call) (call Call) {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"args": textual(c.Args), "kwargs": textual(c.Kwargs)})
	if err == nil {
		err = json.Unmarshal(text, &call)
	}
	if err != nil {
		tb.Fatalf("%s: %v", c.Method, err)
	}
	return call
}

// textual replaces bytes.
func textual(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"bin_hex": hex.EncodeToString(v)}
	case []any:
		l := make([]any, len(v))
		for i, item := range v {
			l[i] = textual(item)
		}
		return l
	case callosum.Map:
		m := make(map[string]any, len(v))
		for _, e := range v {
			m[e.Key] = textual(e.Value)
		}
		return m
	}
	return v
}
