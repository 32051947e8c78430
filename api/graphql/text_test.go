package graphql

import (
	"testing"
	"time"
)

func TestPlainSlots(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, `{"cpu": "1", "mem": "268435456"}`: true, `{"cuda.shares": "0.5"}`: true, `{"cpu": 1}`: false, `{"mem": "4g"}`: false, `{"a": "1", "b": null}`: false,
		`null`: false, `{"a": {"b": "1"}}`: false, `{"cpu": ""}`: false, `{"cpu": 1, "mem": "2"}`: false,
	} {
		if plainSlots(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// TestParseTime: dates without a zone are in this machine's.
func TestParseTime(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("here", 9*3600)
	for text, want := range map[string]string{
		"2022-05-01": "2022-04-30T15:00:00Z", "2022-05-01 12:00:00": "2022-05-01T03:00:00Z", "2022-05-01T12:00:00Z": "2022-05-01T12:00:00Z",
		"2022-05-01T12:00:00+00:00": "2022-05-01T12:00:00Z", "2022-05-01T12:00:00+01:00": "2022-05-01T11:00:00Z", "Sun, 01 May 2022 12:00:00 GMT": "2022-05-01T12:00:00Z",
	} {
		got, ok := parseTime(text)
		if !ok || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}
