package params

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// The texts of complaints are those of the original (spec/rest-core §4); clients print them.

// Str is a text that is not empty.
func Str(raw any) (string, Complaint) {
	s, ok := raw.(string)
	if !ok {
		return "", "value is not a string"
	}
	if s == "" {
		return "", "blank value is not allowed"
	}
	return s, nil
}

// StrOrBlank is a text, also the empty one.
func StrOrBlank(raw any) (string, Complaint) {
	s, ok := raw.(string)
	if !ok {
		return "", "value is not a string"
	}
	return s, nil
}

// Max limits a text type to n characters (code points).
func Max(t Type[string], n int) Type[string] {
	return func(raw any) (string, Complaint) {
		s, c := t(raw)
		if c == nil && utf8.RuneCountInString(s) > n {
			return "", fmt.Sprintf("String is longer than %d characters", n)
		}
		return s, c
	}
}

// Match is a text that matches a pattern from its start; the value is the matched part. shown is the pattern as the original wrote it,
// for the complaint.
func Match(pattern *regexp.Regexp, shown string) Type[string] {
	return func(raw any) (string, Complaint) {
		s, ok := raw.(string)
		if !ok {
			return "", "value is not a string"
		}
		if at := pattern.FindStringIndex(s); at != nil && at[0] == 0 {
			return s[:at[1]], nil
		}
		return "", "does not match pattern " + shown
	}
}

// Text is a text that check accepts, else the complaint; for rules that are words of their own (session names).
func Text(check func(string) bool, complaint string) Type[string] {
	return func(raw any) (string, Complaint) {
		s, ok := raw.(string)
		if !ok {
			return "", "value is not a string"
		}
		if !check(s) {
			return "", complaint
		}
		return s, nil
	}
}

// Bool is true or false of JSON.
func Bool(raw any) (bool, Complaint) {
	v, ok := raw.(bool)
	if !ok {
		return false, "value should be True or False"
	}
	return v, nil
}

// ToBool is anything whose text means yes or no; null means no.
func ToBool(raw any) (bool, Complaint) {
	switch strings.ToLower(strings.TrimSpace(text(raw))) {
	case "t", "true", "y", "yes", "on", "1", "1.0":
		return true, nil
	case "false", "n", "no", "off", "0", "none", "0.0":
		return false, nil
	}
	return false, "value can't be converted to Bool"
}

// text is how the original writes a scalar; other values give a text that is no scalar's.
func text(raw any) string {
	switch v := raw.(type) {
	case nil:
		return "None"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return "\x00"
}

// Integer is a type of integers with optional bounds, both inclusive. Bounds that are not set do not exist.
type Integer struct {
	convert       func(any) (int64, Complaint)
	low, high     int64
	isLow, isHigh bool
	below, above  string
}

var (
	// Int is an integer, an integral float, a boolean or the text of an integer. (The original passed texts through unconverted, a
	// defect: this converts.)
	Int = Integer{convert: integer, below: "value is less than %d", above: "value is greater than %d"}
	// ToInt is an integer or a text that can be converted to one.
	ToInt = Integer{convert: toInteger, below: "value should be less than %d", above: "value should be greater than %d"}
)

// AtLeast bounds from below.
func (t Integer) AtLeast(n int64) Integer { t.low, t.isLow = n, true; return t }

// AtMost bounds from above.
func (t Integer) AtMost(n int64) Integer { t.high, t.isHigh = n, true; return t }

// Between bounds from both sides.
func (t Integer) Between(low, high int64) Integer { return t.AtLeast(low).AtMost(high) }

// Int64 is the type as a 64-bit integer.
func (t Integer) Int64(raw any) (int64, Complaint) {
	n, c := t.convert(raw)
	switch {
	case c != nil:
		return 0, c
	case t.isLow && n < t.low:
		return 0, fmt.Sprintf(t.below, t.low)
	case t.isHigh && n > t.high:
		return 0, fmt.Sprintf(t.above, t.high)
	}
	return n, nil
}

// Int is the type as an int.
func (t Integer) Int(raw any) (int, Complaint) {
	n, c := t.Int64(raw)
	return int(n), c
}

func integer(raw any) (int64, Complaint) {
	if b, ok := raw.(bool); ok {
		if b {
			return 1, nil
		}
		return 0, nil
	}
	switch raw.(type) {
	case string, json.Number:
		if n, ok := whole(strings.TrimSpace(text(raw)), isNumber(raw)); ok {
			return n, nil
		}
	}
	return 0, "value is not int"
}

func toInteger(raw any) (int64, Complaint) {
	switch v := raw.(type) {
	case bool, nil, []any, map[string]any:
		return 0, "value can't be converted to int"
	case json.Number:
		if n, ok := whole(v.String(), true); ok {
			return n, nil
		}
		return 0, "value is not int"
	}
	n, ok := whole(strings.TrimSpace(text(raw)), false)
	if !ok {
		return 0, "value can't be converted to int"
	}
	return n, nil
}

func isNumber(raw any) bool { _, ok := raw.(json.Number); return ok }

// whole reads an integer that fits 64 bits; with float also integral ones written as 2.0 or 2e3.
func whole(s string, float bool) (int64, bool) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64); err == nil {
		return n, true
	}
	if !float || len(s) > 40 {
		return 0, false
	}
	// A large exponent would make an enormous rational number of a short text.
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if exponent, err := strconv.Atoi(s[i+1:]); err != nil || exponent < -40 || exponent > 40 {
			return 0, false
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	return r.Num().Int64(), true
}

// Float is a number or the text of one; never infinite.
func Float(raw any) (float64, Complaint) {
	switch raw.(type) {
	case string, json.Number:
		if f, err := strconv.ParseFloat(strings.TrimSpace(text(raw)), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
	}
	return 0, "value can't be converted to float"
}

// Enum is one of a few texts, exactly.
func Enum[T ~string](members ...T) Type[T] {
	return func(raw any) (T, Complaint) {
		if s, ok := raw.(string); ok {
			for _, m := range members {
				if string(m) == s {
					return m, nil
				}
			}
		}
		return "", "value doesn't match any variant"
	}
}

// EnumOf is Enum with the complaint that the original had for enumerations; name is the enumeration's.
func EnumOf[T ~string](name string, members ...T) Type[T] {
	t := Enum(members...)
	return func(raw any) (T, Complaint) {
		v, c := t(raw)
		if c != nil {
			return v, "value is not a valid member of " + name
		}
		return v, nil
	}
}

var notHex = strings.NewReplacer("urn:", "", "uuid:", "", "{", "", "}", "", "-", "")

// UUID is 32 hexadecimal digits; hyphens, braces and "urn:uuid:" do not count.
func UUID(raw any) (uuid.UUID, Complaint) {
	if s, ok := raw.(string); ok && len(s) <= 64 {
		if hex := notHex.Replace(s); len(hex) == 32 {
			if u, err := uuid.Parse(hex); err == nil {
				return u, nil
			}
		}
	}
	return uuid.Nil, "cannot convert value to UUID"
}

// IDOrName is a UUID, or a name if the text does not look like one.
type IDOrName struct {
	ID   uuid.UUID // uuid.Nil when it is a name
	Name string
}

// IsID tells which of both it is.
func (v IDOrName) IsID() bool { return v.Name == "" }

// UUIDOrStr is "uuid|str".
func UUIDOrStr(raw any) (IDOrName, Complaint) {
	if u, c := UUID(raw); c == nil {
		return IDOrName{ID: u}, nil
	}
	s, c := Str(raw)
	if c != nil {
		return IDOrName{}, map[string]any{"0": "cannot convert value to UUID", "1": c}
	}
	return IDOrName{Name: s}, nil
}

var urlScheme = regexp.MustCompile(`(?i)^[-a-z0-9]+://`)

// URL is an absolute URL.
func URL(raw any) (string, Complaint) {
	s, ok := raw.(string)
	if ok && urlScheme.MatchString(s) {
		if _, err := url.Parse(s); err == nil {
			return s, nil
		}
	}
	return "", "value is not URL"
}

// BinarySize is an amount of bytes: a number or a text like "1.5GiB".
func BinarySize(raw any) (backendai.Decimal, Complaint) {
	switch raw.(type) {
	case string, json.Number:
		if v, err := backendai.ParseBinarySize(text(raw)); err == nil {
			return v, nil
		}
	}
	return backendai.Decimal{}, "value is not a valid binary size"
}

// Any is any value.
func Any(raw any) (any, Complaint) { return raw, nil }
