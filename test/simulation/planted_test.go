//go:build plantedbug

package simulation

import "testing"

// TestPlantedBugIsFound: a journal that takes the rows of deposed owners is found out within as many seeds as TestSeeds runs, and not only
// by the check of epochs itself.
func TestPlantedBugIsFound(t *testing.T) {
	found := make(map[string][]uint64)
	for _, opts := range []Options{{}, {Blind: true}} {
		failed := 0
		RunMany(0, seeds, opts, 0, func(r *Result) bool {
			for _, v := range r.Violations {
				found[v.Invariant] = append(found[v.Invariant], r.Seed)
				failed++
			}
			return true
		})
		t.Logf("%+v: found %d times, by seeds %v", opts, failed, found)
		if failed == 0 {
			t.Errorf("%+v: %d seeds do not find the planted bug", opts, seeds)
		}
		clear(found)
	}
}
