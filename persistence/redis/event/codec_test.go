package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
)

type recorded struct {
	Name, Source string
	Hex          string `json:"args_hex"`
	Args         json.RawMessage
}

// TestRecordedEvents: what the original publishes is understood, and encoded again byte for byte.
func TestRecordedEvents(t *testing.T) {
	text, err := os.ReadFile("testdata/events.json")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string][]recorded{}
	if err := json.Unmarshal(text, &byName); err != nil {
		t.Fatal(err)
	}
	if len(byName) < 20 {
		t.Fatal("only", len(byName))
	}
	for name, entries := range byName {
		for _, r := range entries {
			if r.Hex == "" {
				continue // args hold paths of the recording machine
			}
			args, _ := hex.DecodeString(r.Hex)
			e, err := Decode(name, args)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			again, packed, err := Encode(e)
			if name == "agent_heartbeat" { // two snappy libraries need not find the same matches
				same, _ := Decode(name, packed)
				cut := bytes.Index(args, []byte("images"))
				if !bytes.HasPrefix(packed, args[:cut]) || cmp.Diff(e, same) != "" {
					t.Errorf("%x", packed)
				}
				continue
			}
			if err != nil || again != name || !bytes.Equal(packed, args) {
				t.Errorf("%s: %v\ngot  %x\nwant %s", name, err, packed, r.Hex)
			}
		}
	}
	args, _ := hex.DecodeString(byName["agent_heartbeat"][0].Hex)
	e, _ := Decode("agent_heartbeat", args)
	h := e.(AgentHeartbeat).Info
	if h.Addr != "tcp://127.0.0.1:6001" || h.ScalingGroup != "default" || h.Architecture != "x86_64" || len(h.Images) != 2 || h.Images[1].Tag != "base:1" ||
		cmp.Diff(h.Slots, []Slot{{"cpu", "count", "2"}, {"mem", "bytes", "24202321920"}}) != "" {
		t.Errorf("%+v", h)
	}
	plugins, err := json.Marshal(h.ComputePlugins)
	if want := `{"cpu":{"version":"22.03.3","agent_version":"22.03.3","machine":"x86_64","os_type":"Linux"},"mem":{"version":"22.03.3"}}`; err != nil || string(plugins) != want {
		t.Error(string(plugins), err)
	}
}

func TestSpecifiedBytes(t *testing.T) {
	kernel := backendai.KernelID{UUID: uuid.MustParse("3e4529dd-26fe-4307-b35f-e79f74599056")}
	for want, e := range map[string]Event{
		"90":                           DoSchedule{},
		"91ac73656c662d73746172746564": AgentStarted{"self-started"},
		"93d924" + hex.EncodeToString([]byte(kernel.String())) + "a178ff": KernelTerminated{kernel, "x", -1},
		"94a174" + "01" + "cb4004000000000000" + "a0":                     BgtaskUpdated{"t", Int(1), FloatOf(2.5), new(string)},
		"95a16dc0c080a56572726f72":                                        AgentError{Message: "m", Context: Object{}, Severity: "error"},
		"9191d924" + hex.EncodeToString([]byte(kernel.String())):          DoSyncKernelStats{[]backendai.KernelID{kernel}},
	} {
		name, args, err := Encode(e)
		if err != nil || hex.EncodeToString(args) != want {
			t.Errorf("%s: %x %v", name, args, err)
		}
	}
	_, args, err := Encode(AgentHeartbeat{Heartbeat{Addr: "t"}})
	if err != nil || !bytes.Contains(args, []byte{0xc4, 3, 1, 0, 0x90}) {
		t.Errorf("%x %v", args, err)
	}
	images := []byte{0x12, 0x44}
	raw, _ := hex.DecodeString("9192a5612f623a31a97368613235363a3030")
	if got, err := unpackImages(append(images, raw...)); err != nil || cmp.Diff(got, []Image{{"a/b:1", "sha256:00"}}) != "" {
		t.Error(got, err)
	}
}

func TestTolerance(t *testing.T) {
	decode := func(name, args string) (Event, error) {
		b, err := hex.DecodeString(args)
		if err != nil {
			t.Fatal(err)
		}
		return Decode(name, b)
	}
	if e, err := decode("agent_started", "92a178c0"); err != nil || e.(AgentStarted).Reason != "x" {
		t.Error("extra elements must be ignored", e, err)
	}
	if e, err := decode("agent_started", "91c0"); err != nil || e.(AgentStarted).Reason != "" {
		t.Error(e, err)
	}
	if _, err := decode("of_tomorrow", "90"); backendai.CodeOf(err) != backendai.ObjectNotFound {
		t.Error(err)
	}
	for name, args := range map[string]string{
		"agent_started":        "90",               // too few
		"do_schedule":          "c3",               // no array
		"kernel_started":       "93a178a178a178",   // no uuid
		"do_sync_kernel_stats": "91dd7fffffff",     // a claimed length
		"agent_error":          "95a0c0c08101c0a0", // a number as key
		"agent_heartbeat":      "9180",             // nothing in it
		"agent_terminated":     "91d40001",         // an extension
		"session_terminated":   "92",
	} {
		if _, err := decode(name, args); backendai.CodeOf(err) != backendai.InvalidArgument {
			t.Errorf("%s %s: %v", name, args, err)
		}
	}
	if _, _, err := Encode(AgentError{Context: Object{{"x", struct{}{}}}}); backendai.CodeOf(err) != backendai.InvalidArgument {
		t.Error(err)
	}
	// Unreadable images leave the heartbeat itself standing.
	var b bytes.Buffer
	enc := newEncoder(&b)
	_ = encodeAny(enc, []any{Object{{"addr", "tcp://h:1"}, {"resource_slots", Object{{"cpu", []any{"count", "1"}}, {"odd", "x"}}}, {"images", []byte{255, 255}}}})
	e, err := Decode("agent_heartbeat", b.Bytes())
	if err != nil || e.(AgentHeartbeat).Info.ImagesErr == nil || len(e.(AgentHeartbeat).Info.Slots) != 1 {
		t.Error(e, err)
	}
}

func TestNumberAsJSON(t *testing.T) {
	for want, n := range map[string]Number{"1": Int(1), "1.0": FloatOf(1), "0.5": FloatOf(0.5)} {
		if got, err := json.Marshal(n); err != nil || string(got) != want {
			t.Error(string(got), err)
		}
	}
	if got, err := json.Marshal(Object{{"b", math.NaN()}, {"a", int64(1)}}); err != nil || string(got) != `{"b":null,"a":1}` {
		t.Error(string(got), err)
	}
}

// TestEveryEventReturns: any event of the catalogue, filled with anything, comes back as it was.
func TestEveryEventReturns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(catalogue).Draw(t, "event")
		v := reflect.New(reflect.TypeOf(c.event)).Elem()
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
		e := v.Interface().(Event)
		name, args, err := Encode(e)
		if err != nil || name != c.name {
			t.Fatal(name, err)
		}
		got, err := Decode(name, args)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got, cmp.AllowUnexported(Number{})); d != "" {
			t.Fatal(d)
		}
	})
}

func fill(t *rapid.T, f reflect.Value) {
	words := rapid.StringMatching(`[a-zé ]{0,40}`)
	newID := func() uuid.UUID { return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")) }
	switch p := f.Addr().Interface().(type) {
	case *string:
		*p = words.Draw(t, "text")
	case **string:
		if rapid.Bool().Draw(t, "some") {
			s := words.Draw(t, "text")
			*p = &s
		}
	case *int:
		*p = int(rapid.Int32().Draw(t, "int"))
	case *float64:
		*p = rapid.Float64Range(-1e9, 1e9).Draw(t, "float")
	case *Number:
		*p = rapid.OneOf(rapid.Just(Int(-3)), rapid.Just(Int(1<<40)), rapid.Just(FloatOf(1.5))).Draw(t, "number")
	case *backendai.SessionID:
		p.UUID = newID()
	case *backendai.KernelID:
		p.UUID = newID()
	case *backendai.CreationID:
		*p = backendai.CreationID(words.Draw(t, "creation"))
	case *[]backendai.KernelID:
		*p = []backendai.KernelID{}
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			*p = append(*p, backendai.KernelID{UUID: newID()})
		}
	case *Object:
		*p = Object{{"k", words.Draw(t, "text")}, {"n", int64(300)}, {"o", Object{{"l", []any{true, nil, 0.5, []byte{1}}}}}}
	case *Heartbeat:
		*p = Heartbeat{Addr: "tcp://h:1", Region: words.Draw(t, "text"), Slots: []Slot{{"cpu", "count", "4"}}, ComputePlugins: Object{{"cpu", Object{}}}, Images: []Image{{"a:1", "x"}}}
	default:
		t.Fatalf("no generator for %T", p)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range catalogue {
		_, args, _ := Encode(c.event)
		f.Add(c.name, args)
	}
	f.Fuzz(func(t *testing.T, name string, args []byte) {
		e, err := Decode(name, args)
		if err == nil && !strings.Contains(name, "_") {
			t.Errorf("%T", e)
		}
	})
}
