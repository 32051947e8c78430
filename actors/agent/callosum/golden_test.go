package callosum

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorded is one call as the original manager made it, with the answer it got.
type recorded struct {
	Request struct {
		Header    json.RawMessage `json:"header"`
		HeaderHex string          `json:"header_hex"`
		Payload   Map             `json:"payload"`
		BodyHex   string          `json:"body_hex"`
	} `json:"request"`
	Response struct {
		HeaderHex string   `json:"header_hex"`
		Meta      []string `json:"meta"`
		Payload   jsonAny  `json:"payload"`
		BodyHex   string   `json:"body_hex"`
	} `json:"response"`
}

// jsonAny reads a recorded value, with {"bin_hex": …} turned into bytes.
type jsonAny struct{ v any }

func (a *jsonAny) UnmarshalJSON(data []byte) error {
	var m Map
	if err := json.Unmarshal([]byte(`{"v":`+string(data)+`}`), &m); err != nil {
		return err
	}
	a.v = withBytes(m[0].Value)
	return nil
}

func withBytes(v any) any {
	switch v := v.(type) {
	case Map:
		for _, key := range []string{"bin_hex", "bin_text"} {
			if s, ok := v.Get(key); ok {
				if key == "bin_text" {
					return []byte(s.(string))
				}
				b, err := hex.DecodeString(s.(string))
				if err != nil {
					panic(err)
				}
				return b
			}
		}
		out := make(Map, len(v))
		for i, e := range v {
			out[i] = Entry{e.Key, withBytes(e.Value)}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = withBytes(x)
		}
		return out
	}
	return v
}

func loadRecorded(t *testing.T) map[string][]recorded {
	t.Helper()
	raw, err := os.ReadFile("testdata/rpc-frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]recorded
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// requestsOf maps a method to the request type that must reproduce its recorded calls.
var requestsOf = map[string]func() interface {
	Bind(Arguments) error
}{
	MethodCreateKernels:       func() interface{ Bind(Arguments) error } { return &CreateKernels{} },
	MethodDestroyKernel:       func() interface{ Bind(Arguments) error } { return &DestroyKernel{} },
	MethodRestartKernel:       func() interface{ Bind(Arguments) error } { return &RestartKernel{} },
	MethodInterruptKernel:     func() interface{ Bind(Arguments) error } { return &InterruptKernel{} },
	MethodGetCompletions:      func() interface{ Bind(Arguments) error } { return &GetCompletions{} },
	MethodGetLogs:             func() interface{ Bind(Arguments) error } { return &GetLogs{} },
	MethodExecute:             func() interface{ Bind(Arguments) error } { return &Execute{} },
	MethodStartService:        func() interface{ Bind(Arguments) error } { return &StartService{} },
	MethodShutdownService:     func() interface{ Bind(Arguments) error } { return &ShutdownService{} },
	MethodUploadFile:          func() interface{ Bind(Arguments) error } { return &UploadFile{} },
	MethodDownloadFile:        func() interface{ Bind(Arguments) error } { return &DownloadFile{} },
	MethodListFiles:           func() interface{ Bind(Arguments) error } { return &ListFiles{} },
	MethodGatherHWInfo:        func() interface{ Bind(Arguments) error } { return &GatherHWInfo{} },
	MethodUpdateScalingGroup:  func() interface{ Bind(Arguments) error } { return &UpdateScalingGroup{} },
	MethodCreateLocalNetwork:  func() interface{ Bind(Arguments) error } { return &NetworkCall{} },
	MethodDestroyLocalNetwork: func() interface{ Bind(Arguments) error } { return &NetworkCall{} },
	MethodPing:                func() interface{ Bind(Arguments) error } { return &Ping{} },
	MethodPingKernel:          func() interface{ Bind(Arguments) error } { return &PingKernel{} },
}

// retype decodes a payload into its request type and encodes it again.
func retype(t *testing.T, method string, payload []byte) []byte {
	t.Helper()
	args, err := DecodeArguments(method, payload)
	if err != nil {
		t.Fatal(err)
	}
	req := requestsOf[method]()
	if err := req.Bind(args); err != nil {
		t.Fatal(err)
	}
	again, err := req.(interface{ Call() Call }).Call().Payload()
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestRecordedFrames(t *testing.T) {
	for name, calls := range loadRecorded(t) {
		for _, rec := range calls {
			t.Run(name, func(t *testing.T) { checkRecorded(t, rec) })
		}
	}
}

func checkRecorded(t *testing.T, rec recorded) {
	want := withBytes(rec.Request.Payload)
	header := unhex(t, rec.Request.HeaderHex)
	if strings.HasPrefix(rec.Request.BodyHex, "left out") {
		// A request with a key in it: the recorded value stands for the frame.
		payload, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := decodeHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeValue(retype(t, m.Method, payload))
		if err != nil {
			t.Fatal(err)
		}
		// The typed request sorts the keys of free maps; the content must be the same.
		if d := cmp.Diff(unordered(want), unordered(again)); d != "" {
			t.Errorf("typed request differs (-recorded +ours):\n%s", d)
		}
	} else {
		frames := [][]byte{header, unhex(t, rec.Request.BodyHex)}
		m, err := Decode(frames, DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeValue(m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("request payload (-recorded +ours):\n%s", d)
		}
		call, err := DecodeCall(m.Method, m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := call.Payload()
		if err != nil {
			t.Fatal(err)
		}
		for what, p := range map[string][]byte{"call": payload, "typed request": retype(t, m.Method, m.Payload)} {
			again, err := EncodeRequest(m.ID, Fence{}, p)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again[0], frames[0]) || !bytes.Equal(again[1], frames[1]) {
				t.Errorf("%s encodes to\n%x %x, recorded\n%x %x", what, again[0], again[1], frames[0], frames[1])
			}
		}
	}

	if strings.HasPrefix(rec.Response.BodyHex, "left out") {
		return
	}
	frames := [][]byte{unhex(t, rec.Response.HeaderHex), unhex(t, rec.Response.BodyHex)}
	m, err := Decode(frames, DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeValue(m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(rec.Response.Payload.v, got); d != "" {
		t.Errorf("response payload (-recorded +ours):\n%s", d)
	}
	again, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again[0], frames[0]) || !bytes.Equal(again[1], frames[1]) {
		t.Errorf("response encodes to %x %x", again[0], again[1])
	}
}

func unordered(v any) any {
	switch v := v.(type) {
	case Map:
		m := map[string]any{}
		for _, e := range v {
			m[e.Key] = unordered(e.Value)
		}
		return m
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = unordered(x)
		}
		return out
	}
	return v
}

// TestRecordedAgent reads what an original agent answered to calls of ours.
func TestRecordedAgent(t *testing.T) {
	raw, err := os.ReadFile("testdata/rpc-docker-agent.json")
	if err != nil {
		t.Fatal(err)
	}
	var calls []struct {
		Method      string   `json:"method"`
		RequestHex  []string `json:"request_hex"`
		ResponseHex []string `json:"response_hex"`
		Payload     jsonAny  `json:"payload"`
	}
	if err := json.Unmarshal(raw, &calls); err != nil {
		t.Fatal(err)
	}
	answers := 0
	for _, c := range calls {
		frames := [][]byte{unhex(t, c.RequestHex[0]), unhex(t, c.RequestHex[1])}
		m, err := Decode(frames, DecodeOptions{})
		if err != nil {
			t.Fatalf("%s: %v", c.Method, err)
		}
		if requestsOf[c.Method] != nil {
			again, err := EncodeRequest(m.ID, Fence{}, retype(t, c.Method, m.Payload))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again[1], frames[1]) {
				t.Errorf("%s: typed request encodes to %x, recorded %x", c.Method, again[1], frames[1])
			}
		}
		if c.ResponseHex == nil {
			continue
		}
		answers++
		m, err = Decode([][]byte{unhex(t, c.ResponseHex[0]), unhex(t, c.ResponseHex[1])}, DecodeOptions{})
		if err != nil {
			t.Fatalf("%s: %v", c.Method, err)
		}
		got, err := DecodeValue(m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.Payload.v, got); d != "" {
			t.Errorf("%s (-recorded +ours):\n%s", c.Method, d)
		}
		if c.Method == MethodExecute {
			res, err := Execute{}.Result(m.Payload)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeValue(again)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(unordered(got), unordered(back)); d != "" {
				t.Errorf("execute result (-recorded +ours):\n%s", d)
			}
		}
	}
	if answers < 15 {
		t.Errorf("only %d answers were recorded in full", answers)
	}
}
