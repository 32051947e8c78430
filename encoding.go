package backendai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// EncodeJSON renders v byte for byte as the 22.03 manager renders it: a blank after each comma and colon, everything outside ASCII
// as \u escapes. Clients hash, log and compare bodies; equal bytes are the simplest promise. Map keys are sorted.
func EncodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, Internal(err)
	}
	src := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	out := make([]byte, 0, len(src)+len(src)/8)
	inString := false
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(src[i:])
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			i += n
			continue
		case inString && c == '\\':
			out = append(out, c, src[i+1])
			i += 2
			continue
		case c == '"':
			inString = !inString
		}
		out = append(out, c)
		if !inString && (c == ',' || c == ':') {
			out = append(out, ' ')
		}
		i++
	}
	return out, nil
}

// truthy follows the original's notion: nil, zero, empty are false.
func truthy(v any) bool {
	if v == nil {
		return false
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return r.Len() > 0
	default:
		return !r.IsZero()
	}
}

// Repr writes a value as the original's messages and status_data show it: 'text', None, True, [1, 'a'], {'k': 'v'}. Maps are sorted by
// key; structs are shown through their JSON form.
func Repr(v any) string {
	switch x := v.(type) {
	case nil:
		return "None"
	case string:
		return reprString(x)
	case bool:
		if x {
			return "True"
		}
		return "False"
	case fmt.Stringer:
		return reprString(x.String())
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.String:
		return reprString(r.String())
	case reflect.Slice, reflect.Array:
		items := make([]string, r.Len())
		for i := range items {
			items[i] = Repr(r.Index(i).Interface())
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		items := make([]string, 0, r.Len())
		for _, k := range r.MapKeys() {
			items = append(items, Repr(k.Interface())+": "+Repr(r.MapIndex(k).Interface()))
		}
		slices.Sort(items)
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Pointer:
		if r.IsNil() {
			return "None"
		}
		return Repr(r.Elem().Interface())
	case reflect.Struct:
		raw, err := json.Marshal(v)
		var plain any
		if err != nil || json.Unmarshal(raw, &plain) != nil {
			return reprString(fmt.Sprint(v))
		}
		return Repr(plain)
	}
	return fmt.Sprint(v)
}

func reprString(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b := []byte{quote}
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20 || r == 0x7f:
			b = fmt.Appendf(b, `\x%02x`, r)
		case strconv.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r <= 0xff:
			b = fmt.Appendf(b, `\x%02x`, r)
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = fmt.Appendf(b, `\U%08x`, r)
		}
	}
	return string(append(b, quote))
}
