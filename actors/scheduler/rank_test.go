package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Whatever moves, a rank stays a search tree with right bounds, and as deep as logarithms are.
func TestRankKeepsItsOrder(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		x := newIndex()
		x.arrange([]arrangement{byLeastUsed, byMostUsed}[seed%2])
		n := 1 + r.IntN(400)
		agents := make([]*Agent, n)
		for i := range agents {
			agents[i] = &Agent{AgentState: protocol.AgentState{ID: fmt.Sprintf("a%03d", i), Architecture: "x", Alive: true, Schedulable: true, Available: backendai.SlotsOf("cpu", "8", "mem", "8g")}}
			x.put(agents[i])
		}
		for range 300 {
			x.byRank("x", backendai.SlotsOf("cpu", "1"))
			a := agents[r.IntN(n)]
			a.Occupied = backendai.SlotsOf("cpu", fmt.Sprint(r.IntN(10)), "mem", fmt.Sprint(r.IntN(8), "g")) // now and then overdrawn
			x.changed(a)
		}
		c := agents[0].class
		x.ranked(c)
		seen, depth := check(t, c.rank, c.rank.root)
		if seen != n || depth > 60 {
			t.Fatalf("seed %d: %d of %d agents, %d deep", seed, seen, n, depth)
		}
	}
}

func check(t *testing.T, r *rank, at int32) (seen, depth int) {
	if at < 0 {
		return 0, 0
	}
	n := r.nodes[at]
	first := at
	for _, child := range []int32{n.left, n.right} {
		if child < 0 {
			continue
		}
		if r.before(child, at) != (child == n.left) || r.nodes[child].weight > n.weight {
			t.Fatalf("node %d is out of order", child)
		}
		first = min(first, r.nodes[child].first)
		for i := range r.width {
			if r.most.all[int(at)*r.width+i] < r.most.all[int(child)*r.width+i] || r.least.all[int(at)*r.width+i] > r.least.all[int(child)*r.width+i] {
				t.Fatalf("node %d has bounds that its child %d exceeds", at, child)
			}
		}
		s, d := check(t, r, child)
		seen, depth = seen+s, max(depth, d)
	}
	if n.first != first {
		t.Fatalf("node %d says that %d is the first below it", at, n.first)
	}
	return seen + 1, depth + 1
}
