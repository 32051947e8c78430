package shared

import (
	"strings"
)

// Quote percent-encodes one component of a key: everything but A-Z a-z 0-9 _ . - ~ (spec/config-cli-ops §2.4). "myhost:5000" becomes
// "myhost%3A5000".
func Quote(component string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(component) {
		c := component[i]
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// Unquote undoes Quote. A % that no two hexadecimal digits follow stays as it is, and bytes that are no UTF-8 become U+FFFD.
func Unquote(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if high, low := unhex(text[i+1]), unhex(text[i+2]); high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// Join makes a key of components that are already quoted; empty ones are left out.
func Join(components ...string) string {
	kept := components[:0:0]
	for _, c := range components {
		if c = strings.Trim(c, "/"); c != "" {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, "/")
}
