package shard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
)

// town is a cluster in which every node decides by PlanFor on a view of its own, which may be old, and in which what it has begun takes
// time. etcd and the database are what they are: claims are exclusive, epochs only grow.
type town struct {
	now     time.Time
	shards  int
	members map[string]membership.Member // with a lease
	claims  map[int32]membership.Claim
	epochs  map[int32]int64 // the database's
	away    bool            // the database: what is claimed then can't be taken
	nodes   []*citizen      // alive
	born    int
}

// citizen is a node.
type citizen struct {
	id, name string
	draining bool
	view     membership.View
	owned    map[int32]int64
	busy     map[int32]bool
	doing    []func() // each ends something that was begun
}

func newTown(shards int) *town {
	return &town{now: noon, shards: shards, members: make(map[string]membership.Member), claims: make(map[int32]membership.Claim), epochs: make(map[int32]int64)}
}

func (w *town) join() *citizen {
	w.born++
	c := &citizen{name: fmt.Sprintf("m%d", w.born), owned: make(map[int32]int64), busy: make(map[int32]bool)}
	c.id = c.name + "-1"
	w.nodes = append(w.nodes, c)
	w.register(c)
	return c
}

func (w *town) register(c *citizen) {
	w.members[c.id] = membership.Member{ID: c.id, Name: c.name, Address: c.name + ":1", StartedAt: w.now, Draining: c.draining}
}

// expire ends a lease: the member and its claims are gone at once.
func (w *town) expire(c *citizen) {
	delete(w.members, c.id)
	maps.DeleteFunc(w.claims, func(_ int32, claim membership.Claim) bool { return claim.Member == c.id })
}

func (w *town) crash(c *citizen) {
	w.expire(c)
	w.nodes = slices.DeleteFunc(w.nodes, func(o *citizen) bool { return o == c })
}

func (w *town) drain(c *citizen, draining bool) {
	c.draining = draining
	if m, ok := w.members[c.id]; ok {
		m.Draining = draining
		w.members[c.id] = m
	}
}

func (w *town) see(c *citizen) {
	c.view = membership.View{Self: c.id, Claims: maps.Clone(w.claims), Members: slices.SortedFunc(maps.Values(w.members), func(a, b membership.Member) int { return strings.Compare(a.ID, b.ID) })}
}

// look has a node decide, checks what it decides against its view, and begins it.
func (w *town) look(t rapid.TB, c *citizen) {
	if c.view.Self == "" {
		return
	}
	p := PlanFor(c.view, Holding{Owned: c.owned, Busy: c.busy}, w.shards, w.now, joinDelay)
	seen := make(map[int32]bool)
	for _, s := range slices.Concat(p.Take, p.Renew, p.Give, p.Drop) {
		if seen[s] || c.busy[s] {
			t.Fatalf("%s: shard %d is in the plan twice, or busy: %s", c.name, s, text(p))
		}
		seen[s] = true
	}
	if _, member := c.view.Member(c.id); !member && len(p.Take)+len(p.Renew)+len(p.Give) > 0 {
		t.Fatalf("%s is no member and plans to %s", c.name, text(p))
	}
	for _, s := range slices.Concat(p.Take, p.Renew) {
		if claim, ok := c.view.Claims[s]; ok && claim.Member != c.id {
			t.Fatalf("%s takes shard %d, which %s has claimed", c.name, s, claim.Member)
		}
	}
	for _, s := range p.Drop {
		delete(c.owned, s)
	}
	begin := func(shards []int32, end func(int32)) {
		for _, s := range shards {
			c.busy[s] = true
		}
		if len(shards) > 0 {
			c.doing = append(c.doing, func() {
				for _, s := range shards {
					delete(c.busy, s)
					end(s)
				}
			})
		}
	}
	begin(p.Take, func(s int32) {
		if w.claim(c, s) && !w.away {
			w.epochs[s]++
			c.owned[s] = w.epochs[s]
		}
	})
	begin(p.Renew, func(s int32) {
		if !w.claim(c, s) || w.epochs[s] != c.owned[s] {
			delete(c.owned, s)
		}
	})
	begin(p.Give, func(s int32) {
		delete(c.owned, s)
		if w.claims[s].Member == c.id {
			delete(w.claims, s)
		}
	})
}

// claim tells whether a shard is the node's now.
func (w *town) claim(c *citizen, s int32) bool {
	if _, member := w.members[c.id]; !member {
		return false
	}
	if _, taken := w.claims[s]; !taken {
		w.claims[s] = membership.Claim{Shard: s, Member: c.id}
	}
	return w.claims[s].Member == c.id
}

func (c *citizen) finish(i int) {
	end := c.doing[i]
	c.doing = slices.Delete(c.doing, i, i+1)
	end()
}

// turn has a node see, decide and do, and tells whether there was something to do.
func (w *town) turn(t rapid.TB, c *citizen) (moved bool) {
	w.see(c)
	w.look(t, c)
	for len(c.doing) > 0 {
		c.finish(0)
		moved = true
	}
	return moved
}

// settle lets time pass until nothing changes any more, and checks that every shard has its one owner.
func (w *town) settle(t rapid.TB) {
	quiet := 0
	for range 40 {
		moved := false
		for _, c := range w.nodes {
			moved = w.turn(t, c) || moved
		}
		w.now = w.now.Add(time.Second)
		if quiet++; moved {
			quiet = 0
		}
		if quiet > 3 {
			break
		}
	}
	if quiet <= 3 {
		t.Fatal("the nodes never come to rest")
	}
	var names []string
	for _, c := range w.nodes {
		if !c.draining {
			names = append(names, c.name)
		}
	}
	wanted := cluster.Wanted(names, w.shards)
	for s := range int32(w.shards) {
		var owners []string
		for _, c := range w.nodes {
			if epoch, ok := c.owned[s]; ok {
				owners = append(owners, c.name)
				if epoch != w.epochs[s] || w.claims[s].Member != c.id {
					t.Fatalf("%s acts for shard %d under epoch %d of %d; claimed by %q", c.name, s, epoch, w.epochs[s], w.claims[s].Member)
				}
			}
		}
		if !slices.Equal(owners, []string{wanted[s]}) {
			t.Fatalf("shard %d is owned by %v, wanted is %s", s, owners, wanted[s])
		}
	}
}

func (w *town) owner() map[int32]string {
	owner := make(map[int32]string)
	for _, c := range w.nodes {
		for s := range c.owned {
			owner[s] = c.name
		}
	}
	return owner
}

// Whatever happens, in whatever order the nodes see and do things: when it stops, every shard has exactly one owner, the one that all want.
func TestNodesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(rapid.IntRange(1, 24).Draw(t, "shards"))
		for range rapid.IntRange(1, 4).Draw(t, "nodes") {
			w.join()
		}
		if rapid.Bool().Draw(t, "settled") {
			w.settle(t)
		}
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			if len(w.nodes) == 0 {
				break
			}
			c := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
			switch rapid.SampledFrom([]string{"see", "look", "look", "see and look", "see and look", "finish", "finish", "turn", "turn", "turn", "refused", "time", "join", "crash", "expire", "rejoin", "drain", "database"}).Draw(t, "step") {
			case "see":
				w.see(c)
			case "look":
				w.look(t, c)
			case "see and look":
				w.see(c)
				w.look(t, c)
			case "turn":
				w.turn(t, c)
			case "database":
				w.away = !w.away
			case "finish":
				if len(c.doing) > 0 {
					c.finish(rapid.IntRange(0, len(c.doing)-1).Draw(t, "what"))
				}
			case "refused": // the journal tells of epochs that others have raised
				maps.DeleteFunc(c.owned, func(s int32, epoch int64) bool { return !c.busy[s] && epoch != w.epochs[s] })
			case "time":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			case "join":
				if len(w.nodes) < 5 {
					w.join()
				}
			case "crash":
				w.crash(c)
			case "expire":
				w.expire(c)
			case "rejoin":
				w.register(c)
			case "drain":
				w.drain(c, rapid.Bool().Draw(t, "draining"))
			}
		}
		if len(w.nodes) == 0 {
			w.join()
		}
		w.away = false
		w.drain(w.nodes[0], false)
		for _, c := range w.nodes {
			if _, ok := w.members[c.id]; !ok {
				w.register(c)
			}
		}
		w.settle(t)
	})
}

// Nothing moves but what has to: to the one who joins, from the one who leaves or drains; each shard once.
func TestShardsMoveOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(rapid.IntRange(8, 64).Draw(t, "shards"))
		for range rapid.IntRange(2, 5).Draw(t, "nodes") {
			w.join()
		}
		w.settle(t)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			owner, epochs, mover := w.owner(), maps.Clone(w.epochs), ""
			c := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
			change := rapid.SampledFrom([]string{"join", "drain", "undrain", "crash", "outage"}).Draw(t, "change")
			switch {
			case change == "join":
				mover = w.join().name
			case change == "outage": // of etcd, for all; they come back before anybody has looked
				for _, c := range w.nodes {
					w.expire(c)
					w.see(c)
					w.look(t, c)
				}
				for _, c := range w.nodes {
					w.register(c)
				}
			case change == "undrain":
				w.drain(c, false)
				mover = c.name
			case slices.ContainsFunc(w.nodes, func(o *citizen) bool { return o != c && !o.draining }): // someone is left
				mover = c.name
				if change == "drain" {
					w.drain(c, true)
				} else {
					w.crash(c)
				}
			}
			w.settle(t)
			for s, now := range w.owner() {
				switch before := owner[s]; {
				case now == before && w.epochs[s] != epochs[s]:
					t.Fatalf("%s: %s has taken shard %d again", change, now, s)
				case now != before && now != mover && before != mover, now != before && w.epochs[s] != epochs[s]+1:
					t.Fatalf("%s of %q: shard %d went from %s (epoch %d) to %s (epoch %d)", change, mover, s, before, epochs[s], now, w.epochs[s])
				}
			}
		}
	})
}

// A node that starts, fails and starts again, always within the delay, moves nothing.
func TestJoinsAreDamped(t *testing.T) {
	w := newTown(16)
	a := w.join()
	w.settle(t)
	epochs := maps.Clone(w.epochs)
	for range 10 {
		b := w.join()
		for range 3 {
			w.now = w.now.Add(joinDelay / 4)
			for _, c := range []*citizen{a, b} {
				w.turn(t, c)
			}
		}
		if len(a.owned) != 16 || len(b.owned) != 0 {
			t.Fatalf("a has %d shards, b %d", len(a.owned), len(b.owned))
		}
		w.crash(b)
	}
	w.settle(t)
	if !maps.Equal(epochs, w.epochs) {
		t.Error("shards have been taken again")
	}
}
