package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	backendai "backend.ai/manager"
	agentimages "backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/backend.ai/client"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config"
	"backend.ai/manager/config/logging"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/postgres/live"
	"backend.ai/manager/persistence/postgres/schema"
	"backend.ai/manager/persistence/redis"
)

const (
	// readyTime bounds how long the agents and a first session may take: generous, because machines are busy.
	readyTime    = 2 * time.Minute
	accountsFile = "accounts.txt"
	poll         = 50 * time.Millisecond
)

// Options say what to run. Dir, Addr, Agents and Namespace must be set.
type Options struct {
	Dir, Addr string
	Agents    int
	// Postgres, Redis and Etcd name real servers; empty: run one here.
	Postgres, Redis, Etcd string
	Namespace             string
	Check                 bool
	KeepSessions          bool
	Debug                 bool
}

// Cluster is everything that runs.
//
//	New ── Start ──▶ serving ── Stop ──▶ ended
//	                    └─ (a store dies) ─▶ failed gets the reason
type Cluster struct {
	o        Options
	progress *progress
	failed   chan error

	dir     *directory
	log     *slog.Logger
	cfg     *config.Manager
	stores  stores
	agents  *agents
	account *fixture.Account // the administrator's, unless the database had others before

	mu    sync.Mutex
	stops []stop // in the order of starting
}

type stop struct {
	name string
	do   func(context.Context) error
}

// New makes a cluster; nothing runs before Start.
func New(o Options, p *progress) *Cluster {
	return &Cluster{o: o, progress: p, failed: make(chan error, 1)}
}

func (c *Cluster) onStop(name string, do func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, stop{name, do})
}

// fail tells that a part ended by itself; the first one counts.
func (c *Cluster) fail(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

// Endpoint is the API's URL as programs of this machine reach it.
func (c *Cluster) Endpoint() string {
	host := c.cfg.Service.Addr.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(c.cfg.Service.Addr.Port))
}

// Start brings everything up and returns when sessions can be started. After an error, what had been started is still to be stopped.
func (c *Cluster) Start(ctx context.Context) error {
	program, err := findAgent()
	if err != nil {
		return err
	}
	if c.dir, err = openDirectory(c.o.Dir); err != nil {
		return err
	}
	c.onStop("data directory", func(context.Context) error { c.dir.close(); return nil })
	if err := c.configure(); err != nil {
		return err
	}
	if err := c.startStores(ctx); err != nil {
		return err
	}
	pool, err := postgres.Connect(ctx, postgres.Config{
		Addr: c.cfg.DB.Addr.String(), Name: c.cfg.DB.Name, User: c.cfg.DB.User, Password: c.cfg.DB.Password.Reveal(), AppName: "backend.ai-up", MaxConns: 3, Patience: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := c.fill(ctx, pool); err != nil {
		return err
	}
	c.progress.Say("Starting the manager")
	var parts errgroup.Group
	parts.Go(func() error { return c.startAgents(program) })
	parts.Go(func() error { return c.startManager(ctx) })
	if err := parts.Wait(); err != nil {
		return err
	}
	c.progress.Say("Waiting for " + agentsText(c.o.Agents))
	offered, err := c.awaitAgents(ctx, pool)
	if err != nil {
		return err
	}
	return fillCatalog(ctx, pool, offered, c.stores.postgres == nil)
}

func agentsText(n int) string {
	if n == 1 {
		return "the agent"
	}
	return fmt.Sprintf("%d agents", n)
}

// configure decides about names and ports, and opens the log.
func (c *Cluster) configure() error {
	d := c.dir
	if _, err := d.mkdir("logs"); err != nil {
		return err
	}
	host, portText, err := net.SplitHostPort(c.o.Addr)
	port, numberErr := strconv.Atoi(portText)
	if err != nil || numberErr != nil || host == "" || port < 0 || port > 65535 {
		return backendai.Errorf(backendai.InvalidUsage, "Invalid value for '--addr': '%s' is no HOST:PORT.", c.o.Addr)
	}
	if port == 0 {
		if port, err = d.port("api"); err != nil {
			return err
		}
	}
	service := config.HostPort{Host: host, Port: port}
	if l, err := net.Listen("tcp", service.String()); err != nil {
		return backendai.Errorf(backendai.InvalidConfig, "the API can't be served at %s: %v; choose another address with --addr", service, err)
	} else if err := l.Close(); err != nil {
		return err
	}
	name := "i-" + d.state.Name
	c.cfg = &config.Manager{
		Etcd: config.Etcd{Namespace: c.o.Namespace},
		Service: config.Service{
			ID: name, IDGiven: true, Addr: service, NumProc: 1, HeartbeatTimeout: 15 * time.Second, Secret: config.NewSecret(d.state.Secret), SecretGiven: true,
			ImporterImage: "lablup/importer:manylinux2010", MaxWSMessage: 16 << 20, EventLoop: "asyncio", DistributedLock: "pg_advisory", AIOMonitorPort: 50100,
		},
		Actors: config.Actors{
			NodeName: name, Shards: 64, JournalWriters: config.JournalWriters(), DBConnections: 24, Lease: 3 * time.Second, DrainTimeout: 15 * time.Second, EventStreamLength: 16384,
		},
		Logging: config.Logging{
			Level: "INFO", Namespaces: map[string]config.Level{"": "WARNING", logging.Root: "INFO"},
			File: &config.File{Dir: d.file("logs"), Name: "manager.log", Backups: 5, RotationSize: 10 << 20},
		},
	}
	if c.o.Debug {
		c.cfg.SetDebug()
	}
	system, err := logging.Setup(c.cfg.Logging, nil)
	if err != nil {
		return err
	}
	c.log = system.Logger
	slog.SetDefault(c.log) // libraries, and what has no logger of its own
	c.onStop("log", func(context.Context) error { return system.Close() })
	return nil
}

// fill makes tables, first rows, shared settings and the files that tell people of them.
func (c *Cluster) fill(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := schema.Oneshot(ctx, pool, func(text string) { c.log.Info(text) }); err != nil {
		return err
	}
	first, err := fixture.Bootstrap(ctx, pool, fixture.Options{FolderHosts: []string{localFolders}, Registries: []string{imageRegistry}})
	if err != nil {
		return err
	}
	if err := c.writeAccounts(first); err != nil {
		return err
	}
	if _, err := c.dir.mkdirOpen("folders", localFolders); err != nil {
		return err
	}
	settings, err := shared.Open(ctx, shared.ConfigOf(c.cfg.Etcd))
	if err != nil {
		return err
	}
	defer func() { _ = settings.Close() }()
	if err := c.settleRedis(ctx, settings); err != nil {
		return err
	}
	return writeMissing(ctx, settings, wantedSettings(c.dir.file("folders")))
}

// writeAccounts writes the administrator's keys for clients, and passwords while they are known: at the first start only.
func (c *Cluster) writeAccounts(first fixture.Bootstrapped) error {
	var lines string
	for i, a := range first.Accounts {
		if a.Role == backendai.RoleSuperadmin && c.account == nil {
			c.account = &first.Accounts[i]
		}
		lines += fmt.Sprintf("%s\t%s\t%s\t%s\n", a.Email, a.Password.Reveal(), a.AccessKey, a.SecretKey.Reveal())
	}
	if first.Created {
		if err := c.dir.write(accountsFile, "# email, password, access key, secret key\n"+lines, true); err != nil {
			return err
		}
	}
	if c.account == nil {
		return nil
	}
	// For a shell to source; the last line exports what an assignment alone would keep to the shell.
	return c.dir.write(client.EnvFile, fmt.Sprintf("BACKEND_ENDPOINT=%s\nBACKEND_ENDPOINT_TYPE=api\nBACKEND_ACCESS_KEY=%s\nBACKEND_SECRET_KEY=%s\n"+
		"export BACKEND_ENDPOINT BACKEND_ENDPOINT_TYPE BACKEND_ACCESS_KEY BACKEND_SECRET_KEY\n",
		c.Endpoint(), c.account.AccessKey, c.account.SecretKey.Reveal()), true)
}

func (c *Cluster) startManager(ctx context.Context) error {
	if err := c.writeConfig(); err != nil {
		return err
	}
	s := server.New(c.cfg, c.log)
	if err := s.Start(ctx); err != nil {
		return err
	}
	c.onStop("manager", s.Stop)
	return nil
}

func (c *Cluster) startAgents(program string) error {
	c.agents = &agents{program: program, dir: c.dir, log: c.log, quit: make(chan struct{}), env: agentEnvironment(c.cfg.Etcd.Password.Reveal())}
	for _, a := range c.cfg.Etcd.Addrs {
		c.agents.args = append(c.agents.args, "--etcd", a.String())
	}
	c.agents.args = append(c.agents.args, "--namespace", c.cfg.Etcd.Namespace)
	if c.o.Debug {
		c.agents.args = append(c.agents.args, "--log-level", "debug")
	}
	for n := 1; n <= c.o.Agents; n++ {
		if _, err := c.agents.prepare(n, c.o.Agents, fixture.FirstScalingGroup, c.cfg.Etcd.User); err != nil {
			return fmt.Errorf("agent %d: %w", n, err)
		}
	}
	return nil
}

// awaitAgents returns when the manager has heard of every agent since it was started, with the images they offer.
func (c *Cluster) awaitAgents(ctx context.Context, pool *pgxpool.Pool) ([]agentimages.Image, error) {
	settings, err := shared.Open(ctx, shared.ConfigOf(c.cfg.Etcd))
	if err != nil {
		return nil, err
	}
	defer func() { _ = settings.Close() }()
	place, err := c.redisPlace(ctx, settings)
	if err != nil {
		return nil, err
	}
	set, err := redis.Open(ctx, place)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	local := agentimages.Detect(ctx, false)
	names := make([]string, len(local))
	for i, image := range local {
		names[i] = image.Canonical()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, errors.New("the agents did not get ready in time"))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		waiting, err := c.missing(ctx, pool, set)
		if err != nil {
			return nil, err
		}
		if waiting == nil {
			has, err := set.ImageAgents(ctx, names)
			if err != nil {
				return nil, err
			}
			// What the agents can't reach they do not tell of.
			offered := slices.DeleteFunc(slices.Clone(local), func(i agentimages.Image) bool { return len(has[i.Canonical()]) == 0 })
			if len(offered) > 0 || len(local) == 0 {
				return offered, nil
			}
		} else if err := waiting.ended(); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case err := <-c.failed:
			return nil, err
		case <-ctx.Done():
			if waiting != nil && !errors.Is(ctx.Err(), context.Canceled) {
				return nil, fmt.Errorf("%w: %s; its log %s ends with: %s", context.Cause(ctx), waiting.id, waiting.logs, tail(waiting.logs))
			}
			return nil, ctx.Err()
		}
	}
}

// missing is the first agent that the manager has not heard of yet; nil when there is none. Rows alone may be of an earlier run.
func (c *Cluster) missing(ctx context.Context, pool *pgxpool.Pool, set *redis.Set) (*agent, error) {
	seen, err := set.LastSeen(ctx)
	if err != nil {
		return nil, err
	}
	all, err := live.Agents(ctx, pool, func(string) string { return "0" }, []int32{0})
	if err != nil {
		return nil, postgres.AsError(err)
	}
	for _, a := range c.agents.running {
		alive := false
		for _, row := range all {
			alive = alive || row.ID == a.id && row.Status == backendai.AgentAlive && row.Addr == a.addr
		}
		if _, since := a.present(); !alive || !seen[backendai.AgentID(a.id)].After(since) {
			return a, nil
		}
	}
	return nil, nil
}

// Stop ends everything in the reverse order, each part within what ctx leaves; agents and their kernels first.
func (c *Cluster) Stop(ctx context.Context) error {
	if c.agents != nil {
		text := "Ending sessions and stopping"
		if c.o.KeepSessions {
			text = "Stopping; sessions stay"
		}
		c.progress.Say(text)
		c.agents.stop(ctx, c.o.KeepSessions)
	}
	c.mu.Lock()
	list := c.stops
	c.stops = nil
	c.mu.Unlock()
	var errs []error
	for _, s := range slices.Backward(list) {
		if err := s.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	c.progress.Pause()
	return errors.Join(errs...)
}
