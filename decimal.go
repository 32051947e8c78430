package backendai

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

// decimalKind tells the four shapes of a Decimal apart.
type decimalKind uint8

const (
	kindSmall decimalKind = iota // coef · 10^-scale; the shape of nearly every amount
	kindBig                      // finite, but does not fit the small shape
	kindPosInf
	kindNegInf
	kindNaN
)

const (
	// maxScale is the largest number of fraction digits of the small shape: 10^18 is the largest power of ten in an int64.
	maxScale = 18
	// maxDigits bounds the digits a parsed number may have before and after its point. The decimal context of the
	// original holds 28; the bound only keeps a text such as "1E+999999999" from being expanded.
	maxDigits = 256
)

// arithmetic is the context of every operation that leaves the small shape: 28 digits, half to even (spec/scheduling §2.2).
var arithmetic = func() apd.Context {
	c := apd.BaseContext.WithPrecision(28)
	c.Rounding = apd.RoundHalfEven
	c.Traps = 0
	return *c
}()

var pow10 = func() (p [maxScale + 1]int64) {
	p[0] = 1
	for i := 1; i <= maxScale; i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// Decimal is an exact decimal number, or ±Infinity, or NaN: the amount in a resource slot. The zero value is 0. Values are
// immutable and cheap to copy. Amounts that fit 64 bits (all that occur in practice) are added and compared as integers, without
// allocating; only others go through arbitrary-precision arithmetic, with the same results.
//
// Trailing zeros are kept ("2.50" stays "2.50"), so == tells texts apart; compare numbers with Equal or Cmp.
// (spec/scheduling §2.2)
type Decimal struct {
	coef  int64
	big   *apd.Decimal // only kindBig; never changed after construction
	scale uint8        // fraction digits, only kindSmall
	kind  decimalKind
}

// Infinity is the amount "without limit".
func Infinity() Decimal { return Decimal{kind: kindPosInf} }

// NegativeInfinity is the mirror of Infinity; it occurs in stored rows only.
func NegativeInfinity() Decimal { return Decimal{kind: kindNegInf} }

// NaN is the result of operations without one, such as Infinity − Infinity. No ordering comparison with it holds.
func NaN() Decimal { return Decimal{kind: kindNaN} }

// DecimalOf makes a whole number.
func DecimalOf(n int64) Decimal { return Decimal{coef: n} }

// DecimalScaled makes coef · 10^-scale, e.g. (25, 1) = 2.5. A scale beyond 18 panics: it is a programming error.
func DecimalScaled(coef int64, scale uint8) Decimal {
	_ = pow10[scale]
	return Decimal{coef: coef, scale: scale}
}

// fromAPD takes d over and returns it in the smallest shape that holds it. Positive exponents are expanded.
func fromAPD(d *apd.Decimal) Decimal {
	switch d.Form {
	case apd.Infinite:
		if d.Negative {
			return NegativeInfinity()
		}
		return Infinity()
	case apd.NaN, apd.NaNSignaling:
		return NaN()
	}
	if d.Coeff.Sign() == 0 {
		d.Negative = false
		if d.Exponent >= 0 {
			return Decimal{}
		}
	}
	if d.Exponent > 0 {
		p := new(apd.BigInt).Exp(apd.NewBigInt(10), apd.NewBigInt(int64(d.Exponent)), nil)
		d.Coeff.Mul(&d.Coeff, p)
		d.Exponent = 0
	}
	if d.Exponent >= -maxScale && d.Coeff.IsInt64() {
		c := d.Coeff.Int64()
		if d.Negative {
			c = -c
		}
		return Decimal{coef: c, scale: uint8(-d.Exponent)}
	}
	return Decimal{kind: kindBig, big: d}
}

// apd returns d for the slow path. The result must not be changed.
func (d Decimal) apd() *apd.Decimal {
	switch d.kind {
	case kindBig:
		return d.big
	case kindPosInf:
		return &apd.Decimal{Form: apd.Infinite}
	case kindNegInf:
		return &apd.Decimal{Form: apd.Infinite, Negative: true}
	case kindNaN:
		return &apd.Decimal{Form: apd.NaN}
	}
	return apd.New(d.coef, -int32(d.scale))
}

// IsFinite tells numbers from ±Infinity and NaN.
func (d Decimal) IsFinite() bool { return d.kind <= kindBig }

// IsInf tells whether d is +Infinity.
func (d Decimal) IsInf() bool { return d.kind == kindPosInf }

// IsNaN tells whether d is NaN.
func (d Decimal) IsNaN() bool { return d.kind == kindNaN }

// IsZero tells whether d equals 0.
func (d Decimal) IsZero() bool { return d.Sign() == 0 && d.kind != kindNaN }

// Sign is −1, 0 or 1; 0 for NaN.
func (d Decimal) Sign() int {
	switch d.kind {
	case kindSmall:
		switch {
		case d.coef > 0:
			return 1
		case d.coef < 0:
			return -1
		}
		return 0
	case kindBig:
		return d.big.Sign()
	case kindPosInf:
		return 1
	case kindNegInf:
		return -1
	}
	return 0
}

// align brings two small decimals to one scale; false when a coefficient would overflow.
func align(a, b Decimal) (x, y int64, scale uint8, ok bool) {
	switch {
	case a.scale == b.scale:
		return a.coef, b.coef, a.scale, true
	case a.scale < b.scale:
		x, ok = mulInt64(a.coef, pow10[b.scale-a.scale])
		return x, b.coef, b.scale, ok
	}
	y, ok = mulInt64(b.coef, pow10[a.scale-b.scale])
	return a.coef, y, a.scale, ok
}

// mulInt64 multiplies by a positive factor and tells whether the product fits.
func mulInt64(a, factor int64) (int64, bool) {
	u := uint64(a)
	if a < 0 {
		u = -u
	}
	hi, lo := bits.Mul64(u, uint64(factor))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if a < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

// Add returns d + e. Infinity + x = Infinity; Infinity + −Infinity = NaN.
func (d Decimal) Add(e Decimal) Decimal {
	if d.kind|e.kind == kindSmall {
		if x, y, s, ok := align(d, e); ok {
			if sum := x + y; (sum > x) == (y > 0) {
				return Decimal{coef: sum, scale: s}
			}
		}
	}
	r := new(apd.Decimal)
	_, _ = arithmetic.Add(r, d.apd(), e.apd())
	return fromAPD(r)
}

// Sub returns d − e. Infinity − x = Infinity; Infinity − Infinity = NaN.
func (d Decimal) Sub(e Decimal) Decimal {
	if d.kind|e.kind == kindSmall {
		if x, y, s, ok := align(d, e); ok {
			if diff := x - y; (diff < x) == (y > 0) {
				return Decimal{coef: diff, scale: s}
			}
		}
	}
	r := new(apd.Decimal)
	_, _ = arithmetic.Sub(r, d.apd(), e.apd())
	return fromAPD(r)
}

// Mul returns d · e, rounded to 28 digits half to even.
func (d Decimal) Mul(e Decimal) Decimal {
	r := new(apd.Decimal)
	_, _ = arithmetic.Mul(r, d.apd(), e.apd())
	return fromAPD(r)
}

// Cmp orders two decimals by value: −1, 0, 1. ok is false when either is NaN, which has no place in the order.
func (d Decimal) Cmp(e Decimal) (order int, ok bool) {
	if d.kind|e.kind == kindSmall {
		if x, y, _, fits := align(d, e); fits {
			switch {
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
	}
	if d.kind == kindNaN || e.kind == kindNaN {
		return 0, false
	}
	return d.apd().Cmp(e.apd()), true
}

// Equal compares by value: 2.50 equals 2.5. NaN equals nothing.
func (d Decimal) Equal(e Decimal) bool { c, ok := d.Cmp(e); return ok && c == 0 }

// LessEq tells d ≤ e; false with NaN, so that nothing fits an amount that is not a number.
func (d Decimal) LessEq(e Decimal) bool { c, ok := d.Cmp(e); return ok && c <= 0 }

// Less tells d < e; false with NaN.
func (d Decimal) Less(e Decimal) bool { c, ok := d.Cmp(e); return ok && c < 0 }

// Truncate drops the fraction (towards zero). Infinities and NaN stay.
func (d Decimal) Truncate() Decimal {
	switch d.kind {
	case kindSmall:
		return Decimal{coef: d.coef / pow10[d.scale]}
	case kindBig:
		n := d.truncated()
		return fromAPD(apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), 0))
	}
	return d
}

// truncated is the whole part of a finite decimal.
func (d Decimal) truncated() *big.Int {
	if d.kind == kindSmall {
		return big.NewInt(d.coef / pow10[d.scale])
	}
	n := d.big.Coeff.MathBigInt()
	if d.big.Exponent < 0 {
		n.Quo(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(-int64(d.big.Exponent)), nil))
	}
	if d.big.Negative {
		n.Neg(n)
	}
	return n
}

// Quantize rounds to the given number of fraction digits, half to even, and drops trailing zeros. ok is false when the
// result would need more than the 28 digits of the context. Infinities and NaN stay. (spec/scheduling §2.5)
func (d Decimal) Quantize(digits uint8) (q Decimal, ok bool) {
	switch {
	case !d.IsFinite():
		return d, true
	case d.kind == kindSmall && d.scale <= digits:
		return d.Normalize(), true
	}
	r := new(apd.Decimal)
	cond, err := arithmetic.Quantize(r, d.apd(), -int32(digits))
	if err != nil || cond.InvalidOperation() {
		return Decimal{}, false
	}
	return fromAPD(r).Normalize(), true
}

// Normalize drops trailing zeros of the fraction.
func (d Decimal) Normalize() Decimal {
	switch d.kind {
	case kindSmall:
		for d.scale > 0 && d.coef%10 == 0 {
			d.coef /= 10
			d.scale--
		}
	case kindBig:
		r, _ := new(apd.Decimal).Reduce(d.big)
		return fromAPD(r)
	}
	return d
}

// Int64 returns the whole part when d is finite and it fits.
func (d Decimal) Int64() (n int64, ok bool) {
	if d.kind == kindSmall {
		return d.coef / pow10[d.scale], true
	}
	if d.kind != kindBig {
		return 0, false
	}
	t := d.truncated()
	return t.Int64(), t.IsInt64()
}

// Float64 is the nearest float, for shares and display.
func (d Decimal) Float64() float64 {
	switch d.kind {
	case kindSmall:
		if d.scale == 0 {
			return float64(d.coef)
		}
	case kindPosInf:
		return math.Inf(1)
	case kindNegInf:
		return math.Inf(-1)
	case kindNaN:
		return math.NaN()
	}
	f, _ := strconv.ParseFloat(d.String(), 64)
	return f
}
