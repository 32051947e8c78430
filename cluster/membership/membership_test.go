package membership

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
	"backend.ai/manager/config/shared/etcdtest"
)

func leaseID(n int) clientv3.LeaseID { return clientv3.LeaseID(n) }

// within bounds everything that a test waits for.
const within = 20 * time.Second

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// node is a membership and what it was told.
type node struct {
	*Membership
	t       testing.TB
	views   chan View
	expired atomic.Int32
}

func newNode(t testing.TB, etcd *etcdtest.Server, prefix, name string, change ...func(*Config)) *node {
	n := &node{t: t, views: make(chan View, 1024)}
	cfg := Config{
		Prefix: prefix, TTL: 3 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Self:      Member{Name: name, Address: name + ":6020", Version: "22.03.14", Namespace: "local", Shards: 300},
		OnView:    func(v View) { n.views <- v },
		OnExpired: func() { n.expired.Add(1) },
	}
	for _, c := range change {
		c(&cfg)
	}
	if cfg.Client == nil {
		cfg.Client = etcd.Client()
	}
	n.Membership = New(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = n.Stop(ctx)
	})
	return n
}

func start(t testing.TB, etcd *etcdtest.Server, prefix, name string, change ...func(*Config)) *node {
	t.Helper()
	n := newNode(t, etcd, prefix, name, change...)
	if err := n.Start(background(t)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// kill ends the renewal of the lease as the death of the process would: nothing is revoked, nobody is told.
func (n *node) kill() {
	n.cancel()
	n.running.Wait()
	n.cancel = nil
}

// await waits for a view that is as wanted.
func (n *node) await(what string, wanted func(View) bool) View {
	n.t.Helper()
	deadline := time.After(within)
	for {
		select {
		case v := <-n.views:
			if wanted(v) {
				return v
			}
		case <-deadline:
			n.t.Fatalf("%s never saw %s; it sees %+v", n.me.Name, what, n.View())
		}
	}
}

func names(v View) string {
	var list []string
	for _, m := range v.Members {
		list = append(list, m.Name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func sees(want string) func(View) bool { return func(v View) bool { return names(v) == want } }

func claims(n *node, count int) func(View) bool {
	return func(v View) bool { return len(v.Claimed(n.ID())) == count }
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		_ = sleep(context.Background(), 5*time.Millisecond)
	}
}

func shards(from, to int32) (list []int32) {
	for s := from; s < to; s++ {
		list = append(list, s)
	}
	return list
}

// One etcd for all tests: each has a prefix of its own.
func TestMembership(t *testing.T) {
	etcd := etcdtest.New(t)
	for name, test := range map[string]func(*testing.T, *etcdtest.Server, string){
		"see each other": testSeeEachOther, "claims are exclusive": testClaimsAreExclusive, "killed": testKilled, "restarted at once": testRestartedAtOnce, "restarted in place": testRestartedInPlace,

		"compacted": testCompacted, "prefixes": testPrefixes, "revoked from outside": testRevoked, "removed from outside": testRemoved, "refusals": testRefusals,
		"two of a name at once": testTwoOfAName, "slow viewer": testSlowViewer, "stop ends everything": testStopEndsEverything,
		"etcd away": testEtcdAway, "stop without etcd": testStopWithoutEtcd, "suspected": testSuspected,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, etcd, "/test/"+strings.ReplaceAll(name, " ", "-")+"/")
		})
	}
}

func testSeeEachOther(t *testing.T, etcd *etcdtest.Server, prefix string) {
	a := start(t, etcd, prefix, "a")
	if v := a.View(); names(v) != "a" || v.Self != a.ID() || !a.Healthy() {
		t.Errorf("after Start it sees %+v", v)
	}
	b, c := start(t, etcd, prefix, "b"), start(t, etcd, prefix, "c")
	for _, n := range []*node{a, b, c} {
		n.await("all three", sees("a b c"))
	}
	if err := b.SetDraining(background(t), true); err != nil {
		t.Fatal(err)
	}
	v := a.await("b draining", func(v View) bool { m, _ := v.Member(b.ID()); return m.Draining })
	if m, _ := v.Member(b.ID()); m.Address != "b:6020" || m.Shards != 300 || m.Lease == 0 || time.Since(m.StartedAt) > within {
		t.Errorf("%+v", m)
	}
	if got := v.Eligible(time.Now(), 0); len(got) != 2 {
		t.Errorf("eligible: %v", got)
	}
	if err := c.Stop(background(t)); err != nil {
		t.Fatal(err)
	}
	a.await("c leave", sees("a b"))
	if _, err := c.Claim(background(t), []int32{1}); backendai.CodeOf(err) != backendai.ServiceUnavailable {
		t.Errorf("a claim of a member that has left: %v", err)
	}
}

func testClaimsAreExclusive(t *testing.T, etcd *etcdtest.Server, prefix string) {
	ctx := background(t)
	nodes := []*node{start(t, etcd, prefix, "a"), start(t, etcd, prefix, "b"), start(t, etcd, prefix, "c")}
	got := make([][]int32, len(nodes))
	errs := make(chan error, len(nodes))
	for i, n := range nodes {
		go func() {
			var err error
			// More than a transaction holds, in each node's own order, with doubles.
			got[i], err = n.Claim(ctx, append(shards(int32(i)*100, 300), shards(0, 300)...))
			errs <- err
		}()
	}
	for range nodes {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	owner := map[int32]int{}
	for i, list := range got {
		for _, s := range list {
			if other, taken := owner[s]; taken {
				t.Fatalf("shard %d was given to %d and %d", s, other, i)
			}
			owner[s] = i
		}
	}
	if len(owner) != 300 {
		t.Fatalf("%d shards of 300 have an owner", len(owner))
	}
	for i, n := range nodes {
		v := n.await("all claims", func(v View) bool { return len(v.Claims) == 300 })
		if !slices.Equal(v.Claimed(n.ID()), slices.Sorted(slices.Values(got[i]))) {
			t.Errorf("%d: claims of the view differ from those that Claim gave", i)
		}
		again, err := n.Claim(ctx, got[i])
		if err != nil || len(again) != len(got[i]) {
			t.Errorf("claiming one's own again: %d of %d, %v", len(again), len(got[i]), err)
		}
	}
	first := nodes[owner[0]]
	other := nodes[(owner[0]+1)%3]
	if err := other.Release(ctx, []int32{0}); err != nil {
		t.Fatal(err)
	}
	if err := other.NoteEpoch(ctx, map[int32]int64{0: 99}); err != nil {
		t.Fatal(err)
	}
	if err := first.NoteEpoch(ctx, map[int32]int64{0: 7}); err != nil {
		t.Fatal(err)
	}
	v := other.await("the epoch", func(v View) bool { return v.Claims[0].Epoch != 0 })
	if v.Claims[0] != (Claim{Shard: 0, Member: first.ID(), Epoch: 7}) {
		t.Errorf("another member has touched the claim: %+v", v.Claims[0])
	}
	if err := first.Release(ctx, []int32{0}); err != nil {
		t.Fatal(err)
	}
	if again, err := other.Claim(ctx, []int32{0}); err != nil || len(again) != 1 {
		t.Errorf("a released shard can't be claimed: %v %v", again, err)
	}
	if _, err := first.Claim(ctx, []int32{300}); backendai.CodeOf(err) != backendai.InvalidArgument {
		t.Errorf("a shard that does not exist: %v", err)
	}
}

func testKilled(t *testing.T, etcd *etcdtest.Server, prefix string) {
	a, b := start(t, etcd, prefix, "a"), start(t, etcd, prefix, "b")
	if _, err := b.Claim(background(t), shards(0, 10)); err != nil {
		t.Fatal(err)
	}
	a.await("b's claims", claims(b, 10))
	b.kill()
	v := a.await("b's end", sees("a"))
	if len(v.Claims) != 0 {
		t.Errorf("a dead member's claims are left: %v", v.Claims)
	}
	if got, err := a.Claim(background(t), shards(0, 10)); err != nil || len(got) != 10 {
		t.Errorf("%v %v", got, err)
	}
}

func testRestartedAtOnce(t *testing.T, etcd *etcdtest.Server, prefix string) {
	old := start(t, etcd, prefix, "a")
	old.kill()
	again := start(t, etcd, prefix, "a")
	if v := again.View(); names(v) != "a" || v.Members[0].ID != again.ID() {
		t.Errorf("%+v", v)
	}
}

// A process that is started again while its predecessor's lease lives need not wait for the end of that, though somebody, it itself, listens at the
// address. One on another machine has to.
func testRestartedInPlace(t *testing.T, etcd *etcdtest.Server, prefix string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := func(host string) func(*Config) {
		return func(c *Config) {
			c.Self.Host, c.Self.Address, c.Bound, c.TTL = host, l.Addr().String(), true, MaxTTL
		}
	}
	old := start(t, etcd, prefix, "a", at("machine"))
	if got, err := old.Claim(background(t), []int32{7}); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	old.kill()
	before := time.Now()
	again := start(t, etcd, prefix, "a", at("machine"))
	if v := again.View(); names(v) != "a" || v.Members[0].ID != again.ID() || len(v.Claims) != 0 {
		t.Errorf("%+v", v)
	}
	if took := time.Since(before); took > MaxTTL/2 {
		t.Errorf("that took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := newNode(t, etcd, prefix, "a", at("other")).Start(ctx); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Errorf("a live member of that name on another machine: %v", err)
	}
}

func testCompacted(t *testing.T, etcd *etcdtest.Server, prefix string) {
	ctx := background(t)
	cli := etcd.Client()
	a := start(t, etcd, prefix, "a")
	// A watch that starts at a revision which is compacted away is what a node meets that was cut off for long.
	revision := a.View().Revision
	if _, err := cli.Put(ctx, prefix+"shards/7", `{"shard":7,"member":"b-1"}`); err != nil {
		t.Fatal(err)
	}
	a.await("the claim", func(v View) bool { return len(v.Claims) == 1 })
	put, err := cli.Delete(ctx, prefix+"shards/7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(ctx, put.Header.Revision); err != nil {
		t.Fatal(err)
	}
	late := newNode(t, etcd, prefix, "late")
	late.seen.claims[7] = held[Claim]{value: Claim{7, "b-1", 0}} // what it knew before it was cut off
	var run context.Context
	run, late.cancel = context.WithCancel(context.Background())
	late.running.Go(func() { late.follow(run, revision) })
	poll(t, "the claim that was deleted while nobody watched is gone", func() bool {
		v := late.View()
		return len(v.Claims) == 0 && names(v) == "a"
	})
	// And it goes on watching.
	if err := a.SetDraining(ctx, true); err != nil {
		t.Fatal(err)
	}
	poll(t, "a change after the new list", func() bool { v := late.View(); return len(v.Members) == 1 && v.Members[0].Draining })
}

func testPrefixes(t *testing.T, etcd *etcdtest.Server, prefix string) {
	a, ab := start(t, etcd, prefix+"a/", "n"), start(t, etcd, prefix+"ab/", "n")
	if _, err := ab.Claim(background(t), shards(0, 3)); err != nil {
		t.Fatal(err)
	}
	ab.await("its claims", claims(ab, 3))
	got, err := a.Claim(background(t), shards(0, 3))
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	if v := a.await("its claims", claims(a, 3)); len(v.Members) != 1 || len(v.Claims) != 3 {
		t.Errorf("clusters are mixed: %+v", v)
	}
	bad := newNode(t, etcd, strings.TrimSuffix(prefix, "/"), "n")
	if err := bad.Start(background(t)); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Errorf("a prefix without / at its end: %v", err)
	}
}

func testRevoked(t *testing.T, etcd *etcdtest.Server, prefix string) {
	ctx := background(t)
	a, b := start(t, etcd, prefix, "a"), start(t, etcd, prefix, "b")
	if err := a.SetDraining(ctx, true); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := a.Claim(ctx, shards(0, 5)); err != nil {
			t.Fatal(err)
		}
		v := a.await("its claims", claims(a, 5))
		before, _ := v.Member(a.ID())
		b.await("a's claims", claims(a, 5))
		if _, err := etcd.Client().Revoke(ctx, clientv3.LeaseID(before.Lease)); err != nil {
			t.Fatal(err)
		}
		v = a.await("itself under another lease", func(v View) bool {
			m, ok := v.Member(a.ID())
			return ok && m.Lease != before.Lease
		})
		if after, _ := v.Member(a.ID()); !after.Draining || !after.StartedAt.After(before.StartedAt) || len(v.Claims) != 0 {
			t.Errorf("after: %+v with claims %v", after, v.Claims)
		}
		if n := a.expired.Load(); n != int32(i)+1 {
			t.Errorf("OnExpired was called %d times for %d leases", n, i+1)
		}
		b.await("a without claims", func(v View) bool {
			m, ok := v.Member(a.ID())
			return ok && m.Lease != before.Lease && len(v.Claims) == 0
		})
	}
	poll(t, "a is healthy again", a.Healthy)
	if b.expired.Load() != 0 {
		t.Error("b lost its lease, too")
	}
}

func testRemoved(t *testing.T, etcd *etcdtest.Server, prefix string) {
	ctx := background(t)
	a := start(t, etcd, prefix, "a")
	if _, err := a.Claim(ctx, shards(0, 5)); err != nil {
		t.Fatal(err)
	}
	a.await("its claims", claims(a, 5))
	if _, err := etcd.Client().Delete(ctx, prefix+"nodes/"+a.ID()); err != nil {
		t.Fatal(err)
	}
	poll(t, "OnExpired", func() bool { return a.expired.Load() == 1 })
	a.await("itself again", func(v View) bool { return names(v) == "a" && len(v.Claims) == 0 })
}

func testRefusals(t *testing.T, etcd *etcdtest.Server, prefix string) {
	start(t, etcd, prefix, "a")
	refusals := map[string]func(*Config){
		"has the name of this one":       func(c *Config) { c.Self.Name = "a" },
		"into 300 shards, this one into": func(c *Config) { c.Self.Shards = 64 },
		"serves the namespace":           func(c *Config) { c.Self.Namespace = "other" },
		"runs version 22.03.14":          func(c *Config) { c.Self.Version = "22.09.0" },
		"works on another database":      func(c *Config) { c.Self.Database = "another" },
		"has another cluster secret":     func(c *Config) { c.Self.Trust = "another" },
		"reaches nobody there":           func(c *Config) { c.Self.Address, c.Self.Host = "127.0.0.1:6020", "another" },
	}
	var all sync.WaitGroup
	for want, change := range refusals {
		n := newNode(t, etcd, prefix, "b", change)
		all.Go(func() {
			err := n.Start(background(t))
			if backendai.CodeOf(err) != backendai.InvalidConfig || !strings.Contains(err.Error(), want) {
				t.Errorf("want a refusal with %q, got %v", want, err)
			}
		})
	}
	all.Wait()
	left, err := etcd.Client().Get(background(t), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || left.Count != 1 {
		t.Errorf("the refused have left keys: %v %v", left, err)
	}
	long := newNode(t, etcd, prefix, "c", func(c *Config) { c.TTL = time.Minute })
	if err := long.Start(background(t)); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Errorf("a lease of a minute: %v", err)
	}
}

func testTwoOfAName(t *testing.T, etcd *etcdtest.Server, prefix string) {
	const n = 4
	errs := make(chan error, n)
	for i := range n {
		node := newNode(t, etcd, prefix, "a", func(c *Config) { c.Self.ID = fmt.Sprintf("a-%d", i) })
		go func() { errs <- node.Start(background(t)) }()
	}
	joined := 0
	for range n {
		if err := <-errs; err == nil {
			joined++
		} else if backendai.CodeOf(err) != backendai.InvalidConfig {
			t.Error(err)
		}
	}
	if joined != 1 {
		t.Errorf("%d processes of one name have joined", joined)
	}
}

func testSlowViewer(t *testing.T, etcd *etcdtest.Server, prefix string) {
	a := start(t, etcd, prefix, "a")
	got, release := make(chan View), make(chan struct{})
	slow := start(t, etcd, prefix, "slow", func(c *Config) {
		c.OnView = func(v View) {
			got <- v
			<-release
		}
	})
	first := <-got
	for range 20 {
		if _, err := a.Claim(background(t), shards(0, 4)); err != nil {
			t.Fatal(err)
		}
		if err := a.Release(background(t), shards(0, 4)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Claim(background(t), shards(0, 2)); err != nil {
		t.Fatal(err)
	}
	poll(t, "everything is seen", func() bool { return len(slow.View().Claims) == 2 })
	close(release)
	last, views := first, 1
	for len(last.Claims) != 2 {
		v := <-got
		if v.Revision < last.Revision {
			t.Fatal("an older view came after a newer one")
		}
		last = v
		views++
	}
	if views > 3 {
		t.Errorf("%d views were queued for a viewer that was busy", views)
	}
	go func() {
		for range got { // whatever comes until the test's end
		}
	}()
	if err := slow.Stop(background(t)); err != nil {
		t.Fatal(err)
	}
	close(got)
}

func testStopEndsEverything(t *testing.T, etcd *etcdtest.Server, prefix string) {
	n := newNode(t, etcd, prefix, "a")
	if err := n.Stop(background(t)); err != nil {
		t.Errorf("stopping what has not been started: %v", err)
	}
	if err := n.Start(background(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Claim(background(t), shards(0, 5)); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(background(t)); err != nil {
		t.Fatal(err)
	}
	left, err := etcd.Client().Get(background(t), prefix, clientv3.WithPrefix())
	if err != nil || left.Count != 0 || n.Healthy() {
		t.Errorf("after Stop: %v keys, %v", left, err)
	}
}
