package backendai

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// ParseDecimal reads a decimal text: optional sign, digits with optional point, optional exponent; or infinity/inf/nan in any
// case. Blanks around and underscores between are ignored. Errors: InvalidArgument.
func ParseDecimal(text string) (Decimal, error) {
	s := strings.TrimSpace(text)
	if d, ok := parseSmall(s); ok {
		return d, nil
	}
	return parseSlow(s, text)
}

// parseSmall handles [sign]digits[.digits] of at most 18 digits.
func parseSmall(s string) (Decimal, bool) {
	i, neg := 0, false
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		neg = s[i] == '-'
		i++
	}
	if len(s)-i > maxScale+1 {
		return Decimal{}, false
	}
	var coef int64
	digits, scale, point := 0, 0, false
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			coef = coef*10 + int64(c-'0')
			digits++
			if point {
				scale++
			}
		case c == '.' && !point:
			point = true
		default:
			return Decimal{}, false
		}
	}
	if digits == 0 || digits > maxScale {
		return Decimal{}, false
	}
	if neg {
		coef = -coef
	}
	return Decimal{coef: coef, scale: uint8(scale)}, true
}

func parseSlow(s, original string) (Decimal, error) {
	s = strings.ReplaceAll(s, "_", "")
	body, neg := strings.TrimPrefix(s, "+"), false
	if b, ok := strings.CutPrefix(s, "-"); ok {
		body, neg = b, true
	}
	switch strings.ToLower(body) {
	case "inf", "infinity":
		if neg {
			return NegativeInfinity(), nil
		}
		return Infinity(), nil
	case "nan":
		return NaN(), nil
	}
	bad := func() (Decimal, error) {
		return Decimal{}, Errorf(InvalidArgument, "invalid decimal value: %s", strconv.Quote(clip(original)))
	}
	mantissa, exponent := body, int64(0)
	if i := strings.IndexAny(body, "eE"); i >= 0 {
		e, err := strconv.ParseInt(body[i+1:], 10, 32)
		if err != nil {
			return bad()
		}
		mantissa, exponent = body[:i], e
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return bad()
	}
	exponent -= int64(len(fraction))
	if len(digits) > maxDigits || exponent > maxDigits || exponent < -maxDigits {
		return bad()
	}
	var c apd.BigInt
	if _, ok := c.SetString(digits, 10); !ok {
		return bad()
	}
	d := &apd.Decimal{Exponent: int32(exponent), Negative: neg}
	d.Coeff.Set(&c)
	return fromAPD(d), nil
}

// MustDecimal is ParseDecimal for constants and tests; it panics on a malformed text.
func MustDecimal(text string) Decimal {
	d, err := ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return d
}

// String renders plain notation, never scientific: trailing zeros as they are, "Infinity", "-Infinity", "NaN".
// (spec/scheduling §2.2)
func (d Decimal) String() string { return string(d.appendText(nil)) }

func (d Decimal) appendText(b []byte) []byte {
	switch d.kind {
	case kindBig:
		return d.big.Append(b, 'f')
	case kindPosInf:
		return append(b, "Infinity"...)
	case kindNegInf:
		return append(b, "-Infinity"...)
	case kindNaN:
		return append(b, "NaN"...)
	}
	if d.scale == 0 {
		return strconv.AppendInt(b, d.coef, 10)
	}
	if d.coef < 0 {
		b = append(b, '-')
	}
	u := uint64(d.coef)
	if d.coef < 0 {
		u = -u
	}
	p := uint64(pow10[d.scale])
	b = strconv.AppendUint(b, u/p, 10)
	b = append(b, '.')
	frac := strconv.FormatUint(u%p, 10)
	for range int(d.scale) - len(frac) {
		b = append(b, '0')
	}
	return append(b, frac...)
}

// AppendText appends what String renders.
func (d Decimal) AppendText(b []byte) ([]byte, error) { return d.appendText(b), nil }

// MarshalText renders like String.
func (d Decimal) MarshalText() ([]byte, error) { return d.appendText(nil), nil }

// UnmarshalText reads like ParseDecimal.
func (d *Decimal) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDecimal(string(text))
	return err
}

// UnmarshalJSON accepts a string or a number; null changes nothing, as everywhere in encoding/json.
func (d *Decimal) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if text == "null" {
		return nil
	}
	if len(raw) >= 2 && raw[0] == '"' {
		var err error
		if text, err = strconv.Unquote(text); err != nil {
			return Errorf(InvalidArgument, "invalid decimal value").WithCause(err)
		}
	}
	return d.UnmarshalText([]byte(text))
}

// clip keeps foreign text in messages short.
func clip(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:77], ""), len(s))
	}
	return s
}
