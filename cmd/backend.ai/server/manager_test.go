package server_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/persistence/redis/redistest"
	"backend.ai/manager/test/fakeagent"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const recordedImage = "127.0.0.1:5000/stable/python:3.11-debian12"

// recordedKeys is the SSH key pair that the user had made before the capture; the recording left the private one out.
const recordedPrivateKey = "<RSA PRIVATE KEY removed>\n"

// world is an assembled manager on real stores with the recorded cluster, and an agent that answers as the recorded one did.
type world struct {
	*testing.T
	db         postgres.Config
	cache      string // Redis
	etcd       *etcdtest.Server
	pool       *pgxpool.Pool
	url        string
	agent      *fakeagent.Agent
	stat       rueidis.Client // statistics
	stream     rueidis.Client // events and logs
	producer   *redis.Producer
	letDestroy func()

	mu     sync.Mutex
	calls  []callosum.Call
	hold   chan struct{}                // closed when the agent may go on ending kernels; nil: at once
	others map[string]*fakeagent.Kernel // kernels of sessions that were not recorded
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newStores(t)
	w.startManager()
	w.startAgent(w.cache)
	return w
}

// newStores is a world without manager and agent.
func newStores(t *testing.T) *world {
	t.Helper()
	cache, tree := redistest.New(t), etcdtest.New(t)
	w := &world{T: t, db: dbtest.Config(t), cache: cache.Addr(), etcd: tree}
	db := w.db
	var err error
	if w.pool, err = postgres.Connect(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	golden.Cluster(t, w.pool)
	w.recorded()
	w.settings(tree.Endpoint, cache.Addr())
	w.stat, w.stream = w.redis(cache.Addr(), 0), w.redis(cache.Addr(), 4)
	return w
}

func (w *world) redis(addr string, db int) rueidis.Client {
	w.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, SelectDB: db})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// recorded adds what earlier captures had left: the image, as the agent was told of it, and the user's SSH key pair.
func (w *world) recorded() {
	w.Helper()
	config := recordedConfig(w.T)
	image := config["image"].(map[string]any)
	labels, err := json.Marshal(image["labels"])
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.pool.Exec(w.Context(), `INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
 VALUES ($1, 'stable/python', '3.11-debian12', '127.0.0.1:5000', 'x86_64', $2, 1, 'COMPUTE', $3, '{"cpu": {"min": "1"}, "mem": {"min": "128m"}}')`,
		recordedImage, image["digest"], string(labels)); err != nil {
		w.Fatal(err)
	}
	public := config["internal_data"].(map[string]any)["ssh_keypair"].(map[string]any)["public_key"]
	if _, err := w.pool.Exec(w.Context(), `UPDATE keypairs SET ssh_public_key = $2, ssh_private_key = $3 WHERE access_key = $1`,
		string(golden.Keys["user"].Access), public, recordedPrivateKey); err != nil {
		w.Fatal(err)
	}
}

// settings are the shared ones of the capture.
func (w *world) settings(etcd, redis string) {
	w.Helper()
	client, err := shared.Open(w.Context(), shared.Config{Endpoints: []string{etcd}, Namespace: "local"})
	if err != nil {
		w.Fatal(err)
	}
	defer client.Close()
	for key, value := range map[string]string{
		"config/redis/addr": redis, "config/docker/image/auto_pull": "tag", "config/docker/registry/127.0.0.1%3A5000": "http://127.0.0.1:5000",
		"config/docker/registry/127.0.0.1%3A5000/type": "docker", "config/docker/registry/127.0.0.1%3A5000/ssl-verify": "false",
		"config/resource_slots/cuda.shares": "count", "volumes/_types/user": "", "volumes/_types/group": "",
	} {
		if _, err := client.Put(w.Context(), key, value, shared.Global); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) startManager() {
	w.Helper()
	cfg := w.config("")
	cfg.Service.Addr.Port = 0 // any free one, which a file may not ask for
	s, err := w.serve(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.url = "http://" + s.Addr().String()
}

// config is that of a manager on the world's stores, with more lines of the table [actors].
func (w *world) config(actors string) *config.Manager {
	w.Helper()
	cfg, err := config.Parse("manager.toml", []byte(w.toml(w.db, actors)), config.Options{})
	if err != nil {
		w.Fatal(err)
	}
	return cfg
}

func (w *world) toml(db postgres.Config, actors string) string {
	dbHost, dbPort, _ := net.SplitHostPort(db.Addr)
	etcdHost, etcdPort, _ := net.SplitHostPort(w.etcd.Endpoint)
	return fmt.Sprintf(`[etcd]
namespace = "local"
addr = { host = %q, port = %s }
[db]
addr = { host = %q, port = %s }
name = %q
user = %q
password = %q
[manager]
service-addr = { host = "127.0.0.1", port = 1 }
[actors]
%s
[logging]
level = "WARNING"
drivers = ["console"]
[logging.console]
[docker-registry]
[debug]
`, etcdHost, etcdPort, dbHost, dbPort, db.Name, db.User, db.Password, cmp.Or(actors, "shards = 8"))
}

// serve starts a manager, which is stopped at the test's end unless it is before.
func (w *world) serve(cfg *config.Manager) (*server.Server, error) {
	log := slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", cfg.Actors.NodeName)
	s := server.New(cfg, log)
	if err := s.Start(w.Context()); err != nil {
		return nil, err
	}
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			w.Error(err)
		}
	})
	return s, nil
}

// startAgent starts the pretended agent and waits until the manager has heard of it.
func (w *world) startAgent(addr string) {
	w.Helper()
	set, err := redis.Open(w.Context(), redis.Config{Addr: addr})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(set.Close)
	w.producer = redis.NewProducer(set, redis.ProducerConfig{}, slog.New(slog.DiscardHandler))
	w.producer.Start()
	w.Cleanup(func() { w.producer.Stop(context.Background()) })
	fleet := fakeagent.NewFleet(set, 1, recordedImage, fakeagent.Config{Capacity: backendai.SlotsOf("cpu", "64", "mem", "256g"), Calls: w.called, Logs: w.leaveLog})
	if err := fleet.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(fleet.Stop)
	w.agent = fleet.Agents[0]
	w.until("the agent is alive", `SELECT count(*) = 1 FROM agents WHERE status = 'ALIVE'`)
}

func (w *world) called(c callosum.Call) {
	w.mu.Lock()
	w.calls = append(w.calls, c)
	hold := w.hold
	w.mu.Unlock()
	if c.Method == callosum.MethodDestroyKernel && hold != nil {
		<-hold
	}
}

// holdDestroys keeps the agent from ending kernels until letDestroy.
func (w *world) holdDestroys() {
	w.mu.Lock()
	defer w.mu.Unlock()
	hold := make(chan struct{})
	w.hold = hold
	w.letDestroy = sync.OnceFunc(func() { close(hold) })
	w.Cleanup(w.letDestroy)
}

// terminate has a session ended by an event, as idle ones are.
func (w *world) terminate(name string) {
	w.Helper()
	var id uuid.UUID
	if err := w.pool.QueryRow(w.Context(), `SELECT session_id FROM kernels WHERE session_name = $1`, name).Scan(&id); err != nil {
		w.Fatal(err)
	}
	if err := w.producer.Publish(event.DoTerminateSession{Session: backendai.SessionID{UUID: id}, Reason: "idle-timeout"}, redis.SourceManager); err != nil {
		w.Fatal(err)
	}
}

// leaveLog puts a container's log where agents do.
func (w *world) leaveLog(container string, log []byte) {
	key := "containerlog." + container
	if err := w.stream.Do(context.Background(), w.stream.B().Rpush().Key(key).Element(string(log)).Build()).Error(); err != nil {
		w.Error(err)
	}
}

// until waits for a question to the database to be answered with true.
func (w *world) until(what, sql string, args ...any) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		if err := w.pool.QueryRow(ctx, sql, args...).Scan(&yes); err != nil {
			w.Fatalf("%s: %v", what, err)
		}
		if yes {
			return
		}
		<-tick.C
	}
}

// frames are the recorded calls by method.
func frames(t *testing.T) map[string]golden.Call {
	t.Helper()
	return golden.LoadCalls(t, "testdata/rpc-frames.json")
}

// recordedConfig is the creation config of the recorded kernel.
func recordedConfig(t *testing.T) map[string]any {
	t.Helper()
	return frames(t)["create_kernels"].Args[3].([]any)[0].(map[string]any)
}
