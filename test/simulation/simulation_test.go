//go:build !plantedbug

package simulation

import "testing"

// TestSeedsAreDeterministic: a seed that fails must fail again.
func TestSeedsAreDeterministic(t *testing.T) {
	for seed := range uint64(10) {
		if a, b := Run(seed, Options{}, 0), Replay(seed, Options{}, func(string) {}); a.Digest != b.Digest || a.Stats != b.Stats {
			t.Errorf("seed %d goes two ways: %+v, %+v", seed, a, b)
		}
	}
}

// TestSeeds runs worlds side by side; each is used by one goroutine.
func TestSeeds(t *testing.T) {
	var total Stats
	failed := 0
	RunMany(0, seeds, Options{}, 0, func(r *Result) bool {
		total.Add(r.Stats)
		if r.Failed() {
			failed++
			t.Errorf("seed %d: %v", r.Seed, r.Violations)
		}
		return true
	})
	t.Logf("%d of %d failed: %+v", failed, seeds, total)
}
