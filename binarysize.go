package backendai

import (
	"math/big"
	"strings"
)

// sizeLetters are the scale letters in order of magnitude: the nth stands for 1024^n.
const sizeLetters = " kmgtpezy"

var sizeEndings = []string{"ibytes", "ibyte", "ib", "bytes", "byte", "b"}

// BinarySize is a number of bytes that prints in the short form: "1g", "1.5k", "512". Use Decimal for amounts that may be infinite.
type BinarySize int64

func sizeScale(letter byte) (Decimal, bool) {
	n := strings.IndexByte(sizeLetters, letter)
	if n < 0 {
		return Decimal{}, false
	}
	d := DecimalOf(1)
	for range n {
		d = d.Mul(DecimalOf(1024))
	}
	return d, true
}

// ParseBinarySize reads a size: a whole number of bytes, or a decimal with a scale letter k m g t p e z y (times 1024 each, any case) and
// optionally "b", "ib", "byte", "bytes" and so on; or inf, infinite, infinity. The result is whole or +Infinity.
//
// The rule is the original's, odd corners included: the character before "b" or "bytes" is always the scale letter, a blank standing for
// 1, so "10 bytes" is fine and "10bytes" is not; and a fraction needs a scale. Errors: InvalidArgument. (spec/scheduling §2.3)
func ParseBinarySize(text string) (Decimal, error) {
	s := strings.ReplaceAll(strings.TrimSpace(text), "_", "")
	lower := strings.ToLower(s)
	switch lower {
	case "inf", "infinite", "infinity":
		return Infinity(), nil
	case "":
		return Decimal{}, Errorf(InvalidArgument, "a size must not be empty")
	}
	if d, err := ParseDecimal(s); err == nil && wholeNumber(s) {
		return d, nil
	}
	rest, found := lower, false
	for _, ending := range sizeEndings {
		if rest, found = strings.CutSuffix(lower, ending); found {
			break
		}
	}
	if rest == "" {
		return Decimal{}, Errorf(InvalidArgument, "no number in size %s", Repr(clip(text)))
	}
	letter := rest[len(rest)-1]
	if !found && letter >= '0' && letter <= '9' {
		if strings.Contains(rest, ".") {
			return Decimal{}, Errorf(InvalidArgument, "Fractional bytes are not allowed: %s", Repr(clip(text)))
		}
		return Decimal{}, Errorf(InvalidArgument, "invalid size: %s", Repr(clip(text)))
	}
	scale, ok := sizeScale(letter)
	if !ok {
		return Decimal{}, Errorf(InvalidArgument, "unknown scale letter in size %s", Repr(clip(text)))
	}
	number, err := ParseDecimal(rest[:len(rest)-1])
	if err != nil || !number.IsFinite() {
		return Decimal{}, Errorf(InvalidArgument, "invalid number in size %s", Repr(clip(text)))
	}
	return number.Mul(scale).Truncate(), nil
}

// wholeNumber tells texts of an optional sign and digits.
func wholeNumber(s string) bool {
	s = strings.TrimLeft(s[:1], "+-") + s[1:]
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// ParseBytes is ParseBinarySize for sizes that must be finite and fit 63 bits, e.g. shared memory. Errors: InvalidArgument.
func ParseBytes(text string) (BinarySize, error) {
	d, err := ParseBinarySize(text)
	if err != nil {
		return 0, err
	}
	n, ok := d.Int64()
	if !ok {
		return 0, Errorf(InvalidArgument, "the size %s is too large", Repr(clip(text)))
	}
	return BinarySize(n), nil
}

// ParseAllocation reads an amount as agents report allocations: a size if the last character is a scale letter or a blank, else a plain
// decimal. (spec/agent-protocol §4.8)
func ParseAllocation(text string) (Decimal, error) {
	if text != "" && strings.IndexByte(sizeLetters, text[len(text)-1]|0x20) >= 0 {
		if strings.TrimSpace(text) == "" {
			return Decimal{}, Errorf(InvalidArgument, "an allocation must not be empty")
		}
		if !isInfinityText(text) {
			return ParseBinarySize(text)
		}
	}
	return ParseDecimal(text)
}

// isInfinityText: "Infinity" ends in a letter that is also a scale.
func isInfinityText(text string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSpace(text)), "infinity")
}

// autoScale picks the largest unit that leaves at least 1: integer division by 1024 while ≥ 1024. Negative sizes stay unscaled, as in
// the original.
func autoScale(n *big.Int) (unit int) {
	limit := big.NewInt(1024)
	for v := new(big.Int).Set(n); v.Cmp(limit) >= 0 && unit < len(sizeLetters)-1; unit++ {
		v.Rsh(v, 10)
	}
	return unit
}

// inUnit renders n / 1024^unit: whole if exact, else rounded half to even to two fraction digits without trailing zeros.
func inUnit(n *big.Int, unit int) string {
	divisor := new(big.Int).Lsh(big.NewInt(1), uint(10*unit))
	if q, r := new(big.Int).QuoRem(n, divisor, new(big.Int)); r.Sign() == 0 {
		return q.String()
	}
	hundredths, r := new(big.Int).QuoRem(new(big.Int).Mul(new(big.Int).Abs(n), big.NewInt(100)), divisor, new(big.Int))
	switch c := r.Lsh(r, 1).Cmp(divisor); {
	case c > 0, c == 0 && hundredths.Bit(0) == 1:
		hundredths.Add(hundredths, big.NewInt(1))
	}
	text := hundredths.String()
	for len(text) < 3 {
		text = "0" + text
	}
	text = strings.TrimRight(strings.TrimRight(text[:len(text)-2]+"."+text[len(text)-2:], "0"), ".")
	if n.Sign() < 0 && text != "0" {
		text = "-" + text
	}
	return text
}

func shortSize(n *big.Int) string {
	unit := autoScale(n)
	text := inUnit(n, unit)
	if unit > 0 {
		text += sizeLetters[unit : unit+1]
	}
	return text
}

func longSize(n *big.Int) string {
	unit := autoScale(n)
	switch {
	case unit > 0:
		return inUnit(n, unit) + " " + strings.ToUpper(sizeLetters[unit:unit+1]) + "iB"
	case n.IsInt64() && n.Int64() == 1:
		return "1 byte"
	}
	return n.String() + " bytes"
}

// HumanSize renders d as a size in the short form; a fraction of a byte is dropped, Infinity stays "Infinity".
func (d Decimal) HumanSize() string {
	if !d.IsFinite() {
		return d.String()
	}
	return shortSize(d.truncated())
}

// String is the short form, as in messages and allocations: "1m", "1.15g", "512" (spec/scheduling §2.4).
func (s BinarySize) String() string { return shortSize(big.NewInt(int64(s))) }

// Long is the long form: "1 byte", "512 bytes", "1.5 KiB" (spec/scheduling §2.4).
func (s BinarySize) Long() string { return longSize(big.NewInt(int64(s))) }

// In renders in one fixed unit, given by its letter: BinarySize(1<<30).In('m') is "1024m". A blank is bytes. An unknown letter gives
// the short form.
func (s BinarySize) In(letter byte) string {
	unit := strings.IndexByte(sizeLetters, letter|0x20)
	if unit < 0 {
		return s.String()
	}
	text := inUnit(big.NewInt(int64(s)), unit)
	if unit > 0 {
		text += sizeLetters[unit : unit+1]
	}
	return text
}
