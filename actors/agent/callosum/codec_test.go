package callosum

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustPayload(t testing.TB, c Call) []byte {
	t.Helper()
	p, err := c.Payload()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The worked example of spec §2.10.
func TestWorkedExample(t *testing.T) {
	id := ID{Method: "ping"}
	failure := &RemoteError{Name: "ValueError", Repr: "ValueError('x')", Traceback: "tb\n", Kind: MessageFailure}
	for _, c := range []struct {
		name         string
		m            Message
		header, body string
	}{
		{"request", Message{Type: MessageFunction, ID: id, Payload: mustPayload(t, Ping{"hi"}.Call())},
			"85a47479706501a46d657468a470696e67a46f6b6579a0a373657100a37a6970c2",
			"82a46d657461c400a4626f6479c41282a46172677391a26869a66b776172677380"},
		{"result", Message{Type: MessageResult, ID: id, Payload: []byte("\xa2hi")},
			"85a47479706502a46d657468a470696e67a46f6b6579a0a373657100a37a6970c2", "82a46d657461c40190a4626f6479c403a26869"},
		{"failure", Message{Type: MessageFailure, ID: id, Err: failure},
			"85a47479706503a46d657468a470696e67a46f6b6579a0a373657100a37a6970c2",
			"82a46d657461c42093aa56616c75654572726f72af56616c75654572726f722827782729a374620aa4626f6479c0"},
		{"cancel", Message{Type: MessageCancel, ID: id},
			"85a47479706505a46d657468a470696e67a46f6b6579a0a373657100a37a6970c2", "82a46d657461c40190a4626f6479c0"},
		{"seq and bin key", Message{Type: MessageCancelled, ID: ID{"ping", OrderKey{Bin: true}, 300}},
			"85a47479706506a46d657468a470696e67a46f6b6579c400a3736571cd012ca37a6970c2", "82a46d657461c40190a4626f6479c0"},
		{"fence", Message{Type: MessageFunction, ID: id, Fence: Fence{7, 300}},
			"86a47479706501a46d657468a470696e67a46f6b6579a0a373657100a37a6970c2a566656e63659207cd012c", "82a46d657461c400a4626f6479c0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			frames, err := Encode(c.m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(frames[0], unhex(t, c.header)) || !bytes.Equal(frames[1], unhex(t, c.body)) {
				t.Errorf("got %x %x", frames[0], frames[1])
			}
			back, err := Decode([][]byte{[]byte("peer"), {}, frames[0], frames[1]}, DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.m, back); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCompressedBody(t *testing.T) {
	frames, err := EncodeResult(ID{Method: "ping"}, []byte("\xa2hi"))
	if err != nil {
		t.Fatal(err)
	}
	zip := bytes.Replace(frames[0], []byte("\xa3zip\xc2"), []byte("\xa3zip\xc3"), 1)
	m, err := Decode([][]byte{zip, snappy.Encode(nil, frames[1])}, DecodeOptions{})
	if err != nil || string(m.Payload) != "\xa2hi" {
		t.Fatalf("%q, %v", m.Payload, err)
	}
	bomb := snappy.Encode(nil, make([]byte, 1<<20))
	if _, err := Decode([][]byte{zip, bomb}, DecodeOptions{MaxBody: 1 << 19}); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("bomb: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := EncodeResult(ID{Method: "ping"}, []byte{0xc0})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		frames [][]byte
		header bool // the header can still be read
	}{
		"one frame":       {[][]byte{good[0]}, false},
		"no map":          {[][]byte{{0x90}, good[1]}, false},
		"missing key":     {[][]byte{unhex(t, "81a47479706501"), good[1]}, false},
		"unknown type":    {[][]byte{bytes.Replace(good[0], []byte("type\x02"), []byte("type\x09"), 1), good[1]}, false},
		"body cut":        {[][]byte{good[0], good[1][:5]}, true},
		"body with ext":   {[][]byte{good[0], unhex(t, "82a46d657461c0a4626f6479d40100")}, true},
		"integer map key": {[][]byte{good[0], unhex(t, "8101c0")}, true},
	} {
		m, err := Decode(c.frames, DecodeOptions{})
		if err == nil || errors.Is(err, ErrNoHeader) == c.header || c.header && m.Method != "ping" {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestMarshalRefusesWhatPeersCannotRead(t *testing.T) {
	for name, v := range map[string]any{
		"time":    time.Unix(0, 0),
		"int key": map[int]string{1: "x"},
		"latin-1": "caf\xe9",
		"channel": make(chan int),
	} {
		if _, err := Marshal(v); err == nil {
			t.Errorf("%s was encoded", name)
		}
	}
	deep := bytes.Repeat([]byte{0x91}, 100000)
	if err := Check(append(deep, 0xc0)); err == nil || !strings.Contains(err.Error(), "nesting") {
		t.Errorf("deep nesting: %v", err)
	}
}

func anyValue(depth int) *rapid.Generator[any] {
	leaf := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(),
		rapid.Uint64Range(math.MaxInt64+1, math.MaxUint64).AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return f == f }).AsAny(), rapid.String().AsAny(),
		rapid.Custom(func(t *rapid.T) any { return append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "b")...) }),
	}
	if depth == 0 {
		return rapid.OneOf(leaf...)
	}
	return rapid.OneOf(append(leaf,
		rapid.Custom(func(t *rapid.T) any {
			return append([]any{}, rapid.SliceOfN(anyValue(depth-1), 0, 20).Draw(t, "list")...)
		}),
		rapid.Custom(func(t *rapid.T) any {
			m := Map{}
			for range rapid.IntRange(0, 20).Draw(t, "n") {
				m = append(m, Entry{rapid.String().Draw(t, "key"), anyValue(depth-1).Draw(t, "value")})
			}
			return m
		}))...)
}

func TestValuesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue(3).Draw(t, "v")
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeValue(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(v, back); d != "" {
			t.Fatal(d)
		}
		again, err := Marshal(back)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x then %x, %v", b, again, err)
		}
		// Whatever is cut off is noticed.
		if err := Check(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("cut value passed")
		}
	})
}

func FuzzDecode(f *testing.F) {
	frames, _ := EncodeResult(ID{Method: "ping"}, []byte{0xc0})
	f.Add(frames[0], frames[1])
	f.Fuzz(func(t *testing.T, header, body []byte) {
		m, err := Decode([][]byte{header, body}, DecodeOptions{MaxBody: 1 << 20})
		if err != nil {
			return
		}
		_, _ = DecodeCall(m.Method, m.Payload)
		if args, err := DecodeArguments(m.Method, m.Payload); err == nil {
			_ = (&CreateKernels{}).Bind(args)
			_ = (&Execute{}).Bind(args)
		}
		_, _ = Execute{}.Result(m.Payload)
	})
}

func TestBind(t *testing.T) {
	bind := func(c Call) (DestroyKernel, error) {
		args, err := DecodeArguments(c.Method, mustPayload(t, c))
		if err != nil {
			t.Fatal(err)
		}
		var r DestroyKernel
		return r, errors.Join(r.Bind(args), nil)
	}
	for _, c := range []struct {
		call Call
		want string
	}{
		{DestroyKernel{KernelID: "k", Reason: "r"}.Call(), ""},
		{DestroyKernel{KernelID: "k", Reason: "r", SuppressEvents: true}.Call(), ""},
		{Call{Method: "destroy_kernel", Args: nil, Kwargs: Map{{"kernel_id", "k"}}}, ""},
		{NewCall("destroy_kernel", "k", nil, true), ""},
		{NewCall("destroy_kernel"), `TypeError("destroy_kernel() missing 1 required positional argument: 'kernel_id'")`},
		{NewCall("destroy_kernel", "k", "r", true, 1), `TypeError('destroy_kernel() takes 3 positional arguments but 4 were given')`},
		{Call{Method: "destroy_kernel", Args: []any{"k"}, Kwargs: Map{{"kernel_id", "k"}}}, `TypeError("destroy_kernel() got multiple values for argument 'kernel_id'")`},
		{Call{Method: "destroy_kernel", Args: []any{"k"}, Kwargs: Map{{"force", true}}}, `TypeError("destroy_kernel() got an unexpected keyword argument 'force'")`},
		{NewCall("destroy_kernel", 1), `TypeError("destroy_kernel() got a value of the wrong type for argument 'kernel_id'")`},
	} {
		_, err := bind(c.call)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.call, got, c.want)
		}
	}
}

func TestRepr(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "None"}, {true, "True"}, {3, "3"}, {2.0, "2.0"}, {0.5, "0.5"}, {"x", "'x'"}, {"it's", `"it's"`},
		{`it's "x"`, `'it\'s "x"'`}, {"a\n\\\x01é한\u200b", `'a\n\\\x01é한\u200b'`}, {[]string{"a"}, "['a']"}, {[]any{1, nil}, "[1, None]"},
	} {
		if got := Repr(c.v); got != c.want {
			t.Errorf("Repr(%#v) = %s, want %s", c.v, got, c.want)
		}
	}
	if e := Exception("KeyError", "nope"); e.Repr != "KeyError('nope')" || !strings.HasSuffix(e.Traceback, "KeyError: 'nope'\n") {
		t.Errorf("%+v", e)
	}
}

func TestInternalDataKeepsUnknownKeys(t *testing.T) {
	var d InternalData
	stored := `{"dotfiles":[{"path":".a","perm":"755","data":"x"}],"prevent_vfolder_mounts":true,"later":{"b":1,"a":[2.5,null]}}`
	if err := d.UnmarshalJSON([]byte(stored)); err != nil {
		t.Fatal(err)
	}
	if j, err := d.MarshalJSON(); err != nil || string(j) != stored {
		t.Errorf("%s, %v", j, err)
	}
	d.Fence = Fence{1, 2}
	b, err := Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	var back InternalData
	if err := Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Error(diff)
	}
}

// Agents index lists and maps, so a Go nil must not become None.
func TestNilBecomesEmpty(t *testing.T) {
	v, err := DecodeValue(mustPayload(t, CreateKernels{KernelIDs: []string{"k"}, Configs: []KernelCreationConfig{{}}}.Call()))
	if err != nil {
		t.Fatal(err)
	}
	args, _ := v.(Map).Get("args")
	config := args.([]any)[3].([]any)[0].(Map)
	for _, key := range []string{"mounts", "environ", "resource_slots", "resource_opts", "preopen_ports"} {
		if got, ok := config.Get(key); !ok || got == nil {
			t.Errorf("%s is %v", key, got)
		}
	}
	for _, key := range []string{"internal_data", "bootstrap_script", "startup_command"} {
		if got, ok := config.Get(key); !ok || got != nil {
			t.Errorf("%s is %v, present %v", key, got, ok)
		}
	}
}
