package backendai

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var testKnown = NewKnownSlots(KnownSlot{"cuda.device", SlotCount}, KnownSlot{"cuda.shares", SlotCount})

func TestBinarySizeParsing(t *testing.T) {
	for in, want := range map[string]string{
		// spec/scheduling §2.3
		"1g": "1073741824", "1.5g": "1610612736", "0.5k": "512", "1536": "1536", "1.2345g": "1325534281", "2KiB": "2048", "1.5kb": "1536",
		"1_024": "1024", "1 g": "1073741824", "1.46g": "1567663063",
		"10 bytes": "10", "3 b": "3", "inf": "Infinity", "INFINITE": "Infinity", "Infinity": "Infinity", "-4": "-4", "-1k": "-1024",
		"1z": "1180591620717411303424", "1y": "1208925819614629174706176", " 4g ": "4294967296", "1 byte": "1", "1.5GiB": "1610612736",
		"1e2k": "102400", "+3": "3", "2ibytes": "",
	} {
		d, err := ParseBinarySize(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q: got %v, want an error", in, d)
			}
		} else if err != nil || d.String() != want {
			t.Errorf("%q: got %v, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{"1.5", "10bytes", "1b", "1e3", "", "  ", "b", "k", "g g", "1x", "infk", "nang", "-", "1,5g"} {
		if d, err := ParseBinarySize(in); !errors.Is(err, InvalidArgument) {
			t.Errorf("%q: got %v, %v; want invalid-argument", in, d, err)
		}
	}
	if _, err := ParseBytes("inf"); err == nil {
		t.Error("ParseBytes must refuse infinity")
	}
	if n, err := ParseBytes("64m"); err != nil || n != 64<<20 {
		t.Errorf("64m: %d %v", n, err)
	}
}

func TestBinarySizeRendering(t *testing.T) {
	for n, want := range map[BinarySize][2]string{
		1048576: {"1m", "1 MiB"}, 1572864: {"1.5m", "1.5 MiB"}, 1234567890: {"1.15g", "1.15 GiB"}, 1536: {"1.5k", "1.5 KiB"}, 512: {"512", "512 bytes"},
		1: {"1", "1 byte"}, 0: {"0", "0 bytes"}, 64 << 20: {"64m", "64 MiB"}, 1 << 40: {"1t", "1 TiB"}, 1<<20 - 1: {"1024k", "1024 KiB"},
		100<<30 + 1: {"100g", "100 GiB"}, -2048: {"-2048", "-2048 bytes"}, 1 << 62: {"4e", "4 EiB"},
	} {
		if n.String() != want[0] || n.Long() != want[1] {
			t.Errorf("%d: got %s, %s; want %v", int64(n), n, n.Long(), want)
		}
	}
	if got := BinarySize(1 << 30).In('m'); got != "1024m" {
		t.Errorf("1g in m: %s", got)
	}
	if got := BinarySize(1536).In('M'); got != "0m" {
		t.Errorf("1536 in m: %s", got)
	}
	// Half to even: 1.125k lies between 1.12 and 1.13.
	if got := BinarySize(1152).String(); got != "1.12k" {
		t.Errorf("1152: %s", got)
	}
}

func TestBinarySizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := BinarySize(rapid.Int64Range(0, 1<<62).Draw(t, "n"))
		back, err := ParseBytes(n.String())
		if err != nil {
			t.Fatal(err)
		}
		// Two decimals of the unit: within half a percent (0.005 of at least 1), one byte for truncation.
		if diff := float64(back - n); diff > float64(n)*0.0051+1 || diff < -float64(n)*0.0051-1 {
			t.Fatalf("%d → %s → %d", int64(n), n, int64(back))
		}
		if exactly, err := ParseBytes(n.In(' ')); err != nil || exactly != n {
			t.Fatalf("bytes must be exact: %s %v", n.In(' '), err)
		}
	})
}

func TestAllocationParsing(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "512": "512", "1k": "1024", "1g": "1073741824", "1.15g": "1234803097", "1024m": "1073741824",
		"1": "1", "0.5": "0.5", "1E+2g": "107374182400", "Infinity": "Infinity", "1G": "1073741824", "5 ": "5"} {
		if d, err := ParseAllocation(in); err != nil || d.String() != want {
			t.Errorf("%q: got %v, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{"", " ", "x", "g"} {
		if _, err := ParseAllocation(in); err == nil {
			t.Errorf("%q must be refused", in)
		}
	}
}

func TestSlotsFromUser(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"cpu":"2","mem":"4g"}`, `{"cpu":"2","mem":"4294967296","cuda.device":"0","cuda.shares":"0"}`},
		{`{"mem":1073741824,"cuda.shares":0.12345,"cpu":10}`, `{"mem":"1073741824","cuda.shares":"0.123","cpu":"10","cuda.device":"0"}`},
		{`{"cpu":null,"mem":"inf"}`, `{"mem":"Infinity","cpu":"0","cuda.device":"0","cuda.shares":"0"}`},
		{`{"cpu":0.0005,"mem":"1"}`, `{"cpu":"0","mem":"1","cuda.device":"0","cuda.shares":"0"}`},
		{`{"cpu":"Infinity"}`, `{"cpu":"Infinity","mem":"0","cuda.device":"0","cuda.shares":"0"}`},
		{`{}`, `{"cpu":"0","mem":"0","cuda.device":"0","cuda.shares":"0"}`},
		{`null`, `{"cpu":"0","mem":"0","cuda.device":"0","cuda.shares":"0"}`},
		{`{"x":"1"}`, ""}, {`{"x":null}`, ""}, {`{"cpu":"4g"}`, ""}, {`{"mem":"1.5"}`, ""}, {`{"mem":1.5}`, ""}, {`{"cpu":"nan"}`, ""},
		{`{"cpu":true}`, ""}, {`{"cpu":[1]}`, ""}, {`[]`, ""}, {`{"cpu"`, ""}, {`"cpu"`, ""},
	} {
		r, err := SlotsFromUser([]byte(c.in), testKnown)
		got, _ := json.Marshal(r)
		switch {
		case c.want == "":
			if !errors.Is(err, InvalidAPIParameters) {
				t.Errorf("%s: got %s, %v; want an error", c.in, got, err)
			}
		case err != nil || string(got) != c.want:
			t.Errorf("%s: got %s, %v\nwant %s", c.in, got, err, c.want)
		}
	}
	r, err := SlotsFromUser([]byte(`{"gpumem":"4k","any":"1.23456"}`), nil)
	if got := r.String(); err != nil || got != "gpumem=4096 any=1.235" {
		t.Errorf("guessed: %s %v", got, err)
	}
	r, err = SlotsFromUserMap(map[string]any{"mem": 2048.0, "cpu": int64(3), "cuda.shares": 0.5, "cuda.device": nil}, testKnown)
	if err != nil || !r.Equal(SlotsOf("cpu", "3", "mem", "2k", "cuda.shares", "0.5")) {
		t.Errorf("map: %s %v", r, err)
	}
}

func TestSlotsFromPolicy(t *testing.T) {
	total := SlotsOf("cuda.device", "1.23456", "gone.slot", "3", "cpu", "4")
	limited, err := SlotsFromPolicy(total, Limited, testKnown)
	if err != nil || limited.String() != "cuda.device=1.235 cpu=4 mem=0 cuda.shares=0" {
		t.Errorf("limited: %s %v", limited, err)
	}
	unlimited, err := SlotsFromPolicy(total, Unlimited, testKnown)
	if err != nil || unlimited.String() != "cuda.device=1.235 cpu=4 mem=Infinity cuda.shares=Infinity" {
		t.Errorf("unlimited: %s %v", unlimited, err)
	}
	want := SlotTexts{{"cuda.device", "1.235"}, {"cpu", "4"}, {"mem", "Infinity"}, {"cuda.shares", "Infinity"}}
	if d := cmp.Diff(want, unlimited.Humanized(testKnown)); d != "" {
		t.Error(d)
	}
}

func TestSlotsRows(t *testing.T) {
	for in, want := range map[string]string{
		`{"cpu":"4","mem":"8589934592","cuda.shares":"0.5"}`: `{"cpu":"4","mem":"8589934592","cuda.shares":"0.5"}`,
		`{"mem":"4g","cpu":2,"x":null}`:                      `{"mem":"4294967296","cpu":"2"}`,
		`{"a":"2.50","b":"0.000","c":"1E+3","d":1e3}`:        `{"a":"2.50","b":"0.000","c":"1000","d":"1000"}`,
		`{"a":"Infinity","b":"-Infinity","c":"NaN"}`:         `{"a":"Infinity","b":"-Infinity","c":"NaN"}`,
		`null`: `{}`, `{}`: `{}`,
	} {
		var r ResourceSlots
		if err := json.Unmarshal([]byte(in), &r); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, _ := json.Marshal(r); string(got) != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	var r ResourceSlots
	for _, in := range []string{`[]`, `{"cpu":"x"}`, `{"cpu":{}}`, `{"mem":"x"}`} {
		if err := json.Unmarshal([]byte(in), &r); err == nil {
			t.Errorf("%s must be refused", in)
		}
	}
	got, _ := json.Marshal(SlotsOf("cpu", "2", "mem", "1.5g").Humanized(testKnown))
	if string(got) != `{"cpu":"2","mem":"1.5g"}` {
		t.Errorf("humanized: %s", got)
	}
}

func TestSlotsComparison(t *testing.T) {
	a, b := SlotsOf("cpu", "2", "mem", "1g"), SlotsOf("cpu", "1", "mem", "2g")
	if a.LessEq(b) || a.GreaterEq(b) || a.Less(b) || a.Greater(b) || a.Equal(b) {
		t.Error("incomparable values must not be ordered") // spec/scheduling §2.6
	}
	if !SlotsOf("cpu", "1").Equal(SlotsOf("mem", "0", "cpu", "1.000")) {
		t.Error("absent must equal 0")
	}
	if !SlotsOf("cpu", "1").LessEq(SlotsOf("cpu", "1", "cuda.device", "2")) || SlotsOf("cpu", "1", "cuda.device", "1").LessEq(SlotsOf("cpu", "9")) {
		t.Error("slots absent on one side count as 0")
	}
	if SlotsOf("cpu", "1").LessEq(SlotsOf("cpu", "1", "cuda.device", "-1")) {
		t.Error("a negative remainder must not fit")
	}
	// F4 of spec/scheduling §10.
	request := SlotsOf("cpu", "1", "mem", "1g")
	if request.FitsIn(SlotsOf("cpu", "8", "mem", "32g", "cuda.device", "1"), SlotsOf("cpu", "1", "mem", "1g", "cuda.device", "2")) {
		t.Error("an overdrawn slot must not fit")
	}
	if !request.FitsIn(SlotsOf("cpu", "2", "mem", "4g"), ResourceSlots{}) {
		t.Error("must fit")
	}
	if d := cmp.Diff([]SlotName{"mem", "x"}, SlotsOf("cpu", "1", "mem", "2", "x", "1").Exceeding(SlotsOf("cpu", "1", "mem", "1"))); d != "" {
		t.Error(d)
	}
	n := SlotsOf("old", "1", "cpu", "2").Normalize(testKnown)
	if n.String() != "cpu=2 mem=0 cuda.device=0 cuda.shares=0" {
		t.Error(n)
	}
}

func drawSlots(t *rapid.T, label string) ResourceSlots {
	names := rapid.Permutation([]SlotName{"cpu", "mem", "cuda.shares", "cuda.device"}).Draw(t, label+" names")
	var r ResourceSlots
	for _, n := range names[:rapid.IntRange(0, 4).Draw(t, label+" count")] {
		r.set(n, DecimalScaled(rapid.Int64Range(-5000, 5000).Draw(t, label+" "+string(n)), uint8(rapid.IntRange(0, 3).Draw(t, label+" scale"))))
	}
	return r
}

func TestSlotsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawSlots(t, "a"), drawSlots(t, "b"), drawSlots(t, "c")
		before := a.String()
		if !a.Add(b).Sub(b).Equal(a) || !a.Add(b).Equal(b.Add(a)) || !a.Add(b.Add(c)).Equal(Sum(a, b, c)) || !a.Sub(a).IsZero() {
			t.Fatal("a group must add and subtract")
		}
		if a.LessEq(b) && b.LessEq(a) != a.Equal(b) {
			t.Fatal("≤ is not antisymmetric")
		}
		if a.LessEq(b) && b.LessEq(c) && !a.LessEq(c) {
			t.Fatal("≤ is not transitive")
		}
		if a.LessEq(b) != (len(a.Exceeding(b)) == 0) {
			t.Fatalf("%v exceeds %v in %v", a, b, a.Exceeding(b))
		}
		if a.FitsIn(b, c) != a.LessEq(b.Sub(c)) {
			t.Fatalf("FitsIn differs from its definition: %v in %v − %v", a, b, c)
		}
		raw, err := json.Marshal(a)
		var back ResourceSlots
		if err != nil || json.Unmarshal(raw, &back) != nil || back.String() != a.String() {
			t.Fatalf("%s does not survive its JSON", raw)
		}
		if a.With("cpu", DecimalOf(1)).Get("cpu") != DecimalOf(1) || a.String() != before {
			t.Fatal("a value was changed")
		}
	})
}

func BenchmarkSlots(b *testing.B) {
	available := SlotsOf("cpu", "64", "mem", "512g", "cuda.shares", "8")
	occupied := SlotsOf("cpu", "12", "mem", "100g", "cuda.shares", "2.5")
	request := SlotsOf("cpu", "2", "mem", "8g", "cuda.shares", "0.5")
	huge := ResourceSlots{}.With("cpu", MustDecimal(fmt.Sprintf("%d0", int64(9e18))))
	b.Run("FitsIn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			request.FitsIn(available, occupied)
		}
	})
	b.Run("LessEq", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			request.LessEq(available)
		}
	})
	b.Run("Sub", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			available.Sub(occupied)
		}
	})
	b.Run("SubBig", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			huge.Sub(occupied)
		}
	})
}
