package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/node"
	"backend.ai/manager/actors/overlay"
	"backend.ai/manager/actors/store"
	"backend.ai/manager/actors/webhook"
	"backend.ai/manager/api"
	"backend.ai/manager/api/graphql"
	"backend.ai/manager/api/inspect"
	restauth "backend.ai/manager/api/rest/auth"
	"backend.ai/manager/api/rest/health"
	"backend.ai/manager/api/rest/hello"
	restmanager "backend.ai/manager/api/rest/manager"
	restresource "backend.ai/manager/api/rest/resource"
	"backend.ai/manager/api/rest/scalinggroup"
	restsession "backend.ai/manager/api/rest/session"
	"backend.ai/manager/api/stream"
	"backend.ai/manager/cluster"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/schema"
	"backend.ai/manager/persistence/postgres/shards"
	"backend.ai/manager/persistence/redis"
)

// patience is how long the start waits for stores that do not answer yet.
const patience = 30 * time.Second

// Server is one manager process.
//
//	New ── Start ──▶ serving ── Stop ──▶ stopped
type Server struct {
	cfg *config.Manager
	log *slog.Logger

	api   *api.Server
	etcd  *shared.Client // for the cluster's own keys
	node  *node.Node
	stops []stop // in the order of starting
}

// stop ends one part of the server.
type stop struct {
	name string
	do   func(context.Context) error
}

// New makes a server; nothing runs before Start.
func New(cfg *config.Manager, log *slog.Logger) *Server { return &Server{cfg: cfg, log: log} }

// Addr is where the API listens.
func (s *Server) Addr() net.Addr { return s.api.Addr() }

// Node holds the server's actors.
func (s *Server) Node() *node.Node { return s.node }

func (s *Server) onStop(name string, do func(context.Context) error) {
	s.stops = append(s.stops, stop{name, do})
}

// Start brings everything up and returns when requests are answered and the shards are owned. When a part fails, those
// before it are stopped. Errors: InvalidConfig, ServiceUnavailable.
func (s *Server) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = s.Stop(stopping)
		}
	}()
	settings, err := s.startSettings(ctx)
	if err != nil {
		return err
	}
	pool, err := s.startDatabase(ctx)
	if err != nil {
		return err
	}
	set, err := redis.Open(ctx, withPatience(redis.ConfigOf(settings.Current().Redis)))
	if err != nil {
		return err
	}
	s.onStop("redis", func(context.Context) error { set.Close(); return nil })

	listener := changes.NewListener(pool)
	people := accounts.New(pool, listener)
	sharedSettings := store.NewShared(settings)
	rows := store.New(pool, sharedSettings, s.log)
	facts := store.NewFacts(pool, sharedSettings, people, rows, listener)
	usage := accounts.NewUsage(accounts.SaveUsage(pool), countQueries(set))
	if err := s.startLongLived(ctx, "listener", listener.Start, listener.Stop); err != nil {
		return err
	}
	if err := s.startLongLived(ctx, "usage", usage.Start, usage.Stop); err != nil {
		return err
	}
	failures := newErrorLog(pool, s.log)
	s.onStop("error log", func(context.Context) error { failures.stop(); return nil })
	if err := s.startNode(ctx, pool, set, sharedSettings, rows, failures); err != nil {
		return err
	}
	listener.Subscribe(s.node.PoliciesChanged, "scaling_groups") // what has changed before is found by the schedulers' own timers
	s.api = api.New(api.Config{
		Addr: s.cfg.Service.Addr.String(), CertFile: s.certFile(), KeyFile: s.keyFile(), Debug: s.cfg.Debug.Enabled,
	}, api.Deps{
		Credentials: people, Used: usage.Note, RateLimiter: limiter{set}, Failed: failures.Failed,
		Status: func() api.Status { return api.Status(settings.Current().Status) },
	})
	s.api.Mount("", hello.Hello{})
	s.api.Mount("/auth", restauth.New(people, api.Hooks{}))
	s.api.Mount("/session", restsession.New(s.node, pool, people, facts))
	s.api.Mount("/admin", graphql.New(pool, graphql.Deps{Live: set, Why: s.why(pool), HideAgents: func() bool { return s.cfg.Service.HideAgents }, Architecture: store.HostArchitecture()}))
	s.api.Mount("/stream", stream.New(s.node, pool, people, s.cfg.Service.MaxWSMessage))
	s.api.Mount("/inspect", inspect.New(s.node, rows.ScalingGroups))
	s.api.Mount("/manager", restmanager.New(s.managerDeps(settings, pool)))
	s.api.Mount("/resource", restresource.New(facts, s.node))
	s.api.Mount("/scaling-groups", scalinggroup.New(facts))
	s.api.Mount("/health", health.New(s.unready))
	if err := s.startLongLived(ctx, "api", s.api.Start, s.api.Stop); err != nil {
		return err
	}
	if err := s.announce(ctx, settings); err != nil {
		return err
	}
	s.onStop("hand-over", s.drain)
	return nil
}

func withPatience(c redis.Config) redis.Config {
	c.Patience = patience
	return c
}

func (s *Server) certFile() string {
	if s.cfg.Service.SSL {
		return s.cfg.Service.SSLCert
	}
	return ""
}

func (s *Server) keyFile() string {
	if s.cfg.Service.SSL {
		return s.cfg.Service.SSLKey
	}
	return ""
}

func (s *Server) startLongLived(ctx context.Context, name string, start, stop func(context.Context) error) error {
	if err := start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.onStop(name, stop)
	return nil
}

// startSettings opens etcd and follows the shared settings.
func (s *Server) startSettings(ctx context.Context) (*shared.Settings, error) {
	client, err := shared.Open(ctx, shared.ConfigOf(s.cfg.Etcd))
	if err != nil {
		return nil, err
	}
	s.onStop("etcd", func(context.Context) error { return client.Close() })
	settings := shared.NewSettings(client, s.log)
	if err := settings.Start(ctx); err != nil {
		return nil, err
	}
	s.onStop("settings", func(context.Context) error { settings.Stop(); return nil })
	// At the start someone is there to mend a bad value; later ones are logged, and the last good value stays.
	if bad := settings.Current().Warnings; len(bad) > 0 {
		return nil, backendai.Errorf(backendai.InvalidConfig, "etcd: %s", bad[0])
	}
	return settings, nil
}

// startDatabase connects and checks that the schema is there.
func (s *Server) startDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := s.connect(ctx, "database", s.cfg.Actors.DBConnections, 0)
	if err != nil {
		return nil, err
	}
	state, err := schema.Status(ctx, pool)
	if err != nil {
		return nil, err
	}
	return pool, state.Check()
}

// connect opens a pool of connections to the database.
func (s *Server) connect(ctx context.Context, name string, most int, idle time.Duration) (*pgxpool.Pool, error) {
	pool, err := postgres.Connect(ctx, postgres.Config{
		Addr: s.cfg.DB.Addr.String(), Name: s.cfg.DB.Name, User: s.cfg.DB.User, Password: s.cfg.DB.Password.Reveal(),
		MaxConns: int32(most), Patience: patience, IdleTimeout: idle,
	})
	if err == nil {
		s.onStop(name, func(context.Context) error { pool.Close(); return nil })
	}
	return pool, err
}

// ledger raises epochs in the database in this node's name.
type ledger struct {
	pool  *pgxpool.Pool
	owner string
}

func (l ledger) Take(ctx context.Context, list []int32) (map[int32]int64, error) {
	return shards.Take(ctx, l.pool, list, l.owner)
}

func (l ledger) Epochs(ctx context.Context, list []int32) (map[int32]int64, error) {
	return shards.Epochs(ctx, l.pool, list)
}

// startNode starts the journal, the actors and the flow of events.
func (s *Server) startNode(ctx context.Context, pool *pgxpool.Pool, set *redis.Set, settings store.Shared, rows *store.Store, failures *errorLog) error {
	count, err := shards.Ensure(ctx, pool, s.cfg.Actors.Shards)
	if err != nil {
		return err
	}
	if want := s.cfg.Actors.Shards; want != count && want != cluster.DefaultShards { // the default is what nobody has asked for
		return backendai.Errorf(backendai.InvalidConfig, "actors.shards = %d, but this cluster has %d shards since its first start, and that can't be changed: say %d, or nothing.", want, count, count)
	}
	id, err := shards.ClusterID(ctx, pool)
	if err != nil {
		return err
	}
	if s.etcd, err = shared.Open(ctx, shared.ConfigOf(s.cfg.Etcd)); err != nil {
		return err
	}
	s.onStop("cluster's etcd", func(context.Context) error { return s.etcd.Close() })
	producer := redis.NewProducer(set, redis.ProducerConfig{}, s.log)
	producer.Start()
	s.onStop("producer", func(ctx context.Context) error { producer.Stop(ctx); return nil })
	volatile := newLive(set, s.log)
	s.onStop("live state", func(context.Context) error { volatile.stop(); return nil })
	hooks := webhook.NewSender(s.log)
	s.onStop("web hooks", func(context.Context) error { hooks.Stop(); return nil })
	// A pool of its own: what actors write never waits behind what requests read.
	writing, err := s.connect(ctx, "journal's database", s.cfg.Actors.JournalWriters, journal.IdleTimeout)
	if err != nil {
		return err
	}
	writer := journal.New(writing, journal.Config{Writers: s.cfg.Actors.JournalWriters}, s.log)
	writer.Start()
	s.onStop("journal", func(context.Context) error { writer.Stop(); return nil })
	s.node = node.New(node.Config{
		Name: s.cfg.Actors.NodeName, Shards: count, HeartbeatTimeout: s.cfg.Service.HeartbeatTimeout, Debug: s.cfg.Debug.Enabled, Log: s.log,
		SchedulerRecord: s.cfg.Actors.SchedulerRecord,
		Ledger:          ledger{pool, s.cfg.Actors.NodeName}, Journal: writer, Store: rows, Bus: bus{producer, s.log}, Live: volatile,
		Hooks: hooks, Networks: overlay.New(overlay.DefaultSocket), Errors: failures, Registries: settings.Registries,
		Links: callosum.ClientConfig{Logger: s.log}, Company: company(s.cfg, s.etcd.Etcd(), id, count, s.log),
	})
	if err := s.node.Start(ctx); err != nil {
		return err
	}
	s.onStop("actors", s.node.Stop)
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.node.Ready(ready); err != nil {
		return backendai.Errorf(backendai.ServiceUnavailable, "The shards could not be taken; see the log.").WithCause(err)
	}
	consumer := redis.NewConsumer(set, redis.ConsumerConfig{Name: redis.ConsumerName(s.cfg.Service.ID), MaxLen: int64(s.cfg.Actors.EventStreamLength)}, s.node.HandleEvent, s.log)
	if err := consumer.Start(ctx); err != nil {
		return err
	}
	s.onStop("consumer", func(context.Context) error { consumer.Stop(); return nil })
	return nil
}

// announce tells agents that a manager is there: they wait for it (spec/config-cli-ops §3.5).
func (s *Server) announce(ctx context.Context, settings *shared.Settings) error {
	if settings.Current().Status != shared.Running && settings.Current().Status != shared.Frozen {
		if err := settings.Put(ctx, "manager/status", string(shared.Running)); err != nil {
			return err
		}
	}
	key := shared.Join("nodes", "manager", s.cfg.Service.ID)
	if _, err := s.etcd.Put(ctx, key, "up", shared.Global); err != nil {
		return err
	}
	s.onStop("registration", func(ctx context.Context) error {
		_, err := s.etcd.Delete(ctx, key, shared.Global)
		return err
	})
	s.log.Info("started handling API requests", "addr", s.api.Addr().String(), "node", s.cfg.Actors.NodeName)
	return nil
}

// Stop ends everything in the reverse order, each part within what ctx leaves.
func (s *Server) Stop(ctx context.Context) error {
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		if err := s.stops[i].do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.stops[i].name, err))
		}
	}
	s.stops = nil
	return errors.Join(errs...)
}

// why asks schedulers why sessions wait, for GraphQL.
func (s *Server) why(pool *pgxpool.Pool) func(context.Context, uuid.UUID, bool, bool) (json.RawMessage, error) {
	return func(ctx context.Context, session uuid.UUID, all, brief bool) (json.RawMessage, error) {
		w, err := restsession.Why(ctx, s.node, pool, session, all, brief)
		if err != nil || w.Status != backendai.Pending { // it has started meanwhile
			return nil, err
		}
		return json.Marshal(w)
	}
}
