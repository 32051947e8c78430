package engine

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	null = "null"
	hex  = "0123456789abcdef"
)

// plain are the bytes that a text shows as they are.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	return t
}()

// appendText writes a JSON text in ASCII, byte for byte as the rest of the API does (backendai.EncodeJSON).
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		n := 1
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c < utf8.RuneSelf:
			b = appendUnit(b, uint16(c))
		default:
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				b = appendUnit(appendUnit(b, uint16(hi)), uint16(lo))
			} else {
				b = appendUnit(b, uint16(r))
			}
		}
		i += n
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

func appendUnit(b []byte, u uint16) []byte {
	return append(b, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

func appendBool(b []byte, v bool) []byte { return strconv.AppendBool(b, v) }
