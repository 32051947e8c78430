package graphql

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// The scalars of the schema (spec/graphql §1.2), as they are read from rows and shown. Only ID is used as an argument as well.

// DateTime is shown with its offset, which is always that of UTC.
type DateTime time.Time

// AppendGraphQL implements engine.Output.
func (t DateTime) AppendGraphQL(b []byte) []byte {
	u := time.Time(t).UTC()
	layout := `"2006-01-02T15:04:05.000000-07:00"`
	if u.Nanosecond()/1000 == 0 {
		layout = `"2006-01-02T15:04:05-07:00"`
	}
	return u.AppendFormat(b, layout)
}

// Scan reads a column.
func (t *DateTime) Scan(column any) error {
	v, ok := column.(time.Time)
	if !ok {
		return fmt.Errorf("a %T is no time", column)
	}
	*t = DateTime(v)
	return nil
}

// ScanTime implements listing.Timer.
func (t *DateTime) ScanTime(v time.Time) { *t = DateTime(v) }

// JSONString is a text that holds JSON, in the original's spelling.
type JSONString string

// Scan reads a column; JSON's null is for the statement to turn into NULL.
func (j *JSONString) Scan(column any) error {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("a %T is no JSON text", column)
	}
	return j.ScanText(text)
}

// ScanText implements listing.Texter.
func (j *JSONString) ScanText(text string) error {
	*j = JSONString(ascii(text))
	return nil
}

// encoded renders a value.
func encoded(v any) (*JSONString, error) {
	text, err := backendai.EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	j := JSONString(text)
	return &j, nil
}

// ascii writes everything else as \u escapes; outside of strings JSON has nothing else.
func ascii(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			b := []byte(s[:i])
			for _, r := range s[i:] {
				if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
					b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
				} else if r >= utf8.RuneSelf {
					b = fmt.Appendf(b, `\u%04x`, r)
				} else {
					b = append(b, byte(r))
				}
			}
			return string(b)
		}
	}
	return s
}

// SlotString is a JSONString of resource slots with decimal texts as amounts. Rows of old versions may hold numbers and sizes.
type SlotString string

// Scan reads a column.
func (s *SlotString) Scan(column any) error {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("a %T is no JSON text", column)
	}
	return s.ScanText(text)
}

// ScanText implements listing.Texter.
func (s *SlotString) ScanText(text string) error {
	if plainSlots(text) {
		*s = SlotString(ascii(text))
		return nil
	}
	var slots backendai.ResourceSlots
	if err := slots.UnmarshalJSON([]byte(text)); err != nil {
		return err
	}
	return s.set(slots)
}

func (s *SlotString) set(slots backendai.ResourceSlots) error {
	text, err := backendai.EncodeJSON(slots)
	*s = SlotString(text)
	return err
}

// slots are the amounts.
func (s *SlotString) slots() (slots backendai.ResourceSlots, err error) {
	if s != nil {
		err = slots.UnmarshalJSON([]byte(*s))
	}
	return slots, err
}

// plainSlots tells whether all values of an object are texts of digits, which need no conversion: nearly always.
func plainSlots(s string) bool {
	s, ok := strings.CutPrefix(s, "{")
	s, ok2 := strings.CutSuffix(s, "}")
	if !ok || !ok2 || strings.Contains(s, `\`) {
		return false
	}
	for s != "" {
		name, after, ok := strings.Cut(s, `": "`)
		end := strings.IndexByte(after, '"')
		if !ok || end < 1 || strings.LastIndexByte(name, '"') != 0 {
			return false
		}
		for i := range end {
			if after[i] != '.' && (after[i] < '0' || after[i] > '9') {
				return false
			}
		}
		s = strings.TrimPrefix(after[end+1:], ", ")
	}
	return true
}

// BigInt is shown as the original does: beyond 32 bits with a fraction.
type BigInt int64

// AppendGraphQL implements engine.Output.
func (n BigInt) AppendGraphQL(b []byte) []byte {
	b = strconv.AppendInt(b, int64(n), 10)
	if n != BigInt(int32(n)) && n > -1<<53 && n < 1<<53 {
		b = append(b, ".0"...)
	}
	return b
}

// Float always has a fraction.
type Float float64

// AppendGraphQL implements engine.Output.
func (f Float) AppendGraphQL(b []byte) []byte {
	text, err := f.MarshalJSON()
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, text...)
}

func (f Float) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("null"), nil
	}
	text, err := json.Marshal(float64(f))
	if err == nil && !strings.ContainsAny(string(text), ".e") {
		text = append(text, ".0"...)
	}
	return text, err
}

// UUID is a dashed, lower-case text.
type UUID string

// uuidArg is a UUID as an argument. It is only looked at by the resolver, whose errors tell their place.
type uuidArg string

// UnmarshalGraphQL takes any text.
func (u *uuidArg) UnmarshalGraphQL(input any) error {
	text, ok := input.(string)
	if !ok {
		text = fmt.Sprint(input) // no number is a UUID: parse will say so
	}
	*u = uuidArg(text)
	return nil
}

// parse takes every form of a UUID.
func (u uuidArg) parse() (string, error) {
	id, err := uuid.Parse(string(u))
	if err != nil {
		return "", backendai.Errorf(backendai.InvalidArgument, "badly formed hexadecimal UUID string")
	}
	return id.String(), nil
}

// ID is any text, or a number.
type ID string

// UnmarshalGraphQL takes texts and integers.
func (i *ID) UnmarshalGraphQL(input any) error {
	switch v := input.(type) {
	case string:
		*i = ID(v)
	case int32:
		*i = ID(strconv.Itoa(int(v)))
	case float64:
		*i = ID(strconv.FormatFloat(v, 'f', -1, 64))
	default:
		return fmt.Errorf("a %T is no ID", input)
	}
	return nil
}
