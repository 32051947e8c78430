package backendai

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

func TestDecimalForms(t *testing.T) {
	big := MustDecimal("-123456789012345678901234567890.75")
	if big.Sign() != -1 || MustDecimal("0.5").Sign() != 1 || Infinity().Sign() != 1 || NegativeInfinity().Sign() != -1 || NaN().Sign() != 0 || NaN().IsZero() {
		t.Error("Sign")
	}
	if got := big.Truncate().String(); got != "-123456789012345678901234567890" {
		t.Error(got)
	}
	if n, ok := MustDecimal("-7.9").Int64(); !ok || n != -7 {
		t.Error(n, ok)
	}
	if _, ok := big.Int64(); ok {
		t.Error("too large for an int64")
	}
	if _, ok := Infinity().Int64(); ok || !Infinity().IsInf() || Infinity().Truncate() != Infinity() {
		t.Error("infinity is no integer")
	}
	if n, ok := MustDecimal("1.1234567890123456789012").Int64(); !ok || n != 1 {
		t.Error(n, ok)
	}
	if DecimalOf(3).Float64() != 3 || MustDecimal("0.25").Float64() != 0.25 || !math.IsInf(Infinity().Float64(), 1) || !math.IsInf(NegativeInfinity().Float64(), -1) ||
		!math.IsNaN(NaN().Float64()) {
		t.Error("Float64")
	}
	var forms struct{ A, B, C Decimal }
	if err := json.Unmarshal([]byte(`{"A":"2.50","B":1e3,"C":null}`), &forms); err != nil {
		t.Fatal(err)
	}
	if raw, err := json.Marshal(forms); err != nil || string(raw) != `{"A":"2.50","B":"1000","C":"0"}` {
		t.Errorf("%s %v", raw, err)
	}
	for _, bad := range []string{`{"A":true}`, `{"A":"x"}`, `{"A":[]}`} {
		if json.Unmarshal([]byte(bad), &forms) == nil {
			t.Errorf("%s must be refused", bad)
		}
	}
}

func TestSlotsForms(t *testing.T) {
	r := SlotsOf("cpu", "2", "cuda.shares", "0.5", "mem", "1g")
	if r.Len() != 3 || !slices.Equal(r.Names(), []SlotName{"cpu", "cuda.shares", "mem"}) || !slices.Equal(r.Unknown(NewKnownSlots()), []SlotName{"cuda.shares"}) {
		t.Error("names")
	}
	seen := map[SlotName]string{}
	for name, amount := range r.All() {
		seen[name] = amount.String()
		if name == "cuda.shares" {
			break
		}
	}
	if d := cmp.Diff(map[SlotName]string{"cpu": "2", "cuda.shares": "0.5"}, seen); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"cpu": "2", "cuda.shares": "0.5", "mem": "1073741824"}, r.Strings()); d != "" {
		t.Error(d)
	}
	if got := r.Without("cpu", "mem").Humanized(nil).String(); got != "cuda.shares=0.5" || SlotName("cuda.shares").Device() != "cuda" || CPU.Device() != "cpu" {
		t.Error(got)
	}
	if !SlotsOf("cpu", "0").IsZero() || r.IsZero() || !(ResourceSlots{}).IsZero() {
		t.Error("IsZero")
	}
	override := NewKnownSlots(KnownSlot{"mem", SlotCount}, KnownSlot{"tpu.device", SlotUnique})
	if ty, _ := override.Type("mem"); ty != SlotCount || !slices.Equal(override.Names(), []SlotName{"cpu", "mem", "tpu.device"}) {
		t.Error("a declaration must override an intrinsic type and keep its place")
	}
}

// The words go to PostgreSQL and come back as they are.
func TestDatabaseForms(t *testing.T) {
	m := pgtype.NewMap()
	roundTrip := func(oid uint32, format int16, in, out any) {
		t.Helper()
		raw, err := m.Encode(oid, format, in, nil)
		if err != nil {
			t.Fatalf("%T: %v", in, err)
		}
		if err := m.Scan(oid, format, raw, out); err != nil {
			t.Fatalf("%T: %v", in, err)
		}
	}
	id, ids := NewSessionID(), []KernelID{NewKernelID(), NewKernelID()}
	var id2 SessionID
	var ids2 []KernelID
	for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
		roundTrip(pgtype.UUIDOID, format, id, &id2)
		roundTrip(pgtype.UUIDArrayOID, format, ids, &ids2)
		if id2 != id || !slices.Equal(ids, ids2) {
			t.Error(id2, ids2)
		}
		slots, slots2 := SlotsOf("mem", "4g", "cpu", "2.5"), ResourceSlots{}
		roundTrip(pgtype.JSONBOID, format, slots, &slots2)
		if slots.String() != slots2.String() {
			t.Error(slots2)
		}
		var status []KernelStatus
		roundTrip(pgtype.TextArrayOID, format, Dead.List(), &status)
		if !slices.Equal(status, Dead.List()) {
			t.Error(status)
		}
		_, secret := NewKeypair()
		var secret2 SecretKey
		roundTrip(pgtype.TextOID, format, secret, &secret2)
		if secret2.Reveal() != secret.Reveal() {
			t.Error("a secret key must be stored as it is")
		}
	}
	null := SlotsOf("cpu", "1")
	if err := m.Scan(pgtype.JSONBOID, pgtype.BinaryFormatCode, nil, &null); err != nil || null.Len() != 0 {
		t.Errorf("SQL NULL must read as empty: %v %v", null, err)
	}
}

// Whatever people send, the parsers answer with a value or an InvalidArgument; and what they accept they render so that it parses again.
func TestParsersNeverPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-+ ]?[0-9_.]{0,4}[ ]?[kmgtpezyKG]?(b|ib|bytes|iB)?`), rapid.StringMatching(`[a-z:/.@\[\]0-9-]{0,20}`)).Draw(t, "text")
		check := func(err error) {
			if err != nil && !errors.Is(err, InvalidArgument) {
				t.Fatalf("%q: %v", text, err)
			}
		}
		d, err := ParseDecimal(text)
		check(err)
		if again, err2 := ParseDecimal(d.String()); err == nil && (err2 != nil || again.String() != d.String()) {
			t.Fatalf("%q: %v, then %v", text, d, again)
		}
		size, err := ParseBinarySize(text)
		check(err)
		if again, err2 := ParseBinarySize(size.String()); err == nil && (err2 != nil || !again.Equal(size)) {
			t.Fatalf("%q: %v, then %v", text, size, again)
		}
		_, err = ParseAllocation(text)
		check(err)
		_, err = ParseServicePorts(text)
		check(err)
		r, err := ParseImageRef(text, AnyRegistry, "")
		check(err)
		if err == nil && r.Registry != DefaultRegistry {
			again, err := ParseImageRef(r.Canonical(), AnyRegistry, "")
			if err != nil || again != r {
				t.Fatalf("%q: %v, then %v %v", text, r, again, err)
			}
		}
		_, err = SlotsFromUser([]byte(text), testKnown)
		check(err)
	})
}
