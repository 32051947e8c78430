package signing_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backend.ai/manager/api/signing"
)

var now = time.Date(2026, 11, 24, 17, 45, 0, 0, time.UTC)

func TestDates(t *testing.T) {
	const want = "2022-03-01T12:34:56Z"
	for text, want := range map[string]string{
		"2022-03-01T12:34:56.789012+00:00":               "2022-03-01T12:34:56.789012Z",
		"2022-03-01T12:34:56.7890129+00:00":              "2022-03-01T12:34:56.789012Z",
		"2022-03-01T12:34:56,5Z":                         "2022-03-01T12:34:56.5Z",
		"2022-03-01T12:34:56.789Z":                       "2022-03-01T12:34:56.789Z",
		"2022-03-01 12:34:56":                            want,
		"2022-03-01T12:34:56 UTC":                        want,
		"2022-03-01T12:34:56z":                           want,
		"2022-03-01T12:34":                               "2022-03-01T12:34:00Z",
		"2022-03-01":                                     "2022-03-01T00:00:00Z",
		"20220301T123456Z":                               want,
		"20220301T12:34:56":                              want,
		"20220301T123456+0900":                           "2022-03-01T12:34:56+09:00",
		"2022-03-01T12:34:56+0530":                       "2022-03-01T12:34:56+05:30",
		"2022-03-01T12:34:56-03":                         "2022-03-01T12:34:56-03:00",
		"2022-03-01T12:34:56 KST":                        "2022-03-01T12:34:56+09:00",
		"2022-03-01T12:34:56 AST":                        "2022-03-01T12:34:56+03:00",
		"2022-03-01T12:34:56 XYZZY":                      want,
		"2022-03-01T12:34:56N":                           "2022-03-01T12:34:56-01:00",
		"Tue, 01 Mar 2022 12:34:56 GMT":                  want,
		"Tue, 1 Mar 2022 12:34:56 +0200":                 "2022-03-01T12:34:56+02:00",
		"01 Mar 2022 12:34:56 PST":                       "2022-03-01T12:34:56-08:00",
		"Tuesday, 01-Mar-22 12:34:56 GMT":                want,
		"Tue Mar  1 12:34:56 2022":                       want,
		"Tue Mar  1 12:34:56 JST 2022":                   "2022-03-01T12:34:56+09:00",
		"Tue Mar 01 2022 21:34:56 GMT+0900 (KST)":        "2022-03-01T21:34:56+09:00",
		"Tue Mar 01 2022 21:34:56 GMT+0900":              "2022-03-01T21:34:56+09:00",
		"Tue Mar 01 2022 21:34:56 GMT-0330 (Some where)": "2022-03-01T21:34:56-03:30",
		"  Tue, 01 Mar 2022 12:34:56 GMT  ":              want,
		"Friday, 01-Mar-85 12:34:56 GMT":                 "1985-03-01T12:34:56Z",
		"2024-02-29T00:00:00Z":                           "2024-02-29T00:00:00Z",
		"yesterday":                                      "", "": "", "2022": "", "2022-13-01T00:00:00Z": "", "2022-02-30T00:00:00Z": "", "2022-03-01T25:00:00Z": "",
		"2022-03-01T12:34:56+99:00": "", "99999999999999999999": "", "2022-03-01T12:34:56 nowhere": "", "0000-01-01T00:00:00Z": "",
		"Tue, 01 Foo 2022 12:34:56 GMT": "", "2022-03-01T12:34:56.": "", "Mon Tue Wed": "", "12:34:56": "",
		"1e999": "", "2022-03-01T12:34:56+00:00 trailing": "",
	} {
		got, ok := signing.ParseDate(text, now)
		shown := ""
		if ok {
			shown = got.Format(time.RFC3339Nano)
		}
		if shown != want {
			t.Errorf("%q: %q, want %q", text, shown, want)
		}
	}
}

func TestEveryZone(t *testing.T) {
	for name, hours := range map[string]float64{"NUT": -11, "NDT": 2.5, "ACWST": 8.75, "CHADT": 13.75, "BST": 6, "Z": 0, "A": 1, "M": 12, "Y": -12, "J": 0} {
		got, ok := signing.ParseDate("2022-03-01T12:34:56 "+name, now)
		if _, seconds := got.Zone(); !ok || float64(seconds) != hours*3600 {
			t.Errorf("%s: %d s, want %v h", name, seconds, hours)
		}
	}
}

func TestWindow(t *testing.T) {
	for d, want := range map[time.Duration]bool{0: true, 14 * time.Minute: true, -14 * time.Minute: true, 15 * time.Minute: false, -15 * time.Minute: false, 15*time.Minute - 1: true} {
		if got := signing.InWindow(now.Add(d), now); got != want {
			t.Errorf("%v: %v", d, got)
		}
	}
}

// What is written in a usual form is read back, offset included.
func TestDatesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.IntRange(-14*4, 14*4).Draw(t, "quarters") * 900
		when := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999).Draw(t, "micros")*1000).In(time.FixedZone("", offset))
		for layout, precision := range map[string]time.Duration{
			"2006-01-02T15:04:05.999999-07:00": time.Microsecond, "2006-01-02 15:04:05-0700": time.Second, "20060102T150405-0700": time.Second,
			"Mon, 02 Jan 2006 15:04:05 -0700": time.Second, "Mon Jan 02 2006 15:04:05 GMT-0700 (XX)": time.Second,
		} {
			text := when.Format(layout)
			got, ok := signing.ParseDate(text, now)
			_, gotOffset := got.Zone()
			if !ok || !got.Equal(when.Truncate(precision)) || gotOffset != offset {
				t.Fatalf("%q: %v %v", text, got, ok)
			}
		}
	})
}

// No text makes the parser panic or gives an impossible date.
func TestDatesNeverPanic(t *testing.T) {
	piece := rapid.SampledFrom([]string{"2022", "-", "03", "01", "T", ":", "12", ".", "5", "+", "0900", "GMT", "Mar", "Tue", ",", " ", "(", ")", "KST", "Z", "é", "99999"})
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for _, p := range rapid.SliceOfN(piece, 0, 14).Draw(t, "pieces") {
			text += p
		}
		if got, ok := signing.ParseDate(text, now); ok {
			if y := got.Year(); y < 1 || y > 9999 {
				t.Fatal(fmt.Sprint(text, got))
			}
		}
	})
}
