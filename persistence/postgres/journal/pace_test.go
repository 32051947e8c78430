package journal

import (
	"testing"
	"time"
)

// TestPace: one session after the other never waits; many at once do, the longer the more keep coming, but not for what is enough.
func TestPace(t *testing.T) {
	after := func(came ...int) (d time.Duration) {
		var p pace
		for range 20 {
			for _, n := range came {
				d = p.pause(n)
			}
		}
		return d
	}
	for _, c := range []struct {
		name   string
		came   []int
		lo, hi time.Duration
	}{
		{"nobody", []int{0}, 0, 0},
		{"one alone, whose agent is written down as well", []int{0, 1, 2, 1}, 0, 0},
		{"some", []int{3}, 2 * time.Millisecond, 4 * time.Millisecond},
		{"many", []int{10}, longPause, longPause},
		{"enough", []int{enough}, 0, 0},
		{"many, and a moment in which nothing came", []int{10, 0}, 0, 0},
	} {
		if d := after(c.came...); d < c.lo || d > c.hi {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}
