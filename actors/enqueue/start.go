package enqueue

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// isoLayouts are the forms of ISO 8601 that are understood; a time without a zone is in the zone of the manager's machine.
var isoLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04",
	"2006-01-02T15", "2006-01-02", "20060102T150405Z0700", "20060102T150405", "20060102", "2006-01", "2006",
}

var relative = regexp.MustCompile(`^\s*([+-])?\s*(?:([0-9.]+)\s*(?:days|day|d))?\s*(?:([0-9.]+)\s*(?:hours|hour|hrs|hr|h))?\s*(?:([0-9.]+)\s*(?:minutes|minute|mins|min|m))?\s*(?:([0-9.]+)\s*(?:seconds|second|secs|sec|s))?\s*$`)

// ParseStart reads when a batch session may start at the earliest: a time, or a duration from now such as "1h30m" or "300" (seconds).
// A number of 4 or 8 digits is a year or a date, as in the original (spec/rest-session §3.4 step 6).
func ParseStart(text string, now time.Time) (time.Time, bool) {
	s := strings.TrimSpace(text)
	for _, layout := range isoLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, true
		}
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return now.Add(time.Duration(n * float64(time.Second))), true
	}
	m := relative.FindStringSubmatch(s)
	if m == nil || m[2]+m[3]+m[4]+m[5] == "" {
		return time.Time{}, false
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+2] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+2], 64)
		if err != nil {
			return time.Time{}, false
		}
		d += time.Duration(n * float64(unit))
	}
	if m[1] == "-" {
		d = -d
	}
	return now.Add(d), true
}
