package backendai

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"
	"pgregory.net/rapid"
)

func TestDecimalText(t *testing.T) {
	for in, want := range map[string]string{
		"2": "2", "2.50": "2.50", "0.000": "0.000", "1E+3": "1000", "1e-3": "0.001", "-0.5": "-0.5", "+7": "7", " 7 ": "7", "1_000": "1000",
		".5": "0.5", "5.": "5", "-0": "0",
		"Infinity": "Infinity", "inf": "Infinity", "-INF": "-Infinity", "nan": "NaN",
		"123456789012345678901234567890": "123456789012345678901234567890",
		"0.1234567890123456789012":       "0.1234567890123456789012",
		"9223372036854775807":            "9223372036854775807", "9223372036854775808": "9223372036854775808",
		"-9223372036854775808": "-9223372036854775808",
	} {
		d, err := ParseDecimal(in)
		if err != nil || d.String() != want {
			t.Errorf("%q: got %v, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{"", "x", "1.2.3", "1e", "--1", "4g", "1E+999999999", "1e-99999", ".", "0x10", "infinite", strings.Repeat("9", 300)} {
		if d, err := ParseDecimal(in); !errors.Is(err, InvalidArgument) {
			t.Errorf("%q: got %v, %v; want invalid-argument", in, d, err)
		}
	}
}

func TestDecimalSpecialValues(t *testing.T) {
	inf, one := Infinity(), DecimalOf(1)
	if !inf.Sub(one).Equal(inf) || !inf.Add(one).Equal(inf) || !one.Sub(inf).Equal(NegativeInfinity()) {
		t.Error("Infinity − x must stay Infinity")
	}
	if !inf.Sub(inf).IsNaN() || NaN().Equal(NaN()) || NaN().LessEq(one) || one.LessEq(NaN()) {
		t.Error("NaN must take no part in comparisons")
	}
	if !one.Less(inf) || inf.LessEq(one) || !inf.LessEq(inf) {
		t.Error("Infinity must compare as a number")
	}
	if !MustDecimal("2.50").Equal(MustDecimal("2.5")) {
		t.Error("2.50 must equal 2.5")
	}
}

func TestDecimalQuantize(t *testing.T) {
	for in, want := range map[string]string{"0.12345": "0.123", "0.0005": "0", "0.0015": "0.002", "10": "10", "1.500": "1.5", "-0.0015": "-0.002",
		"99999999999999999999.0005": "99999999999999999999", "Infinity": "Infinity"} {
		if q, ok := MustDecimal(in).Quantize(3); !ok || q.String() != want {
			t.Errorf("%s: got %v %v, want %s", in, q, ok, want)
		}
	}
	if _, ok := MustDecimal("12345678901234567890123456.5555").Quantize(3); ok {
		t.Error("more than 28 digits must be refused")
	}
}

// drawDecimal leans towards the border between the small and the big shape.
func drawDecimal(t *rapid.T, label string) Decimal {
	switch rapid.IntRange(0, 3).Draw(t, label+" shape") {
	case 0:
		return DecimalScaled(rapid.Int64().Draw(t, label), uint8(rapid.IntRange(0, 18).Draw(t, label+" scale")))
	case 1:
		c := rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64 + 1, math.MinInt64, 1, -1, 0}).Draw(t, label)
		return DecimalScaled(c, uint8(rapid.IntRange(0, 3).Draw(t, label+" scale")))
	case 2:
		return DecimalScaled(rapid.Int64Range(-1e6, 1e6).Draw(t, label), uint8(rapid.IntRange(0, 3).Draw(t, label+" scale")))
	}
	return MustDecimal(rapid.StringMatching(`-?[1-9][0-9]{0,24}(\.[0-9]{1,3})?`).Draw(t, label))
}

// exact is the oracle: a rational number.
func exact(d Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic(d.String())
	}
	return r
}

func TestDecimalAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDecimal(t, "a"), drawDecimal(t, "b")
		if c, ok := a.Cmp(b); !ok || c != exact(a).Cmp(exact(b)) {
			t.Fatalf("%v cmp %v = %d", a, b, c)
		}
		if back := MustDecimal(a.String()); back.String() != a.String() || !back.Equal(a) {
			t.Fatalf("%v does not survive its text", a)
		}
		// The result is the exact one, rounded half to even to 28 digits.
		want := new(apd.Decimal)
		if _, err := arithmetic.Add(want, a.apd(), b.apd()); err != nil {
			t.Fatal(err)
		}
		if got := a.Add(b); !got.Equal(fromAPD(want)) {
			t.Fatalf("%v + %v = %v, want %v", a, b, got, want)
		}
		if want.NumDigits() < 28 && exact(a.Add(b)).Cmp(new(big.Rat).Add(exact(a), exact(b))) != 0 {
			t.Fatalf("%v + %v is not exact", a, b)
		}
		if _, err := arithmetic.Sub(want, a.apd(), b.apd()); err != nil {
			t.Fatal(err)
		}
		if got := a.Sub(b); !got.Equal(fromAPD(want)) {
			t.Fatalf("%v - %v = %v, want %v", a, b, got, want)
		}
		if n := a.Normalize(); !n.Equal(a) {
			t.Fatalf("%v normalized is %v", a, n)
		}
	})
}
