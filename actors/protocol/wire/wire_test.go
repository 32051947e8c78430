package wire

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol"
)

// local are the structs of package protocol that never leave a node, and why.
var local = map[string]string{
	"Start": "a session to its kernel", "End": "a session to its kernel", "RestartKernel": "a session to its kernel", "Renamed": "a session to its kernel",
	"KernelChanged": "a kernel to its session", "LostShard": "an actor to its shard", "Bounced": "an actor to its supervisor", "Tick": "an actor to itself",
	"SchedulerLoaded": "a scheduler to itself", "KnownSlotsChanged": "a scheduler to itself", "Reread": "a scheduler to itself",
	"Moved": "a node to its own actors", "Drain": "a shard to its actors", "Drained": "an actor to its shard",
	"Owner": "no message: an argument", "policyDoc": "no message: a policy as people write it",
}

// Every struct of package protocol is a message that is registered, part of one, or known to stay within its node.
func TestNothingIsForgotten(t *testing.T) {
	part := map[string]bool{}
	var walk func(reflect.Type)
	seen := map[reflect.Type]bool{}
	walk = func(x reflect.Type) {
		if seen[x] {
			return
		}
		seen[x] = true
		if x.PkgPath() == reflect.TypeFor[protocol.Create]().PkgPath() {
			part[x.Name()] = true
		}
		switch x.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(x.Elem())
		case reflect.Map:
			walk(x.Key())
			walk(x.Elem())
		case reflect.Struct:
			for i := range x.NumField() {
				walk(x.Field(i).Type)
			}
		}
	}
	for _, msg := range registered {
		walk(reflect.TypeOf(msg))
	}
	// What only stays here may be made of other structs, too.
	for _, msg := range []any{protocol.SchedulerLoaded{}, protocol.KernelChanged{}} {
		for i := range reflect.TypeOf(msg).NumField() {
			walk(reflect.TypeOf(msg).Field(i).Type)
		}
	}
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if _, isStruct := spec.Type.(*ast.StructType); isStruct {
					found[spec.Name.Name] = true
				}
			}
			return true
		})
	}
	if len(found) < 40 {
		t.Fatalf("only %d structs were found", len(found))
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		_, stays := local[name]
		switch {
		case stays && byName[name] != nil:
			t.Errorf("protocol.%s is registered and said to stay within its node", name)
		case !stays && !part[name]:
			t.Errorf("protocol.%s is new: add it to registered in registry.go if it goes to another node, else to local in this test", name)
		}
	}
	for name := range local {
		if !found[name] {
			t.Errorf("protocol.%s does not exist any more", name)
		}
	}
}

// same compares what was sent with what has arrived. Nil and empty are different; what can't be compared by fields is by what it shows.
var same = cmp.Options{
	cmp.Comparer(func(a, b backendai.Decimal) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b backendai.ResourceSlots) bool {
		return slices.Equal(a.Names(), b.Names()) && a.String() == b.String()
	}),
	cmp.Comparer(func(a, b time.Time) bool {
		_, x := a.Zone()
		_, y := b.Zone()
		return a.Equal(b) && x == y && a.IsZero() == b.IsZero()
	}),
	cmp.Comparer(func(a, b callosum.Call) bool {
		x, err1 := a.Payload()
		y, err2 := b.Payload()
		return err1 == nil && err2 == nil && a.Method == b.Method && string(x) == string(y)
	}),
	cmp.Comparer(func(a, b error) bool { return sameError(a, b) == "" }),
}

func sameError(a, b error) string {
	switch {
	case a == nil || b == nil:
		if a != b {
			return fmt.Sprintf("%v became %v", a, b)
		}
		return ""
	case a.Error() != b.Error():
		return fmt.Sprintf("%q became %q", a, b)
	case backendai.CodeOf(a) != backendai.CodeOf(b):
		return fmt.Sprintf("code %q became %q", backendai.CodeOf(a), backendai.CodeOf(b))
	case callosum.CauseOf(a) != callosum.CauseOf(b) || callosum.MaybeExecuted(a) != callosum.MaybeExecuted(b):
		return "the link's cause has changed"
	}
	x, err1 := backendai.AsError(a).Problem()
	y, err2 := backendai.AsError(b).Problem()
	if err1 != nil || err2 != nil || string(x) != string(y) {
		return fmt.Sprintf("clients saw %s and see %s", x, y)
	}
	var r, s *callosum.RemoteError
	if errors.As(a, &r) != errors.As(b, &s) || r != nil && *r != *s {
		return "the agent's exception has changed"
	}
	for _, target := range []error{backendai.AgentTimeout, backendai.ObjectNotFound, context.DeadlineExceeded, context.Canceled, ask.ErrNobody} {
		if errors.Is(a, target) != errors.Is(b, target) {
			return fmt.Sprintf("errors.Is(%v) has changed", target)
		}
	}
	return ""
}

func roundTrip(t interface{ Fatalf(string, ...any) }, msg any) any {
	frame, err := Encode(msg)
	if err != nil {
		t.Fatalf("%T: %v\n%+v", msg, err, msg)
	}
	got, err := Decode(frame)
	if err != nil {
		t.Fatalf("%T: %v\n%x", msg, err, frame)
	}
	if diff := cmp.Diff(msg, got, same); diff != "" {
		t.Fatalf("%T has changed on its way (- sent, + arrived):\n%s", msg, diff)
	}
	return got
}

// Whatever is in a message arrives as it was.
func TestRoundTrip(t *testing.T) {
	for _, zero := range registered {
		t.Run(reflect.TypeOf(zero).Elem().Name(), func(t *testing.T) {
			roundTrip(t, zero)
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(reflect.TypeOf(zero).Elem())
				fill(t, v.Elem(), 0)
				roundTrip(t, v.Interface())
			})
		})
	}
}

// fill draws a value of any type that is registered.
func fill(t *rapid.T, v reflect.Value, within int) {
	switch v.Addr().Interface().(type) {
	case *time.Time:
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns"))
		zone := rapid.SampledFrom([]*time.Location{time.UTC, time.Local, time.FixedZone("", 9*3600)}).Draw(t, "zone")
		v.Set(reflect.ValueOf(rapid.SampledFrom([]time.Time{{}, at.In(zone), at.In(zone), time.Now()}).Draw(t, "time")))
		return
	case *backendai.Decimal:
		v.Set(reflect.ValueOf(decimals.Draw(t, "decimal")))
		return
	case *backendai.ResourceSlots:
		var r backendai.ResourceSlots
		for range rapid.IntRange(0, 4).Draw(t, "slots") {
			r = r.With(backendai.SlotName(rapid.String().Draw(t, "slot")), decimals.Draw(t, "amount"))
		}
		v.Set(reflect.ValueOf(r))
		return
	case *callosum.Call:
		v.Set(reflect.ValueOf(rapid.SampledFrom(calls).Draw(t, "call")))
		return
	case *error:
		if err := rapid.SampledFrom(slices.Collect(maps.Values(failures))).Draw(t, "error"); err != nil {
			v.Set(reflect.ValueOf(err))
		}
		return
	case *any:
		if within == maxWithin-1 {
			return
		}
		switch n := rapid.IntRange(-2, len(registered)-1).Draw(t, "message"); n {
		case -2:
		case -1:
			v.Set(reflect.ValueOf(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
		default:
			m := reflect.New(reflect.TypeOf(registered[n]).Elem())
			fill(t, m.Elem(), within+1)
			v.Set(m)
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		bits := v.Type().Bits()
		v.SetInt(rapid.Int64Range(-1<<(bits-1), 1<<(bits-1)-1).Draw(t, "int"))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, 1<<v.Type().Bits()-1).Draw(t, "uint"))
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.Just("\xff\xfe not utf-8")).Draw(t, "text"))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), within)
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), within)
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, "length"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i), within)
			}
		}
	case reflect.Map:
		if n := rapid.IntRange(-1, 3).Draw(t, "length"); n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, key, within)
				fill(t, value, within)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), within)
		}
	default:
		t.Fatalf("the test can't make a %s", v.Type())
	}
}

var decimals = rapid.Custom(func(t *rapid.T) backendai.Decimal {
	return rapid.OneOf(
		rapid.Custom(func(t *rapid.T) backendai.Decimal {
			return backendai.DecimalScaled(rapid.Int64().Draw(t, "coef"), rapid.Uint8Range(0, 18).Draw(t, "scale"))
		}),
		rapid.SampledFrom([]backendai.Decimal{
			{}, backendai.Infinity(), backendai.NegativeInfinity(), backendai.NaN(), backendai.MustDecimal("2.500"),
			backendai.MustDecimal("-12345678901234567890123456789.123456789012345678901234567890"),
		}),
	).Draw(t, "decimal")
})

// calls have every form of arguments that there is.
var calls = []callosum.Call{
	callosum.NewCall("none"),
	callosum.NewCall("plain", nil, true, 1, -1<<40, uint64(1<<63), 1.5, "text", []byte{0, 1}, []any{}, []any{"a", nil}, callosum.Map{}, []string(nil)),
	{Method: "kwargs", Kwargs: callosum.Map{{Key: "z", Value: 1}, {Key: "a", Value: callosum.Map{{Key: "y", Value: []byte{}}, {Key: "x", Value: ""}}}}},
	callosum.CreateKernels{CreationID: "c", SessionID: "s", KernelIDs: []string{"k"}, Configs: []callosum.KernelCreationConfig{{
		Environ: map[string]string{"B": "2", "A": "1"}, ResourceOpts: callosum.Map{{Key: "shmem", Value: 64}},
		InternalData: &callosum.InternalData{Fence: callosum.Fence{Shard: 3, Epoch: 1 << 60}, Dotfiles: []callosum.Dotfile{{Path: ".x", Data: "…"}}},
	}}}.Call(),
	callosum.DestroyKernel{KernelID: "k", SuppressEvents: true}.Call(),
}

var (
	hello    = "hello"
	failures = map[string]error{
		"nil":       nil,
		"plain":     errors.New("plain"),
		"code":      backendai.SessionNotFound,
		"message":   backendai.Errorf(backendai.SessionNotFound, "the session %s", "x"),
		"no text":   backendai.NewError(backendai.GenericForbidden),
		"object":    backendai.NoSuch("thing"),
		"status":    backendai.StorageProxy(507, "full"),
		"data":      backendai.InvalidParameters("bad", map[string]any{"a": []any{int64(1), 1.5, "x", nil, true}, "b": map[string]any{}}),
		"large":     backendai.NewError(backendai.Conflict).WithData(map[string]any{"n": int64(1)<<62 + 1}),
		"agent":     backendai.AgentError(backendai.KernelCreationFailed, backendai.AgentTimeout, "slow"),
		"exception": backendai.AgentException(backendai.KernelExecutionFailed, "KeyError('x')"),
		"cause":     backendai.Internal(fmt.Errorf("reading: %w", context.DeadlineExceeded)),
		"remote":    callosum.Exception("KeyError", "x"),
		"link":      &callosum.LinkError{Cause: callosum.CauseDeadline, Agent: "i-1", Method: "ping", Sent: true, Err: errors.New("beneath")},
		"not sent":  fmt.Errorf("call: %w", &callosum.LinkError{Cause: callosum.CauseBreakerOpen, Agent: "i-1", Method: "ping"}),
		"sentinel":  ask.ErrNobody,
		"wrapped":   fmt.Errorf("outer: %w", fmt.Errorf("middle: %w", backendai.Errorf(backendai.StaleEpoch, "").WithCause(context.Canceled))),
		"deadline":  context.DeadlineExceeded,
	}
)

func TestErrors(t *testing.T) {
	for name, err := range failures {
		got := roundTrip(t, &protocol.CallResult{Err: err}).(*protocol.CallResult).Err
		if why := sameError(err, got); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
	// Those that actors switch on arrive as the same type.
	for _, name := range []string{"remote", "link", "message", "code"} {
		got := roundTrip(t, &protocol.CallResult{Err: failures[name]}).(*protocol.CallResult).Err
		if reflect.TypeOf(got) != reflect.TypeOf(failures[name]) {
			t.Errorf("%s became a %T", name, got)
		}
	}
	deep := errors.New("bottom")
	for range 100 {
		deep = backendai.Internal(deep)
	}
	if got := roundTrip(t, &protocol.CallResult{Err: deep}).(*protocol.CallResult).Err; got.Error() != deep.Error() {
		t.Error("the text of a deep chain is not whole")
	}
	var none *backendai.Error
	frame, err := Encode(&protocol.CallResult{Err: none})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(frame); err != nil || got.(*protocol.CallResult).Err != nil {
		t.Error(got, err)
	}
}

// What isn't registered, or has no form on the wire, is an error.
func TestRefused(t *testing.T) {
	for name, msg := range map[string]any{
		"nothing": nil, "no pointer": protocol.Destroy{}, "no struct": &hello, "a channel": make(chan int), "stays here": &protocol.Tick{},
		"nil pointer": (*protocol.Destroy)(nil), "within": &ask.Answer{Value: &protocol.LostShard{}}, "foreign": &time.Time{},
		"value":     &ask.Answer{Value: "text"},
		"arguments": &protocol.Call{Call: callosum.NewCall("x", make(chan int))}, "data": &ask.Answer{Err: backendai.NewError(backendai.Conflict).WithData(func() {})},
		"endless": func() any { a := &ask.Answer{}; a.Value = a; return a }(),
	} {
		if frame, err := Encode(msg); err == nil || frame != nil {
			t.Errorf("%s was encoded", name)
		}
	}
	if _, err := Encode(&protocol.KernelLog{Log: make([]byte, MaxFrame)}); backendai.CodeOf(err) != backendai.Overloaded {
		t.Errorf("too large: %v", err)
	}
	if _, err := Encode(&protocol.KernelLog{Log: make([]byte, MaxFrame/2)}); err != nil {
		t.Error(err)
	}
}

// Frames of nodes that are a little older or newer are understood, so their form is pinned.
func TestFormIsPinned(t *testing.T) {
	id := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	msg := &protocol.AgentEvent{Name: "kernel_started", KernelID: id, ExitCode: -1, Now: time.Unix(1700000000, 5).UTC()}
	const form = `0192aa4167656e744576656e7484a44e616d65ae6b65726e656c5f73746172746564a84b65726e656c4944c41011111111222233334444555555555555a845786974436f6465ffa34e6f77c40f010000000edce5e80000000005ffff`
	frame, err := Encode(msg)
	if err != nil || hex.EncodeToString(frame) != form {
		t.Errorf("nodes of two versions don't understand each other any more: %v\n got %x\nwant %s", err, frame, form)
	}
	// A field that this version does not know is skipped.
	later := []byte("\x01\x92\xa6Rename\x82\xa5Later\x93\x01\x81\xa1k\xc0\xa1v\xa4Name\xa1n")
	got, err := Decode(later)
	if diff := cmp.Diff(&protocol.Rename{Name: "n"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// A short frame can't make the reader take much memory.
func TestExpansiveFrames(t *testing.T) {
	n := 1 << 20
	zeros := strings.Repeat("\x80", n) // that many structs without any field
	head := func(code byte) string { return string([]byte{code, 0, byte(n >> 16), byte(n >> 8), byte(n)}) }
	for name, body := range map[string]string{
		"list":       "\x92\xa6Create\x81\xacDependencies" + head(0xdd) + zeros,
		"pointers":   "\x92\xa6Create\x81\xa7Kernels" + head(0xdd) + zeros,
		"placements": "\x92\xa9Placement\x81\xa7Kernels" + head(0xdd) + zeros,
		"slots":      "\x92\xa6Settle\x81\xa5Slots" + head(0xdf) + strings.Repeat("\xa0\xa0", n),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode([]byte("\x01" + body)); err == nil {
			t.Fatalf("%s was decoded", name)
		}
		runtime.ReadMemStats(&after)
		allocated := int64(after.TotalAlloc - before.TotalAlloc)
		if limit := int64(n)*(budgetPerByte+8) + budgetBase; allocated > limit {
			t.Errorf("%s: %d bytes of memory for a frame of %d", name, allocated, n)
		}
	}
}

// Whatever comes, there is no panic; and what is understood can be sent on.
func FuzzDecode(f *testing.F) {
	for _, msg := range registered {
		frame, err := Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	id := uuid.New()
	for _, msg := range []any{
		&protocol.Invoke{Call: calls[3], Reply: protocol.ReplyTo{Address: "x", N: 1}},
		&ask.Answer{N: 1, Value: []byte{1}, Err: failures["wrapped"]}, &ask.Answer{Err: failures["data"]},
		&protocol.Enqueue{Session: protocol.PendingSession{ID: id, Kernels: []protocol.PendingKernel{{Slots: backendai.SlotsOf("cpu", "1.5", "mem", "4g")}},
			Limits: protocol.Limits{ScalingGroups: map[string][]backendai.SessionType{"default": nil}}}},
		&protocol.Heartbeat{Slots: []protocol.AgentSlot{{Name: "cpu"}}, ComputePlugins: json.RawMessage(`{ }`), Received: time.Now()},
	} {
		frame, err := Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if msg, err := Decode(frame); err == nil {
			if _, err := Encode(msg); err != nil {
				t.Fatalf("%T was read and can't be written: %v", msg, err)
			}
		}
	})
}

// The same, with frames that are nearly right.
func TestDamagedFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := reflect.New(reflect.TypeOf(rapid.SampledFrom(registered).Draw(t, "message")).Elem())
		fill(t, v.Elem(), 0)
		frame, err := Encode(v.Interface())
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 5).Draw(t, "damages") {
			frame[rapid.IntRange(0, len(frame)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		frame = frame[:rapid.IntRange(0, len(frame)).Draw(t, "length")]
		if msg, err := Decode(frame); (msg == nil) == (err == nil) {
			t.Fatalf("%v %v", msg, err)
		}
	})
}
