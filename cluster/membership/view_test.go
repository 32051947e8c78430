package membership

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"
)

func ids(members []Member) (list []string) {
	for _, m := range members {
		list = append(list, m.ID)
	}
	return list
}

func TestEligible(t *testing.T) {
	now := time.Unix(1000, 0)
	member := func(id string, age int, draining bool) Member {
		return Member{ID: id, StartedAt: now.Add(-time.Duration(age) * time.Second), Draining: draining}
	}
	for name, c := range map[string]struct {
		members []Member
		want    []string
	}{
		"nobody":               {nil, nil},
		"all are young":        {[]Member{member("a", 1, false), member("b", 2, false)}, []string{"a", "b"}},
		"the old ones":         {[]Member{member("a", 10, false), member("b", 9, false), member("c", 11, false)}, []string{"a", "c"}},
		"not the draining":     {[]Member{member("a", 99, true), member("b", 1, false)}, []string{"b"}},
		"all drain":            {[]Member{member("a", 99, true)}, nil},
		"clock ahead of ours":  {[]Member{member("a", -5, false), member("b", 20, false)}, []string{"b"}},
		"alone and just begun": {[]Member{member("a", 0, false)}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ids(View{Members: c.members}.Eligible(now, 10*time.Second)); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	self := Member{Name: "a", Address: "h:2", Namespace: "local", Shards: 64, Version: "22.03.14"}
	for want, other := range map[string]Member{
		"": {Name: "b", Namespace: "local", Shards: 64, Version: "v22.03.1"},
		`the live node a (h:1) has the name of this one: give every node of a cluster a name of its own.`:                                                                                                                                 {Name: "a", Namespace: "local", Shards: 64, Version: "22.03"},
		`the live node b (h:1) serves the namespace "test", this one "local": they must not share a prefix in etcd.`:                                                                                                                      {Name: "b", Namespace: "test", Shards: 64, Version: "22.03"},
		`the live node b (h:1) divides the actors into 32 shards, this one into 64: all nodes of a cluster must agree.`:                                                                                                                   {Name: "b", Namespace: "local", Shards: 32, Version: "22.03"},
		`the live node b (h:1) has another cluster secret: give all nodes the same actors.cluster-secret (without one it is made of the database's user, name and password), or certificates to all. To change it, stop all nodes first.`: {Name: "b", Namespace: "local", Shards: 64, Version: "22.03", Trust: "other"},
		`the live node b (127.0.0.1:2) is on another machine (h2), this one (h:2) is on ; an address of loopback reaches nobody there: set actors.cluster-addr on every node.`:                                                            {Name: "b", Namespace: "local", Shards: 64, Version: "22.03", Host: "h2", Address: "127.0.0.1:2"},
		`the live node b (h:1) runs version 22.09.1, this one 22.03.14: only versions of one generation work together.`:                                                                                                                   {Name: "b", Namespace: "local", Shards: 64, Version: "22.09.1"},
	} {
		other.Address = cmp.Or(other.Address, "h:1")
		if got := refusal(self, other); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// Keys that somebody else wrote are ignored, never taken for members or claims, and never crash the watch.
func TestForeignKeys(t *testing.T) {
	s := newSnapshot()
	for _, kv := range [][2]string{
		{"nodes/", `{"id":""}`}, {"nodes/a", `{"id":"b"}`}, {"nodes/a", `[`}, {"shards/x", `{"shard":0,"member":"a"}`}, {"shards/01", `{"shard":1,"member":"a"}`},
		{"shards/1", `{"shard":2,"member":"a"}`}, {"shards/3", `{"shard":3}`}, {"shards/9999999999", `{}`}, {"other", `{}`}, {"shards/4", `null`},
	} {
		if err := s.put(kv[0], &mvccpb.KeyValue{Value: []byte(kv[1])}); err == nil {
			t.Errorf("%s = %s was taken", kv[0], kv[1])
		}
		s.remove(kv[0])
	}
	if len(s.members)+len(s.claims) != 0 {
		t.Error(s)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"nodes/", "shards/", ""}).Draw(t, "part") + rapid.String().Draw(t, "name")
		_ = s.put(name, &mvccpb.KeyValue{Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		s.remove(name)
	})
}

// A viewer never sees claims of a lease that is not its present one as its own.
func TestRemnantsAreNotOwn(t *testing.T) {
	s := newSnapshot()
	s.members["a"] = held[Member]{value: Member{ID: "a"}, lease: 1}
	s.members["b"] = held[Member]{value: Member{ID: "b"}, lease: 2}
	s.claims[0] = held[Claim]{value: Claim{0, "a", 5}, lease: 1}
	s.claims[1] = held[Claim]{value: Claim{1, "b", 6}, lease: 2}
	for lease, want := range map[int]string{1: "[a b] [0]", 0: "[b] []", 7: "[b] []"} {
		v := s.view("a", leaseID(lease))
		if got := fmt.Sprint(ids(v.Members), v.Claimed("a")); got != want || len(v.Claimed("b")) != 1 {
			t.Errorf("lease %d: %s, want %s", lease, got, want)
		}
	}
}

// Whose clock is right does not matter: every viewer counts from when it saw a member come.
func TestClocksDiffer(t *testing.T) {
	const delay = 2 * time.Second
	now := time.Unix(10000, 0)
	for _, skew := range []time.Duration{-time.Minute, -time.Second, 0, time.Second, time.Minute} {
		s := newSnapshot()
		s.members["old"] = held[Member]{value: Member{ID: "old", Since: now.Add(-time.Hour)}, lease: 1}
		known := s.members
		s = s.clone()
		s.members["new"] = held[Member]{value: Member{ID: "new", StartedAt: now.Add(skew)}, lease: 2}
		s.date(known, "old", now, true)
		for after, want := range map[time.Duration]string{delay - 1: "[old]", delay: "[new old]"} {
			if got := fmt.Sprint(ids(s.view("old", 1).Eligible(now.Add(after), delay))); got != want {
				t.Errorf("skew %v, %v later: %s, want %s", skew, after, got, want)
			}
		}
		// Something else changes, and then the prefix is listed anew: it does not grow younger or older by that.
		for _, watched := range []bool{true, false} {
			again := s.clone()
			h := again.members["new"]
			h.value.Since, h.value.Draining = time.Time{}, true
			again.members["new"] = h
			again.date(s.members, "old", now.Add(delay), watched)
			if got := again.members["new"].value.Since; !got.Equal(now) {
				t.Errorf("skew %v: since %v", skew, got)
			}
		}
		// Under another lease it is new again.
		again := s.clone()
		again.members["new"] = held[Member]{value: Member{ID: "new", StartedAt: now.Add(skew)}, lease: 3}
		again.date(s.members, "old", now.Add(time.Hour), true)
		if got := again.members["new"].value.Since; !got.Equal(now.Add(time.Hour)) {
			t.Errorf("skew %v: under another lease since %v", skew, got)
		}
		// The newcomer finds the old one there, whose clock differs from its own: after the delay they agree.
		s = newSnapshot()
		s.members["old"] = held[Member]{value: Member{ID: "old", StartedAt: now.Add(-time.Hour - skew)}, lease: 1}
		s.members["young"] = held[Member]{value: Member{ID: "young", StartedAt: now.Add(-skew)}, lease: 1}
		s.members["new"] = held[Member]{value: Member{ID: "new", StartedAt: now}, lease: 2}
		s.date(nil, "new", now, false)
		if got := fmt.Sprint(ids(s.view("new", 2).Eligible(now.Add(delay), delay))); got != "[new old young]" {
			t.Errorf("skew %v: the newcomer sees %s", skew, got)
		}
	}
}
