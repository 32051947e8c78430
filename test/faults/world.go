package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/redis"
)

// setup is what a world is made of.
type setup struct {
	binary        string
	nodes, agents int
	residents     int    // sessions that live through the run
	wired         bool   // connections go through wires
	group         string // scaling group of the pretended agents
	cores         int    // of each of them
}

// resident is a session that must not be lost.
type resident struct {
	Name, ID, Container, Agent string
	Shard                      int32
}

// world is everything that runs.
type world struct {
	*ground
	*history
	setup    setup
	say      func(format string, args ...any)
	tenants  *tenants
	wires    *wires
	nodes    []*node
	balancer *balancer
	set      *redis.Set
	fleet    *fleet
	load     *load
	etcdCli  *clientv3.Client
	prefix   string
	shards   int

	mu         sync.Mutex
	residents  []resident
	born       int // residents ever
	violations []violation
	epochs     map[int32]int64
	judged     map[string]bool // requests that have been
	watchEnd   context.CancelFunc
	serving    atomic.Bool
}

// violation is something that must not be.
type violation struct {
	At    time.Duration `json:"at"`
	Fault int           `json:"fault"`
	Kind  kind          `json:"kind,omitempty"`
	Text  string        `json:"text"`
}

// newWorld starts everything but the load.
func newWorld(ctx context.Context, s setup, say func(string, ...any)) (w *world, err error) {
	w = &world{setup: s, say: say, tenants: &tenants{}, prefix: server.ClusterPrefix(namespace), shards: cluster.DefaultShards, epochs: make(map[int32]int64), judged: make(map[string]bool)}
	w.wires = newWires(w.tenants.owner)
	say("starting PostgreSQL, Redis and %d members of etcd", etcdMembers)
	w.ground, err = newGround(ctx)
	if err != nil {
		return w, err
	}
	if w.history, err = newHistory(w.dir); err != nil {
		return w, err
	}
	w.etcdCli = w.settings.Etcd()
	ways := ways{postgres: w.pg.TCPAddr(), etcd: w.etcdAddr}
	if s.group != "default" {
		if err = w.addGroup(ctx, s.group); err != nil {
			return w, err
		}
	}
	if s.wired {
		if ways, err = w.lay(ctx); err != nil {
			return w, err
		}
	}
	say("starting %d nodes and HAProxy", s.nodes)
	for i := range s.nodes {
		var peer *wire
		if s.wired {
			if peer, err = w.wires.open(nodeName(i), ""); err != nil {
				return w, err
			}
		}
		n, err := newNode(w.ground, s.binary, i, ways, peer)
		if err != nil {
			return w, err
		}
		n.onStart = func(pid int) { w.tenants.set(pid, n.Name) }
		n.onExit = w.tenants.drop
		go n.supervise(w.endedByItself)
		w.nodes = append(w.nodes, n)
	}
	if w.balancer, err = newBalancer(w.dir, w.nodes); err != nil {
		return w, err
	}
	if err = w.watch(ctx); err != nil {
		return w, err
	}
	if w.set, err = redis.Open(ctx, redis.Config{Addr: w.redis.Addr(), Patience: 10 * time.Second}); err != nil {
		return w, err
	}
	between := w.wires
	if !s.wired {
		between = nil
	}
	if w.fleet, err = newFleet(w.set, between, s.agents, s.group, s.cores); err != nil {
		return w, err
	}
	w.load = newLoad(newClient("http://"+w.balancer.Addr, 256), w.history)
	if s.group != "default" {
		w.load.client.group = s.group
	}
	if err = eventually(ctx, time.Minute, func() error { return w.whole(ctx) }); err != nil {
		return w, fmt.Errorf("the cluster does not come up: %w", err)
	}
	say("whole; %d residents move in", s.residents)
	return w, eventually(ctx, time.Minute, func() error { return w.settle(ctx) })
}

func etcdName(i int) string { return fmt.Sprintf("etcd%d", i+1) }

// lay opens the wires to the stores.
func (w *world) lay(ctx context.Context) (ways ways, err error) {
	pg, err := w.wires.open("postgres", w.pg.TCPAddr())
	if err != nil {
		return ways, err
	}
	redis, err := w.wires.open("redis", w.redis.Addr())
	if err != nil {
		return ways, err
	}
	ways.postgres = pg.Addr
	for i, addr := range w.etcdAddr {
		x, err := w.wires.open(etcdName(i), addr)
		if err != nil {
			return ways, err
		}
		ways.etcd = append(ways.etcd, x.Addr)
	}
	_, err = w.settings.Put(ctx, "config/redis/addr", redis.Addr, shared.Global)
	return ways, err
}

// endedByItself is told of a node that has ended although nobody wanted it to.
func (w *world) endedByItself(n *node) {
	if w.serving.Load() { // people may kill what they like
		w.say("%s has ended (%v); it is started again", n.Name, n.Err())
		return
	}
	w.violate("", "%s ended by itself (%v); its last words:\n%s", n.Name, n.Err(), n.tail(1500))
}

func (w *world) violate(k kind, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.history.mu.Lock()
	fault := w.history.fault
	w.history.mu.Unlock()
	w.note(violation{w.now(), fault, k, text})
}

// violateAt is violate for what is found out later.
func (w *world) violateAt(f fault, at time.Duration, format string, args ...any) {
	w.note(violation{at, f.N, f.Kind, fmt.Sprintf(format, args...)})
}

func (w *world) note(v violation) {
	w.mu.Lock()
	w.violations = append(w.violations, v)
	w.mu.Unlock()
	w.add(entry{What: "violation", Text: v.Text})
	w.say("VIOLATION: %s", v.Text)
}

// settle creates residents until there are enough.
func (w *world) settle(ctx context.Context) error {
	w.mu.Lock()
	missing, first := w.setup.residents-len(w.residents), w.born
	w.born += max(0, missing)
	w.mu.Unlock()
	if missing <= 0 {
		return nil
	}
	errs := make([]error, missing)
	atOnce(8, missing, func(i int) {
		name := fmt.Sprintf("resident-%04d", first+i)
		s, err := w.load.create(name)
		if err == nil && s.Status != "RUNNING" {
			err = fmt.Errorf("%s is %s", name, s.Status)
		}
		if err != nil {
			errs[i] = err
			return
		}
		at, ok := w.fleet.kernels()[s.ID]
		if !ok {
			errs[i] = fmt.Errorf("%s is said to run, but no agent knows it", name)
			return
		}
		r := resident{Name: name, ID: s.ID, Agent: at[0], Container: at[1]}
		r.Shard = cluster.ShardOf(cluster.Identity{Kind: cluster.KindSession, ID: s.ID}, w.shards)
		w.mu.Lock()
		w.residents = append(w.residents, r)
		w.mu.Unlock()
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) living() []resident {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.residents)
}

// bereave forgets the residents of an agent, which has lost them, and returns them.
func (w *world) bereave(agent string) (lost []resident) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.residents = slices.DeleteFunc(w.residents, func(r resident) bool {
		if r.Agent == agent {
			lost = append(lost, r)
		}
		return r.Agent == agent
	})
	return lost
}

// view is the cluster as etcd has it.
func (w *world) view(ctx context.Context) (membership.View, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return membership.Look(ctx, w.etcdCli, w.prefix)
}

// ownedBy lists the shards of the node of a name.
func ownedBy(v membership.View, name string) (shards []int32) {
	for _, m := range v.Members {
		if m.Name == name {
			shards = append(shards, v.Claimed(m.ID)...)
		}
	}
	return shards
}

// whole says what is missing until the cluster is whole; nil when nothing is.
func (w *world) whole(ctx context.Context) error {
	v, err := w.view(ctx)
	if err != nil {
		return err
	}
	names := make(map[string]int)
	for _, m := range v.Members {
		if m.Draining {
			return fmt.Errorf("%s is draining", m.Name)
		}
		names[m.Name] = len(v.Claimed(m.ID))
	}
	if len(v.Members) != len(w.nodes) || len(names) != len(w.nodes) {
		return fmt.Errorf("%d of %d nodes are members: %v", len(names), len(w.nodes), slices.Sorted(maps.Keys(names)))
	}
	for name, claims := range names {
		if claims == 0 {
			return fmt.Errorf("%s has no shard", name)
		}
	}
	for s := range int32(w.shards) {
		c, ok := v.Claims[s]
		if _, live := v.Member(c.Member); !ok || !live || c.Epoch == 0 {
			return fmt.Errorf("shard %d has no owner that acts: %+v", s, c)
		}
	}
	for _, n := range w.nodes {
		if err := n.ready(); err != nil {
			return err
		}
	}
	up, err := w.balancer.up()
	if err != nil {
		return err
	}
	if len(up) != len(w.nodes) {
		return fmt.Errorf("HAProxy sends requests to %v only", up)
	}
	return w.residentsAnswer(ctx)
}

// residentsAnswer asks every resident which container it is.
func (w *world) residentsAnswer(ctx context.Context) error {
	list := w.living()
	errs := make([]error, len(list))
	atOnce(8, len(list), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		got, _, err := w.load.client.container(ctx, list[i].Name)
		switch {
		case err != nil:
			errs[i] = fmt.Errorf("%s (%s, shard %d, on %s): %w", list[i].Name, list[i].ID, list[i].Shard, list[i].Agent, err)
		case got != list[i].Container:
			w.violate("", "resident %s is another container: %.12s, not %.12s", list[i].Name, got, list[i].Container)
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// atOnce does n pieces of work, some at a time.
func atOnce(some, n int, work func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(some, n) {
		wg.Go(func() {
			for i := range next {
				work(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// close ends everything.
func (w *world) close(keep bool) {
	if w.watchEnd != nil {
		w.watchEnd()
	}
	var all sync.WaitGroup
	for _, n := range w.nodes {
		all.Go(n.Close)
	}
	all.Wait()
	if w.balancer != nil {
		w.balancer.Stop(syscall.SIGKILL, time.Second)
	}
	if w.fleet != nil {
		w.fleet.close()
	}
	if w.set != nil {
		w.set.Close()
	}
	w.wires.Close()
	if w.history != nil {
		w.history.close()
	}
	w.ground.stop(keep)
	if keep {
		fmt.Fprintln(os.Stderr, "data, logs and history.jsonl are in", w.dir)
	}
}
