package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"backend.ai/manager/actors/store"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cluster/transport"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/shards"
	"backend.ai/manager/test/fakeagent"
)

const (
	manyShards = 16
	// leaseTTL is the shortest that etcd grants.
	leaseTTL = 2 * time.Second
	// expiry is how long etcd may take to notice that a lease has run out: it looks twice a second.
	expiry = time.Second
	// joinDelay is short: the clocks of nodes in one process agree.
	joinDelay = 100 * time.Millisecond
)

// several are nodes of one cluster, each with a journal, a connection to etcd and a transport of its own.
type several struct {
	*world
	etcd   *etcdtest.Server
	prefix string // of the cluster, in etcd
	client *clientv3.Client
	next   atomic.Uint64

	mu     sync.Mutex
	living []*fellow // hear events and heartbeats
}

// fellow is one of several nodes.
type fellow struct {
	*world  // whose node it is
	journal *journal.Journal
	etcd    *cable
	ears    *ears
	members *membership.Membership
	once    sync.Once
}

func (f *fellow) stop() { f.once.Do(f.world.stop) }

// ears can be closed: then nothing that happens in the cluster, and nothing that other nodes send, is heard or said.
type ears struct {
	blind, mute atomic.Bool
}

// cable is what connects a node to etcd.
type cable struct {
	client *clientv3.Client

	mu    sync.Mutex
	torn  bool
	conns []net.Conn
}

// connect makes the one client that uses the cable.
func (c *cable) connect(t *testing.T, endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.dial)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c.client = client
	return client
}

func (c *cable) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.torn {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// cut ends all connections for good.
func (c *cable) cut() {
	c.mu.Lock()
	c.torn = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	_ = c.client.Close() // what would wait for a connection fails at once
}

type gag struct {
	Transport
	*ears
}

func (g gag) Send(address string, frame []byte) {
	if !g.mute.Load() {
		g.Transport.Send(address, frame)
	}
}

func newSeveral(t *testing.T, etcd *etcdtest.Server, names string, agents int, change func(*fakeagent.Config)) (s *several, fellows []*fellow) {
	s = &several{etcd: etcd, prefix: "/" + uuid.NewString() + "/"}
	s.client = s.etcd.Client()
	s.world = newGround(t, agents, func(c *fakeagent.Config) {
		c.Events = s.event
		if change != nil {
			change(c)
		}
	})
	if _, err := shards.Ensure(t.Context(), s.pool, manyShards); err != nil {
		t.Fatal(err)
	}
	var starting sync.WaitGroup
	fellows = make([]*fellow, len(names))
	for i, name := range names {
		starting.Go(func() { fellows[i] = s.join(string(name)) })
	}
	starting.Wait()
	for _, f := range fellows {
		if f == nil {
			t.FailNow()
		}
		s.whole(f)
	}
	wanted := cluster.Wanted(strings.Split(names, ""), manyShards)
	s.eventually("every node has its shards", func() bool {
		for shard, name := range wanted {
			if !slices.Contains(fellows[strings.Index(names, name)].owned(), int32(shard)) {
				return false
			}
		}
		return true
	})
	ctx, cancel := context.WithCancel(context.Background())
	var beats sync.WaitGroup
	beats.Go(func() { s.beat(ctx) }) // again and again: one that finds no owner yet is lost
	t.Cleanup(func() { cancel(); beats.Wait() })
	s.eventually("the agents are alive", func() bool {
		return s.text(`SELECT count(*)::text FROM agents WHERE status = 'ALIVE'`) == fmt.Sprint(agents)
	})
	return s, fellows
}

// join starts a node. It is stopped at the test's end, unless it is before.
func (s *several) join(name string) *fellow {
	log := slog.New(slog.NewTextHandler(s.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", name)
	f := &fellow{world: &world{T: s.T, pool: s.pool, agents: s.agents, bus: s.bus}, etcd: &cable{}, ears: &ears{}}
	client := f.etcd.connect(s.T, s.etcd.Endpoint)
	f.journal = journal.New(s.pool, journal.Config{}, log)
	f.journal.Start()
	f.world.kill = f.journal.Stop
	company := &Company{
		JoinDelay: joinDelay,
		Transport: func(system *actor.ActorSystem, receive func([]byte), broken func(string)) (Transport, error) {
			t, err := transport.New(transport.Config{System: system, Host: "127.0.0.1", Secret: config.NewSecret("the secret of these nodes"), Log: log, OnBroken: broken,
				Receive: func(frame []byte) {
					if !f.ears.mute.Load() {
						receive(frame)
					}
				}})
			return gag{t, f.ears}, err
		},
		Members: func(address string, onView func(membership.View), onExpired func()) Members {
			f.members = membership.New(membership.Config{Client: client, Prefix: s.prefix, TTL: leaseTTL, Log: log, OnExpired: onExpired,
				OnView: func(v membership.View) {
					if !f.ears.blind.Load() {
						onView(v)
					}
				},
				Self: membership.Member{Name: name, Address: address, Version: "22.03.14", Namespace: "local", Shards: manyShards}})
			return f.members
		},
	}
	f.node = New(Config{Name: name, Shards: manyShards, Log: log, Ledger: ledger{s.pool}, Journal: f.journal, Store: store.New(s.pool, settings{}, log),
		Bus: s.bus, Live: volatile{}, HeartbeatTimeout: time.Minute, Company: company})
	if err := f.node.Start(s.Context()); err != nil {
		s.Error(err)
		return nil
	}
	s.Cleanup(f.stop)
	s.mu.Lock()
	s.living = append(s.living, f)
	s.mu.Unlock()
	return f
}

// leave stops a node in an orderly way.
func (s *several) leave(f *fellow) {
	s.deaf(f)
	f.stop()
}

// kill ends a node as the end of its process would: nothing more is written or said, and its lease is left behind.
func (s *several) kill(f *fellow) {
	s.deaf(f)
	f.journal.Stop()
	f.etcd.cut()
	f.stop()
}

// unplug ends a node as the end of its machine would: it is not heard any more, and its address refuses nobody.
func (s *several) unplug(f *fellow) {
	s.deaf(f)
	f.ears.blind.Store(true)
	f.ears.mute.Store(true)
	f.journal.Stop()
	f.etcd.cut()
}

// deaf keeps events and heartbeats from a node.
func (s *several) deaf(f *fellow) {
	s.mu.Lock()
	s.living = slices.DeleteFunc(s.living, func(o *fellow) bool { return o == f })
	s.mu.Unlock()
}

// someone is one of the living nodes, each in turn.
func (s *several) someone() *fellow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.living) == 0 {
		return nil
	}
	return s.living[s.next.Add(1)%uint64(len(s.living))]
}

// event plays the bus: each event is consumed by one of the nodes.
func (s *several) event(name string, args ...any) {
	if f := s.someone(); f != nil {
		f.hears.Store(f.node)
		f.world.event(name, args...)
	}
}

// beat sends the agents' heartbeats.
func (s *several) beat(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, a := range s.agents {
				if f := s.someone(); f != nil {
					f.heartbeat(a)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// whole waits until a node sees an owner of every shard, and tells how long that took.
func (s *several) whole(f *fellow) time.Duration {
	s.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.node.Ready(ctx); err != nil {
		s.Fatalf("%s: %v", f.node.Name(), err)
	}
	return time.Since(begin)
}

func (f *fellow) owned() []int32 {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	o, err := f.node.Ownership(ctx)
	if err != nil {
		f.Fatal(err)
	}
	var list []int32
	for shard := range o.Epochs {
		list = append(list, shard)
	}
	slices.Sort(list)
	return list
}

// on draws an id of a session that belongs to a shard.
func on(shard int32) uuid.UUID {
	for {
		if id := uuid.New(); cluster.ShardOf(cluster.Session(id), manyShards) == shard {
			return id
		}
	}
}
