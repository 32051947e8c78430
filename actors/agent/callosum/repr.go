package callosum

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Repr renders a value as Python's repr() does, for the texts of exceptions: users of the reference match on them.
// Strings, integers, floats, bools, nil and lists of them are exact; other values are shown as Go prints them.
func Repr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return reprText(v)
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if v == float64(int64(v)) && v < 1e16 && v > -1e16 {
			s = strconv.FormatFloat(v, 'f', 1, 64)
		}
		return s
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = reprText(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = Repr(x)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func reprText(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.Is(unicode.Zs, r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

// validText replaces what is not UTF-8: a peer would drop the whole answer otherwise (spec §2.11).
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
