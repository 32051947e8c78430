package callosum

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestBreaker plays the transcripts in testdata/breaker. Every line of input is an event with the time it happens at.
func TestBreaker(t *testing.T) {
	epoch := time.Unix(0, 0)
	datadriven.Walk(t, "testdata/breaker", func(t *testing.T, path string) {
		var b Breaker
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				var n, cool, most int
				d.ScanArgs(t, "threshold", &n)
				d.ScanArgs(t, "cooldown", &cool)
				d.ScanArgs(t, "max", &most)
				b = NewBreaker(BreakerConfig{n, time.Duration(cool) * time.Second, time.Duration(most) * time.Second})
				return ""
			}
			var out strings.Builder
			for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
				var at int
				var event string
				if _, err := fmt.Sscanf(line, "%ds %s", &at, &event); err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
				now, probe := epoch.Add(time.Duration(at)*time.Second), false
				switch event {
				case "answered":
					b.Answered()
				case "timed-out":
					probe = b.TimedOut()
				case "probe-failed":
					b.ProbeFailed(now)
				case "probe-lost":
					b.ProbeLost(now)
				case "connected":
					probe = b.Connected()
				case "tick":
					probe = b.Tick(now)
				default:
					d.Fatalf(t, "unknown event %s", event)
				}
				fmt.Fprintf(&out, "%s: %s", line, b.State)
				if !b.Allows() {
					out.WriteString(", refuses")
				}
				if probe {
					out.WriteString(", send probe")
				}
				if b.State == BreakerOpen {
					fmt.Fprintf(&out, ", retry at %ds", int(b.RetryAt.Sub(epoch).Seconds()))
				}
				out.WriteByte('\n')
			}
			return out.String()
		})
	})
}

// However events fall: an answer closes, and only an unanswered probe opens.
func TestBreakerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBreaker(BreakerConfig{Threshold: rapid.IntRange(1, 4).Draw(t, "n")})
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 50).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			before := b.State
			event := rapid.IntRange(0, 5).Draw(t, "event")
			switch event {
			case 0:
				b.Answered()
			case 1:
				b.TimedOut()
			case 2:
				b.ProbeFailed(now)
			case 3:
				b.ProbeLost(now)
			case 4:
				b.Connected()
			case 5:
				b.Tick(now)
			}
			if event == 0 && b.State != BreakerClosed {
				t.Fatalf("an answer left it %s", b.State)
			}
			if (before == BreakerClosed || before == BreakerSuspect) && b.State == BreakerOpen && event != 2 {
				t.Fatalf("event %d opened it", event)
			}
			if b.State == BreakerOpen && b.RetryAt.Sub(now) > b.Config.MaxWait {
				t.Fatalf("waits %s", b.RetryAt.Sub(now))
			}
		}
	})
}

func TestNextBackoff(t *testing.T) {
	least, most := 100*time.Millisecond, time.Second
	var b time.Duration
	var got []time.Duration
	for range 6 {
		b = nextBackoff(b, time.Second, least, most)
		got = append(got, b/time.Millisecond)
	}
	got = append(got, nextBackoff(b, time.Minute, least, most)/time.Millisecond)
	if fmt.Sprint(got) != "[100ns 200ns 400ns 800ns 1µs 1µs 100ns]" {
		t.Error(got)
	}
}
