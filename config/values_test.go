package config

import (
	"testing"
	"time"
)

func TestParseHostPort(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "::1:80": "[::1]:80", " h : 9 ": "h:9", "a.b:65535": "a.b:65535",
		"": "", "h": "", "h:": "", ":1": "", "h:0": "", "h:65536": "", "[x]:1": "", "[::1:1": "",
	} {
		a, err := ParseHostPort(text)
		if a.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: %v %v", text, a, err)
		}
	}
	if list, err := ParseHostPorts("a:1, b:2,"); err != nil || len(list) != 2 || list[1].Host != "b" {
		t.Error(list, err)
	}
}

func TestParseBool(t *testing.T) {
	for _, text := range []string{"t", "TRUE", " y ", "yes", "on", "1", "1.0"} {
		if b, err := ParseBool(text); !b || err != nil {
			t.Error(text, b, err)
		}
	}
	for _, text := range []string{"false", "N", "no", "off", "0", "None", "0.0"} {
		if b, err := ParseBool(text); b || err != nil {
			t.Error(text, b, err)
		}
	}
	for _, text := range []string{"f", "", "2"} {
		if _, err := ParseBool(text); err == nil {
			t.Error(text)
		}
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]Span{
		"30": {Exact: 30 * time.Second}, "30s": {Exact: 30 * time.Second}, "5m": {Exact: 5 * time.Minute}, "1.5h": {Exact: 90 * time.Minute},
		"90d": {Exact: 90 * 24 * time.Hour}, "2w": {Exact: 14 * 24 * time.Hour}, "6mo": {Months: 6}, "1yr": {Months: 12}, "0": {}, " .5m ": {Exact: 30 * time.Second},
	} {
		if s, err := ParseSpan(text); err != nil || s != want {
			t.Errorf("%q: %v %v", text, s, err)
		}
	}
	for _, text := range []string{"", "m", "-5m", "1.5mo", "5 minutes", "1e9", "99999999999999w", "99999mo"} {
		if s, err := ParseSpan(text); err == nil {
			t.Errorf("%q: %v", text, s)
		}
	}
	from := time.Date(2026, 3, 15, 0, 0, 0, 0, time.UTC)
	if got := (Span{Months: 12, Exact: time.Hour}).Before(from); !got.Equal(time.Date(2025, 3, 14, 23, 0, 0, 0, time.UTC)) {
		t.Error(got)
	}
}
