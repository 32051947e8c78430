package shard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const joinDelay = 2 * time.Second

// viewOf makes a view of "name", "name!" (draining) and "name?" (young) members; claims are "shard:name@epoch", as many as there are.
func viewOf(self, members, claims string) membership.View {
	v := membership.View{Self: self + "-1", Claims: make(map[int32]membership.Claim)}
	for _, word := range strings.Fields(members) {
		name := strings.TrimRight(word, "!?")
		m := membership.Member{ID: name + "-1", Name: name, Address: name + ":1", StartedAt: noon.Add(-time.Hour), Draining: strings.Contains(word, "!")}
		if strings.Contains(word, "?") {
			m.StartedAt = noon.Add(-time.Second)
		}
		v.Members = append(v.Members, m)
	}
	slices.SortFunc(v.Members, func(a, b membership.Member) int { return strings.Compare(a.ID, b.ID) })
	for _, word := range strings.Fields(claims) {
		var c membership.Claim
		text, epoch, _ := strings.Cut(word, "@")
		shard, name, _ := strings.Cut(text, ":")
		_, _ = fmt.Sscan(shard, &c.Shard)
		_, _ = fmt.Sscan(epoch, &c.Epoch)
		c.Member = name + "-1"
		v.Claims[c.Shard] = c
	}
	return v
}

// Of four shards, alpha should own 0; beta 1, 2 and 3; alone, or when the other drains, either owns all (TestWantedIsStable pins that).
func TestPlanFor(t *testing.T) {
	if got := cluster.Wanted([]string{"alpha", "beta"}, 4); !slices.Equal(got, []string{"alpha", "beta", "beta", "beta"}) {
		t.Fatalf("the cases below are made for other owners: %v", got)
	}
	for name, c := range map[string]struct {
		members, claims string
		owned, busy     []int32
		unsure          []int32
		want            string
	}{
		"alone, nothing is claimed":                 {"alpha", "", nil, nil, nil, "take 0 1 2 3"},
		"both, nothing is claimed":                  {"alpha beta", "", nil, nil, nil, "take 0"},
		"what is being taken is not taken again":    {"alpha", "", nil, []int32{1, 2}, nil, "take 0 3"},
		"all is as it should be":                    {"alpha beta", "0:alpha 1:beta 2:beta 3:beta", []int32{0}, nil, nil, ""},
		"another acts for what is wanted":           {"alpha beta", "0:beta 1:beta 2:beta 3:beta", nil, nil, nil, ""},
		"claimed by a member that left the view":    {"alpha beta", "0:gone", nil, nil, nil, ""},
		"beta is gone":                              {"alpha", "0:alpha", []int32{0}, nil, nil, "take 1 2 3"},
		"beta has joined":                           {"alpha beta", "0:alpha 1:alpha 2:alpha 3:alpha", []int32{0, 1, 2, 3}, nil, nil, "give 1 2 3"},
		"beta is too young":                         {"alpha beta?", "0:alpha 1:alpha 2:alpha 3:alpha", []int32{0, 1, 2, 3}, nil, nil, ""},
		"too young itself":                          {"alpha? beta", "", nil, nil, nil, ""},
		"all are young: a first start":              {"alpha? beta?", "", nil, nil, nil, "take 0"},
		"beta drains":                               {"alpha beta!", "0:alpha", []int32{0}, nil, nil, "take 1 2 3"},
		"beta drains and still has its shards":      {"alpha beta!", "0:alpha 1:beta 2:beta 3:beta", []int32{0}, nil, nil, ""},
		"drains, the other is young":                {"alpha! beta?", "0:alpha 1:alpha 2:alpha 3:alpha", []int32{0, 1, 2, 3}, nil, nil, "give 0 1 2 3"},
		"drains alone: better slowly than nobody":   {"alpha!", "0:alpha 1:alpha", []int32{0, 1}, nil, nil, ""},
		"all drain":                                 {"alpha! beta!", "0:alpha", []int32{0}, nil, nil, ""},
		"handing over":                              {"alpha! beta", "0:alpha 1:alpha", []int32{0, 1}, []int32{0}, nil, "give 1"},
		"its claims went with the lease":            {"alpha beta", "1:beta 2:beta 3:beta", []int32{0}, nil, nil, "renew 0"},
		"no member: it acts on":                     {"beta", "1:beta", []int32{0}, nil, nil, ""},
		"no member: nothing is taken":               {"beta", "", nil, nil, nil, ""},
		"no member, and another has claimed":        {"beta", "0:beta", []int32{0}, nil, nil, "drop 0"},
		"another has claimed, a member again":       {"alpha beta", "0:beta", []int32{0}, nil, nil, "drop 0"},
		"claimed, but its actor is not there":       {"alpha beta", "0:alpha 1:beta", nil, nil, nil, "take 0"},
		"claimed, but not wanted any more":          {"alpha beta", "0:alpha 1:alpha", []int32{0}, nil, nil, "give 1"},
		"claims went with the lease, not wanted":    {"alpha beta", "", []int32{0, 1}, nil, nil, "renew 0, give 1"},
		"a claim of a shard that does not exist":    {"alpha beta", "9:alpha 0:alpha", []int32{0}, nil, nil, ""},
		"renewed, but was it heard?":                {"alpha beta", "0:alpha", []int32{0}, nil, []int32{0}, "renew 0"},
		"unsure, and another has claimed":           {"alpha beta", "0:beta", []int32{0}, nil, []int32{0}, "drop 0"},
		"nobody takes what is claimed by a drainer": {"alpha beta!", "1:beta@4", nil, []int32{0}, nil, "take 2 3"},
	} {
		t.Run(name, func(t *testing.T) {
			h := Holding{Owned: make(map[int32]int64), Busy: make(map[int32]bool)}
			for _, s := range c.owned {
				h.Owned[s] = 1
			}
			h.Unsure = make(map[int32]bool)
			for _, s := range c.unsure {
				h.Unsure[s] = true
			}
			for _, s := range c.busy {
				h.Busy[s] = true
			}
			if got := text(PlanFor(viewOf("alpha", c.members, c.claims), h, 4, noon, joinDelay)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// text writes a plan down.
func text(p Plan) string {
	var parts []string
	for _, part := range []struct {
		verb   string
		shards []int32
	}{{"take", p.Take}, {"renew", p.Renew}, {"give", p.Give}, {"drop", p.Drop}} {
		if len(part.shards) > 0 {
			parts = append(parts, part.verb+" "+strings.Trim(fmt.Sprint(part.shards), "[]"))
		}
	}
	return strings.Join(parts, ", ")
}

func TestRoutes(t *testing.T) {
	v := viewOf("alpha", "alpha beta", "0:alpha@3 1:beta@4 2:beta 3:gone@2 9:beta@1")
	if got := Routes(v, 4); !slices.Equal(got, []string{"", "beta:1", "", ""}) {
		t.Errorf("%q: one's own, one without an epoch, one of a member that is gone and one too many lead nowhere", got)
	}
	if got := slices.Collect(maps.Keys(v.Claims)); len(got) != 5 {
		t.Error("the view has been changed")
	}
}

// After etcd was away for all, the first node that is back sees only itself: it keeps what it has and leaves the rest to those who come.
func TestPlanOfANodeThatIsBack(t *testing.T) {
	v := viewOf("alpha", "alpha", "1:alpha")
	p := PlanFor(v, Holding{Owned: map[int32]int64{0: 1}, Back: true}, 4, noon, joinDelay)
	if !slices.Equal(p.Renew, []int32{0}) || !slices.Equal(p.Take, []int32{1}) || p.Give != nil || p.Drop != nil {
		t.Errorf("%+v", p)
	}
	if p := PlanFor(v, Holding{Owned: map[int32]int64{0: 1}}, 4, noon, joinDelay); !slices.Equal(p.Take, []int32{1, 2, 3}) {
		t.Errorf("a while later %+v", p)
	}
}
