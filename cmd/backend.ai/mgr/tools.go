package mgr

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"backend.ai/manager/config"
	"backend.ai/manager/config/logging"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/redis"
)

// tools is what a command works with. What it asks for is opened then, and closed by close.
type tools struct {
	cfg     *config.Manager
	log     *slog.Logger
	closers []func()
}

// open reads the configuration. Logs of a command go to stderr only: the manager's own log file is none of its business.
func (o *options) open(cmd *cobra.Command) (*tools, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	l := cfg.Logging
	l.File, l.Logstash = nil, nil
	if l.Console == nil {
		l.Console = &config.Console{}
	}
	system, err := logging.Setup(l, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	return &tools{cfg: cfg, log: system.Logger, closers: []func(){func() { _ = system.Close() }}}, nil
}

func (t *tools) close() {
	for i := len(t.closers) - 1; i >= 0; i-- {
		t.closers[i]()
	}
}

// etcd connects to the shared settings; group and agent are for the narrower scopes.
func (t *tools) etcd(ctx context.Context, group, agent string) (*shared.Client, error) {
	c := shared.ConfigOf(t.cfg.Etcd)
	c.ScalingGroup, c.Agent = group, agent
	client, err := shared.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, func() { _ = client.Close() })
	return client, nil
}

// databaseOf takes the table [db] of manager.toml.
func databaseOf(db config.DB) postgres.Config {
	return postgres.Config{Addr: db.Addr.String(), Name: db.Name, User: db.User, Password: db.Password.Reveal(), AppName: "backend.ai-mgr", MaxConns: 4}
}

// database connects to the manager's database.
func (t *tools) database(ctx context.Context) (*pgxpool.Pool, error) {
	return t.connect(ctx, databaseOf(t.cfg.DB))
}

func (t *tools) connect(ctx context.Context, c postgres.Config) (*pgxpool.Pool, error) {
	pool, err := postgres.Connect(ctx, c)
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, pool.Close)
	return pool, nil
}

// redisConfig asks the shared settings where Redis is.
func (t *tools) redisConfig(ctx context.Context) (redis.Config, error) {
	client, err := t.etcd(ctx, "", "")
	if err != nil {
		return redis.Config{}, err
	}
	settings := shared.NewSettings(client, t.log)
	if err := settings.Start(ctx); err != nil {
		return redis.Config{}, err
	}
	defer settings.Stop()
	return redis.ConfigOf(settings.Current().Redis), nil
}

// redis connects to Redis.
func (t *tools) redis(ctx context.Context) (*redis.Set, error) {
	c, err := t.redisConfig(ctx)
	if err != nil {
		return nil, err
	}
	c.Patience = c.Timeout + patience
	set, err := redis.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, set.Close)
	return set, nil
}

// run makes a cobra function of one that works with tools.
func (o *options) run(do func(ctx context.Context, t *tools, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		t, err := o.open(cmd)
		if err != nil {
			return err
		}
		defer t.close()
		return do(cmd.Context(), t, cmd, args)
	}
}
