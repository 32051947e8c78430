package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	probeEvery = 50 * time.Millisecond
	probeLimit = 2 * time.Second // of one try
	probed     = 4               // residents at a time
)

// probes send commands to a few sessions all the time, each through nodes that are not the victim.
type probes struct {
	w     *world
	stop  chan struct{}
	tries sync.WaitGroup

	mu   sync.Mutex
	list map[int32][]try // by shard
	fail string          // the last
}

type try struct {
	start, end time.Duration // end 0: it failed
	node       string
}

// probe begins to probe residents of the given shards (all when there are none), that do not live on the agent, through the nodes but one.
func (w *world) probe(shards []int32, notOn string, notThrough *node) *probes {
	p := &probes{w: w, stop: make(chan struct{}), list: make(map[int32][]try)}
	var through []*node
	for _, n := range w.nodes {
		if n != notThrough {
			through = append(through, n)
		}
	}
	list := w.living()
	rand.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
	seen := make(map[int32]bool)
	for _, r := range list {
		if len(seen) == probed || seen[r.Shard] || r.Agent == notOn || len(shards) > 0 && !slices.Contains(shards, r.Shard) {
			continue
		}
		seen[r.Shard] = true
		p.tries.Go(func() { p.run(r, through) })
	}
	return p
}

func (p *probes) run(r resident, through []*node) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		n := through[i%len(through)]
		p.tries.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
			defer cancel()
			t := try{start: p.w.now(), node: n.Name}
			got, _, err := n.client.container(ctx, r.Name)
			if err == nil {
				t.end = p.w.now()
				if got != r.Container {
					p.w.violate("", "resident %s is another container: %.12s, not %.12s", r.Name, got, r.Container)
				}
			}
			p.mu.Lock()
			p.list[r.Shard] = append(p.list[r.Shard], t)
			if err != nil {
				p.fail = n.Name + ": " + err.Error()
			}
			p.mu.Unlock()
		})
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

// end stops and returns for every shard how long a client that tries again and again had to wait at most from the given time on, and when
// and where the first command was carried out.
func (p *probes) end(from time.Duration) (waits []time.Duration, firsts map[int32]try) {
	close(p.stop)
	p.tries.Wait()
	firsts = make(map[int32]try)
	for shard, list := range p.list {
		if longest, first, ok := longestWait(list, from); ok {
			waits = append(waits, longest)
			firsts[shard] = first
		}
	}
	slices.Sort(waits)
	return waits, firsts
}

// longestWait is the longest time from a try, or from the given time, until the next try that succeeded. Tries at the end after which
// none succeeded do not count. Pure.
func longestWait(list []try, from time.Duration) (longest time.Duration, first try, ok bool) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b try) int { return int(b.start - a.start) })
	next := time.Duration(0)
	for _, t := range list { // from the last to the first
		if t.start < from {
			continue
		}
		if t.end > 0 && (next == 0 || t.end < next) {
			next, first, ok = t.end, t, true
		}
		if next > 0 {
			longest = max(longest, next-t.start)
		}
	}
	if ok {
		longest = max(longest, next-from)
	}
	return longest, first, ok
}
