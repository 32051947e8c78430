package golden

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"backend.ai/manager/api/signing"
)

// Entry is one request with its answer.
type Entry struct {
	Name     string
	Request  Request
	Response Response
}

// Request as recorded.
type Request struct {
	Method, Path string
	As           string // whose key signed: a name of Keys, "explicit", or "" for nobody
	Headers      map[string]string
	Body         json.RawMessage // JSON, a JSON string for other texts, or null
}

// Response as recorded. A status of 0 means that the connection ended without an answer.
type Response struct {
	Status  int
	Headers map[string]string
	Body    any
}

// Difference says what an answer is meant to be where it is not what was recorded.
type Difference struct {
	// Why, with the section of the specification.
	Why string
	// Want changes the recorded answer into the right one.
	Want func(*Response)
}

// Load reads a capture.
func Load(tb testing.TB, path string) []Entry {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var entries []Entry
	if err := json.Unmarshal(raw, &entries); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return entries
}

var dateHeaders = []string{"Date", "X-BackendAI-Date", "X-Sorna-Date"}

// date gives a request's date header, its time and whether it could be read.
func (r Request) date(now time.Time) (header string, at time.Time, ok bool) {
	for _, h := range dateHeaders {
		if text, there := r.Headers[h]; there {
			at, ok := signing.ParseDate(text, now)
			return h, at, ok
		}
	}
	return "", time.Time{}, false
}

// middle is the median of all dates: when the capture was taken.
func middle(entries []Entry) time.Time {
	var all []time.Time
	for _, e := range entries {
		if _, at, ok := e.Request.date(time.Now()); ok {
			all = append(all, at)
		}
	}
	if len(all) == 0 {
		return time.Now()
	}
	slices.SortFunc(all, time.Time.Compare)
	return all[len(all)/2]
}

// layouts are the forms of dates in captures, longest first.
var layouts = []string{"2006-01-02T15:04:05.000000-07:00", "2006-01-02T15:04:05-07:00", "2006-01-02T15:04:05", time.RFC1123}

// move gives a date of the same form, in the same zone, at another time.
func move(text string, at, to time.Time) string {
	for _, layout := range layouts {
		if at.Format(layout) == text {
			return to.In(at.Location()).Format(layout)
		}
	}
	if at.Location() == time.UTC {
		return to.UTC().Format(time.RFC1123[:len(time.RFC1123)-3] + "GMT")
	}
	return to.In(at.Location()).Format(layouts[0])
}
