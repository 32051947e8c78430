//go:build !plantedbug

package simulation

import "testing"

// Seeds that have found bugs of the actors; each fails again when its bug is put back.
var bugs = []struct {
	seed uint64
	what string
}{
	{2, "I1: slots of a failed start were given away before its rows were dead"},
	{5, "I5: a quota was freed when a destroy was asked for, not when the row said TERMINATING"},
	{48, "I8: a late kernel_terminated of an incarnation that had been replaced ended its successor's row"},
	{309694, "I8: the same, when the successor was ending already and its shard had moved"},
	{76, "I8: a creation that reached its agent after the destroy was left there"},
	{201, "I8: an agent that did not answer a destroy for half a minute was not asked again"},
	{223, "I4: a forced destroy of a session that was getting ready to start left it PREPARING for good"},
	{32, "I4: after a takeover, a start of which a part had ended waited for ever"},
	{24, "leak: a scheduler that took over did not correct the rows of agents that had become free"},
	{1697, "I4: a scheduler that missed an agent's state never learnt it"},
	{2110, "I6: the simulated supervision, unlike the shard's, moved a session to ERROR before the last that its kernels had written"},
}

func TestSeedsThatFoundBugs(t *testing.T) {
	for _, b := range bugs {
		t.Run(b.what, func(t *testing.T) {
			if r := Run(b.seed, Options{}, 40); r.Failed() {
				for _, line := range r.Trace {
					t.Log(line)
				}
				t.Errorf("seed %d: %v", b.seed, r.Violations)
			}
		})
	}
}
