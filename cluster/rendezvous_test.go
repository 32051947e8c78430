package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func members(t *rapid.T, least int) []string {
	return rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}-[0-9a-f]{8}`), least, 9, rapid.ID).Draw(t, "members")
}

// Every owner is a member, and the order of the members does not matter.
func TestWantedIsAFunctionOfTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, n := members(t, 1), rapid.IntRange(1, 256).Draw(t, "shards")
		want := Wanted(list, n)
		for s, m := range want {
			if !slices.Contains(list, m) {
				t.Fatalf("shard %d: %q is no member", s, m)
			}
		}
		shuffled := slices.Clone(list)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := Wanted(shuffled, n); !slices.Equal(got, want) {
			t.Fatalf("%v and %v disagree", list, shuffled)
		}
	})
}

// What a join moves goes to the one who joins; so a leave moves only what the leaver had.
func TestWantedMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, n := members(t, 2), rapid.IntRange(1, 256).Draw(t, "shards")
		before, after := Wanted(list[1:], n), Wanted(list, n)
		for s := range n {
			if before[s] != after[s] && after[s] != list[0] {
				t.Fatalf("shard %d moved from %s to %s when %s joined", s, before[s], after[s], list[0])
			}
		}
	})
}

// Shares are even: of many shards nobody has a third more or less than its part (eight standard deviations here).
func TestWantedIsBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := members(t, 1)
		const n = 6000
		count := map[string]int{}
		for _, m := range Wanted(list, n) {
			count[m]++
		}
		part := float64(n) / float64(len(list))
		for _, m := range list {
			if c := float64(count[m]); c < part*0.67 || c > part*1.33 {
				t.Fatalf("%s has %v of %d shards, its part is %.0f", m, c, n, part)
			}
		}
	})
}

// Two nodes of different builds must agree for ever, so the hash is pinned.
func TestWantedIsStable(t *testing.T) {
	if got := fmt.Sprint(Wanted([]string{"alpha", "beta", "gamma"}, 12)); got != pinned {
		t.Errorf("the owners have changed: a rolling update would move shards back and forth\n got %s\nwant %s", got, pinned)
	}
	if got := Wanted(nil, 2); !slices.Equal(got, []string{"", ""}) {
		t.Error(got)
	}
}

const pinned = "[alpha beta beta beta beta gamma alpha alpha gamma beta alpha gamma]"
