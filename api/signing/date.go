package signing

import (
	"strings"
	"time"
)

// Window is how far a date may be off, either way, exclusively (spec/rest-core §2.3).
const Window = 15 * time.Minute

// InWindow tells whether a parsed date is near enough to now.
func InWindow(date, now time.Time) bool {
	d := date.Sub(now)
	return d < Window && d > -Window
}

// ParseDate reads a date header. The result keeps the offset of the text; a text without a zone, or with an unknown abbreviation, is
// in UTC. now is only used to tell the century of a two-digit year: the one within 50 years (spec/rest-core §2.3).
//
//	2022-03-01T12:34:56.789012+00:00   2022-03-01 12:34:56   20220301T123456Z      ISO 8601, extended and basic
//	Tue, 01 Mar 2022 12:34:56 GMT      Tuesday, 01-Mar-22 12:34:56 GMT             RFC 1123, RFC 850
//	Tue Mar  1 12:34:56 2022           Tue Mar 01 2022 21:34:56 GMT+0900 (KST)     asctime, JavaScript
//
// "GMT+0900" means nine hours ahead with and without the name behind it; the original inverted the sign without it, which is a defect.
func ParseDate(text string, now time.Time) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > 100 {
		return time.Time{}, false
	}
	if text[0] >= '0' && text[0] <= '9' {
		if t, ok := parseISO(text); ok {
			return t, true
		}
	}
	return parseWords(text, now)
}

// moment gathers the parts of a date; -1 = not seen.
type moment struct {
	year, month, day, hour, minute, second, nanos int
	zone                                          *time.Location
}

// time checks the calendar: time.Date would turn 30 February into 2 March.
func (m moment) time() (time.Time, bool) {
	if m.year < 1 || m.year > 9999 || m.month < 1 || m.month > 12 || m.day < 1 || m.day > 31 || m.hour > 23 || m.minute > 59 || m.second > 59 {
		return time.Time{}, false
	}
	if m.zone == nil {
		m.zone = time.UTC
	}
	t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.second, m.nanos, m.zone)
	return t, t.Day() == m.day
}

// scanner reads a text from left to right.
type scanner struct {
	text string
	at   int
}

func (s *scanner) rest() string { return s.text[s.at:] }
func (s *scanner) done() bool   { return s.at == len(s.text) }

func (s *scanner) accept(chars string) bool {
	if !s.done() && strings.IndexByte(chars, s.text[s.at]) >= 0 {
		s.at++
		return true
	}
	return false
}

func (s *scanner) spaces() {
	for s.accept(" \t") {
	}
}

// digits counts how many digits come next.
func (s *scanner) digits() int {
	n := 0
	for s.at+n < len(s.text) && s.text[s.at+n] >= '0' && s.text[s.at+n] <= '9' {
		n++
	}
	return n
}

// number reads exactly n digits (n ≤ 9).
func (s *scanner) number(n int) (v int, ok bool) {
	if s.digits() < n {
		return 0, false
	}
	for range n {
		v = v*10 + int(s.text[s.at]-'0')
		s.at++
	}
	return v, true
}

// fraction reads digits behind a separator, truncated to microseconds.
func (s *scanner) fraction() (nanos int, ok bool) {
	n := s.digits()
	if n == 0 {
		return 0, false
	}
	scale := 100_000_000
	for i := range n {
		if i < 6 {
			nanos += int(s.text[s.at]-'0') * scale
			scale /= 10
		}
		s.at++
	}
	return nanos, true
}

// clock reads HH:MM[:SS[.fraction]], or without colons HHMM[SS[.fraction]].
func (s *scanner) clock(m *moment) bool {
	var ok bool
	switch n := s.digits(); {
	case n == 1 || n == 2:
		m.hour, _ = s.number(n)
		if !s.accept(":") {
			return false
		}
		if m.minute, ok = s.number(2); !ok {
			return false
		}
		if s.accept(":") {
			if m.second, ok = s.number(2); !ok {
				return false
			}
		}
	case n == 4 || n == 6:
		m.hour, _ = s.number(2)
		m.minute, _ = s.number(2)
		if n == 6 {
			m.second, _ = s.number(2)
		}
	default:
		return false
	}
	if s.accept(".,") {
		if m.nanos, ok = s.fraction(); !ok {
			return false
		}
	}
	return true
}

// offset reads ±HH, ±HHMM or ±HH:MM.
func (s *scanner) offset() (*time.Location, bool) {
	sign := 1
	if !s.accept("+") {
		if !s.accept("-") {
			return nil, false
		}
		sign = -1
	}
	var h, min int
	n := s.digits()
	switch n {
	case 1, 2:
		h, _ = s.number(n)
		if s.accept(":") {
			var ok bool
			if min, ok = s.number(2); !ok {
				return nil, false
			}
		}
	case 4:
		h, _ = s.number(2)
		min, _ = s.number(2)
	default:
		return nil, false
	}
	seconds := h*3600 + min*60
	if seconds >= 24*3600 {
		return nil, false
	}
	return fixed(sign * seconds), true
}

// zone reads what may follow a time, up to the end: an offset, an abbreviation, "GMT+0900", "(KST)" or nothing.
func (s *scanner) zone() (*time.Location, bool) {
	s.spaces()
	zone := time.UTC
	if word := s.word(); word != "" {
		if word == "z" {
			word = "Z"
		}
		if !isZoneName(word) {
			return nil, false
		}
		zone = zoneOf(word)
		s.spaces()
	}
	if !s.done() && (s.text[s.at] == '+' || s.text[s.at] == '-') {
		var ok bool
		if zone, ok = s.offset(); !ok {
			return nil, false
		}
		s.spaces()
	}
	if strings.HasPrefix(s.rest(), "(") && strings.HasSuffix(s.text, ")") {
		s.at = len(s.text)
	}
	return zone, s.done()
}

// word reads letters.
func (s *scanner) word() string {
	start := s.at
	for !s.done() && (s.text[s.at]|0x20 >= 'a' && s.text[s.at]|0x20 <= 'z') {
		s.at++
	}
	return s.text[start:s.at]
}

// parseISO reads the extended and the basic form.
func parseISO(text string) (time.Time, bool) {
	s := &scanner{text: text}
	var m moment
	var ok bool
	switch s.digits() {
	case 4:
		m.year, _ = s.number(4)
		if !s.accept("-/.") {
			return time.Time{}, false
		}
		if m.month, ok = s.number(2); !ok || !s.accept("-/.") {
			return time.Time{}, false
		}
		if m.day, ok = s.number(2); !ok {
			return time.Time{}, false
		}
	case 8:
		m.year, _ = s.number(4)
		m.month, _ = s.number(2)
		m.day, _ = s.number(2)
	default:
		return time.Time{}, false
	}
	if s.done() {
		return m.time()
	}
	if !s.accept("Tt ") {
		return time.Time{}, false
	}
	s.spaces()
	if !s.clock(&m) {
		return time.Time{}, false
	}
	if m.zone, ok = s.zone(); !ok {
		return time.Time{}, false
	}
	return m.time()
}

var monthNames = [...]string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
var dayNames = [...]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// nameIn finds a name by at least its first three letters, counting from 1; 0 if it is none.
func nameIn(names []string, word string) int {
	if len(word) < 3 {
		return 0
	}
	word = strings.ToLower(word)
	for i, name := range names {
		if strings.HasPrefix(name, word) {
			return i + 1
		}
	}
	return 0
}

// parseWords reads the forms with names of days and months, in any order of their parts.
func parseWords(text string, now time.Time) (time.Time, bool) {
	s := &scanner{text: text}
	m := moment{year: -1, month: -1, day: -1}
	hasClock, zoned := false, false
	for {
		for s.accept(" \t,-") && !zoned {
		}
		if s.done() {
			break
		}
		switch n := s.digits(); {
		case n > 0 && s.at+n < len(s.text) && s.text[s.at+n] == ':' && !hasClock:
			if hasClock = s.clock(&m); !hasClock {
				return time.Time{}, false
			}
			// A zone follows the time directly, or after blanks; a number there is asctime's year.
			s.spaces()
			if s.done() || s.text[s.at] >= '0' && s.text[s.at] <= '9' {
				continue
			}
			if c := s.text[s.at]; c == '+' || c == '-' || isZoneName(peekWord(s)) {
				if zoned = s.zoneWithin(&m); !zoned {
					return time.Time{}, false
				}
			}
		case n == 4 && m.year < 0:
			m.year, _ = s.number(4)
		case (n == 1 || n == 2) && m.day < 0:
			m.day, _ = s.number(n)
		case n == 2 && m.year < 0:
			y, _ := s.number(2)
			m.year = century(y, now.Year())
		case n > 0:
			return time.Time{}, false
		default:
			word := s.word()
			if month := nameIn(monthNames[:], word); month > 0 && m.month < 0 {
				m.month = month
			} else if nameIn(dayNames[:], word) == 0 {
				return time.Time{}, false
			}
		}
	}
	if m.year < 0 || m.month < 0 || m.day < 0 || !hasClock {
		return time.Time{}, false
	}
	return m.time()
}

func peekWord(s *scanner) string { c := *s; return c.word() }

// zoneWithin reads a zone that a year may follow ("Tue Mar  1 12:34:56 UTC 2022").
func (s *scanner) zoneWithin(m *moment) bool {
	if i := strings.LastIndexByte(s.text, ' '); i > s.at && len(s.text)-i == 5 && m.year < 0 {
		tail := &scanner{text: s.text, at: i + 1}
		if year, ok := tail.number(4); ok {
			m.year = year
			s.text = s.text[:i]
		}
	}
	s.text = strings.TrimRight(s.text, " ")
	var ok bool
	m.zone, ok = s.zone()
	return ok
}

// century puts a two-digit year within 50 years of now.
func century(year, now int) int {
	year += now / 100 * 100
	switch {
	case year >= now+50:
		return year - 100
	case year < now-50:
		return year + 100
	}
	return year
}
