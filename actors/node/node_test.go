package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/store"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/postgres/shards"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/test/fakeagent"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	accessKey = "AKIAIOSFODNN7EXAMPLE"
	image     = "cr.example.com/stable/python:3.9"
)

var (
	groupID = uuid.MustParse("2de2b969-1d04-48a6-af16-0bc8adb3c831")
	userID  = uuid.MustParse("f38dea23-50fa-42a0-b5ae-338f5f4693f4")
)

// settings are shared settings of a cluster that has none.
type settings struct{}

func (settings) KnownSlots() *backendai.KnownSlots                         { return backendai.NewKnownSlots() }
func (settings) AddSlotTypes(context.Context, []backendai.KnownSlot) error { return nil }
func (settings) AutoPull() string                                          { return "digest" }
func (settings) OverlayMTU() string                                        { return "" }
func (settings) Registry(string) (string, string, string, bool)            { return "", "", "", false }
func (settings) ShowsGroups() bool                                         { return false }
func (settings) SchedulerOptions(string) map[string]any                    { return nil }

// bus keeps what was published.
type bus struct {
	mu     sync.Mutex
	events []event.Event
}

func (b *bus) Publish(e event.Event, _ string) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
}

func (b *bus) names() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		names = append(names, event.Name(e))
	}
	return names
}

// volatile is the live state of a Redis that forgets everything.
type volatile struct{}

func (volatile) Seen(string, time.Time)   {}
func (volatile) Forget(string)            {}
func (volatile) Images(string, []string)  {}
func (volatile) Concurrency(string, int)  {}
func (volatile) Accessed(uuid.UUID, bool) {}
func (volatile) Statistics(context.Context, uuid.UUID) (json.RawMessage, error) {
	return json.RawMessage(`{"cpu_used": {"current": "1", "unit_hint": "msec"}}`), nil
}
func (volatile) ContainerLog(context.Context, string, func([]byte) error) error { return nil }

// world is a database, agents and the node under test; the node can be killed and started again.
type world struct {
	*testing.T
	pool   *pgxpool.Pool
	agents []*fakeagent.Agent
	bus    *bus
	node   *Node
	hears  atomic.Pointer[Node] // who hears events; agents send them on goroutines of their own
	kill   context.CancelFunc
}

func newWorld(t *testing.T, agents int, change func(*fakeagent.Config)) *world {
	w := newGround(t, agents, change)
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// newGround is a world without a node.
func newGround(t *testing.T, agents int, change func(*fakeagent.Config)) *world {
	w := &world{T: t, pool: dbtest.New(t), bus: &bus{}}
	f, err := os.Open("testdata/fixture.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fixture.Populate(t.Context(), w.pool, f); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
		VALUES ($1, 'stable/python', '3.9', 'cr.example.com', 'x86_64', 'sha256:00', 1, 'COMPUTE', '{}', '{}')`, image); err != nil {
		t.Fatal(err)
	}
	for i := range agents {
		cfg := fakeagent.Config{ID: fmt.Sprintf("i-%d", i), Capacity: backendai.SlotsOf("cpu", "64", "mem", "256g"), Events: w.event}
		if change != nil {
			change(&cfg)
		}
		a := fakeagent.New(cfg)
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Stop() })
		w.agents = append(w.agents, a)
	}
	return w
}

type ledger struct{ pool *pgxpool.Pool }

func (l ledger) Take(ctx context.Context, list []int32) (map[int32]int64, error) {
	return shards.Take(ctx, l.pool, list, "test")
}

func (l ledger) Epochs(ctx context.Context, list []int32) (map[int32]int64, error) {
	return shards.Epochs(ctx, l.pool, list)
}

func (w *world) start() {
	w.Helper()
	log := slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := shards.Ensure(w.Context(), w.pool, 8)
	if err != nil {
		w.Fatal(err)
	}
	j := journal.New(w.pool, journal.Config{}, log)
	j.Start()
	w.node = New(Config{Name: "test", Shards: n, Log: log, Ledger: ledger{w.pool}, Journal: j, Store: store.New(w.pool, settings{}, log),
		Bus: w.bus, Live: volatile{}, Hooks: nil, Networks: nil, HeartbeatTimeout: time.Minute})
	if err := w.node.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.hears.Store(w.node)
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	if err := w.node.Ready(ctx); err != nil {
		w.Fatal(err)
	}
	for _, a := range w.agents {
		w.heartbeat(a)
	}
	w.kill = j.Stop
}

// crash ends the node as a kill would: the journal stops at once, nothing is flushed or said.
func (w *world) crash() {
	w.kill()
	w.stop()
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = w.node.Stop(ctx)
	w.kill()
}

func (w *world) heartbeat(a *fakeagent.Agent) {
	hb := &protocol.Heartbeat{Agent: a.ID(), Region: "local", ScalingGroup: "default", Addr: a.Address(), Version: "22.03.14",
		Architecture: "x86_64", Received: time.Now(), ComputePlugins: json.RawMessage(`{}`)}
	for name, amount := range a.Config().Capacity.All() {
		hb.Slots = append(hb.Slots, protocol.AgentSlot{Name: string(name), Type: backendai.GuessSlotType(name), Amount: amount})
	}
	w.node.Send(cluster.Agent(a.ID()), hb)
}

// event plays the bus: what agents publish reaches the node under test.
func (w *world) event(name string, args ...any) {
	node := w.hears.Load()
	if node == nil {
		return
	}
	e := &protocol.AgentEvent{Name: name, Now: time.Now(), ExitCode: -1}
	e.KernelID = uuid.MustParse(args[0].(string))
	if name == "kernel_terminated" {
		e.Reason = args[1].(string)
	}
	node.directory.deliver(e)
}

func kernelRow(name string, slots backendai.ResourceSlots) *record.Kernel {
	id := uuid.New()
	return &record.Kernel{
		ID: id, SessionID: id, CreationID: string(backendai.NewCreationID()), SessionName: name, SessionType: backendai.Interactive,
		ClusterMode: backendai.SingleNode, ClusterSize: 1, ClusterRole: "main", ClusterIdx: 1, ClusterHostname: "main1",
		ScalingGroup: "default", DomainName: "default", GroupID: groupID, UserUUID: userID, AccessKey: accessKey,
		Image: image, Architecture: "x86_64", Registry: "cr.example.com", OccupiedSlots: slots, ResourceOpts: json.RawMessage(`{"shmem": 67108864}`),
		CreatedAt: time.Now(), Status: backendai.Pending, Result: backendai.ResultUndefined,
	}
}

var unlimited = backendai.SlotsOf("cpu", "inf", "mem", "inf")

func (w *world) create(rows ...*record.Kernel) (uuid.UUID, error) {
	v, err := w.ask(rows[0].SessionID, func(r protocol.ReplyTo) any { return w.creation(r, rows...) })
	if err != nil {
		return uuid.Nil, err
	}
	return v.(*protocol.Enqueued).SessionID, nil
}

func (w *world) creation(r protocol.ReplyTo, rows ...*record.Kernel) *protocol.Create {
	limits := protocol.Limits{Keypair: unlimited, Group: unlimited, Domain: unlimited,
		ScalingGroups: map[string][]backendai.SessionType{"default": backendai.SessionTypes}}
	launch := protocol.Launch{AutoPull: "digest", Images: map[string]protocol.LaunchImage{image: {RegistryName: "cr.example.com"}}}
	return &protocol.Create{Kernels: rows, Launch: launch, Scheduling: limits, Reply: r}
}

func (w *world) ask(id uuid.UUID, msg func(protocol.ReplyTo) any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return w.node.Ask(ctx, cluster.Session(id), msg)
}

func (w *world) await(id uuid.UUID) backendai.KernelStatus {
	w.Helper()
	v, err := w.ask(id, func(r protocol.ReplyTo) any { return &protocol.AwaitStart{Reply: r} })
	if errors.Is(err, backendai.SessionNotFound) {
		return w.status(id)
	}
	if err != nil {
		w.Fatalf("%v; row %s", err, w.text(`SELECT concat_ws('|', status, status_info, status_data, agent) FROM kernels WHERE id = $1`, id))
	}
	return v.(*protocol.Outcome).Status
}

func (w *world) destroy(id uuid.UUID, forced bool) (*protocol.Destroyed, error) {
	v, err := w.ask(id, func(r protocol.ReplyTo) any { return &protocol.Destroy{Forced: forced, Now: time.Now(), Reply: r} })
	if err != nil {
		return nil, err
	}
	return v.(*protocol.Destroyed), nil
}

func (w *world) status(id uuid.UUID) backendai.KernelStatus {
	w.Helper()
	return backendai.KernelStatus(w.text(`SELECT status::text FROM kernels WHERE id = $1`, id))
}

func (w *world) text(sql string, args ...any) string {
	w.Helper()
	var s string
	if err := w.pool.QueryRow(context.Background(), sql, args...).Scan(&s); err != nil {
		w.Fatal(err)
	}
	return s
}

// eventually polls until the condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			w.Fatalf("does not come true: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // polling with a deadline
	}
}

func (w *world) checkBooks(kernels int) {
	w.Helper()
	total := 0
	for _, a := range w.agents {
		b := a.Books()
		total += b.Kernels
		if b.Overcommits != 0 || b.Duplicates != 0 {
			w.Errorf("agent %s: %+v", a.ID(), b)
		}
		if kernels == 0 && !b.Used.IsZero() {
			w.Errorf("agent %s still uses %s", a.ID(), b.Used)
		}
	}
	if total != kernels {
		w.Errorf("%d kernels on the agents, want %d", total, kernels)
	}
}

func agentIdentity(a *fakeagent.Agent) cluster.Identity { return cluster.Agent(a.ID()) }
func sessionIdentity(id uuid.UUID) cluster.Identity     { return cluster.Session(id) }
func schedulerIdentity(group string) cluster.Identity   { return cluster.Scheduler(group) }
