package up

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sync/errgroup"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
	pgembedded "backend.ai/manager/persistence/postgres/embedded"
	"backend.ai/manager/persistence/redis"
	redisembedded "backend.ai/manager/persistence/redis/embedded"
)

// databaseName is the database of an embedded server.
const databaseName = "backend"

// stores are those that run here; nil for what is elsewhere.
type stores struct {
	etcd     *embed.Etcd
	postgres *pgembedded.Server
	redis    *redisembedded.Server
}

// startStores starts what is not given, all at once, and fills the configuration in.
func (c *Cluster) startStores(ctx context.Context) error {
	var starting errgroup.Group
	starting.Go(func() error { return c.useEtcd(ctx) })
	starting.Go(func() error { return c.usePostgres(ctx) })
	// With a foreign etcd, its tree says where Redis is; see settleRedis.
	if c.o.Redis == "" && c.o.Etcd == "" {
		starting.Go(func() error { return c.runRedis(ctx) })
	}
	return starting.Wait()
}

func (c *Cluster) useEtcd(ctx context.Context) error {
	if c.o.Etcd != "" {
		addrs, err := config.ParseHostPorts(c.o.Etcd)
		if err != nil || len(addrs) == 0 {
			return backendai.Errorf(backendai.InvalidUsage, "Invalid value for '--etcd': '%s' is no HOST:PORT, nor a list of them.", c.o.Etcd)
		}
		c.cfg.Etcd.Addrs, c.cfg.Etcd.User, c.cfg.Etcd.Password = addrs, os.Getenv("BACKEND_ETCD_USER"), config.NewSecret(os.Getenv("BACKEND_ETCD_PASSWORD"))
		return nil
	}
	dir, err := c.dir.mkdir("etcd")
	if err != nil {
		return err
	}
	port, err := c.dir.port("etcd")
	if err != nil {
		return err
	}
	peer, err := c.dir.port("etcd-peer")
	if err != nil {
		return err
	}
	e, err := startEtcd(ctx, dir, c.dir.file("logs"), port, peer)
	if err != nil {
		return err
	}
	c.stores.etcd = e
	c.cfg.Etcd.Addrs = []config.HostPort{{Host: "127.0.0.1", Port: port}}
	stopping := make(chan struct{})
	c.onStop("etcd", func(context.Context) error { close(stopping); e.Close(); return nil })
	go func() {
		select {
		case err := <-e.Err():
			c.fail(fmt.Errorf("etcd ended by itself: %w", err))
		case <-stopping:
		}
	}()
	return nil
}

func (c *Cluster) usePostgres(ctx context.Context) error {
	if c.o.Postgres != "" {
		db, err := parseDatabase(c.o.Postgres, os.Getenv)
		c.cfg.DB = db
		return err
	}
	port, err := c.dir.port("postgres")
	if err != nil {
		return err
	}
	s, err := pgembedded.New(pgembedded.Config{Dir: c.dir.file("postgres"), Port: port, Fsync: true, Log: c.log, Progress: c.progress.Say})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	c.stores.postgres = s
	c.onStop("PostgreSQL", s.Stop)
	go func() {
		<-s.Done()
		if err := s.Err(); err != nil {
			c.fail(err)
		}
	}()
	if err := s.EnsureDatabase(ctx, databaseName); err != nil {
		return err
	}
	password, err := s.Password()
	if err != nil {
		return err
	}
	c.cfg.DB = config.DB{Addr: config.HostPort{Host: "127.0.0.1", Port: port}, Name: databaseName, User: pgembedded.Superuser, Password: config.NewSecret(password)}
	return nil
}

// parseDatabase reads postgresql://user:password@host:port/name; what is left out comes from PGPASSWORD and the usual defaults. Errors:
// InvalidUsage, never with the password.
func parseDatabase(text string, getenv func(string) string) (config.DB, error) {
	bad := backendai.Errorf(backendai.InvalidUsage, "Invalid value for '--postgres': it must be a URL of the form postgresql://user:password@host:port/name.")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgresql" && u.Scheme != "postgres" || u.User.Username() == "" {
		return config.DB{}, bad
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	addr, err := config.ParseHostPort(net.JoinHostPort(u.Hostname(), port))
	name := strings.Trim(u.Path, "/")
	if err != nil || u.Hostname() == "" || name == "" {
		return config.DB{}, bad
	}
	password, ok := u.User.Password()
	if !ok {
		password = getenv("PGPASSWORD")
	}
	return config.DB{Addr: addr, Name: name, User: u.User.Username(), Password: config.NewSecret(password)}, nil
}

func (c *Cluster) runRedis(ctx context.Context) error {
	dir, err := c.dir.mkdir("redis")
	if err != nil {
		return err
	}
	s, err := redisembedded.New(redisembedded.Config{Dir: dir, Password: c.dir.state.RedisPassword, Log: c.log})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	c.stores.redis = s
	stopping := make(chan struct{})
	c.onStop("Redis", func(ctx context.Context) error { close(stopping); return s.Stop(ctx) })
	go func() {
		select {
		case <-s.Done():
			select {
			case <-stopping:
			default:
				c.fail(fmt.Errorf("the embedded Redis ended by itself; its log is %s", filepath.Join(dir, "log")))
			}
		case <-stopping:
		}
	}()
	return nil
}

// settleRedis makes the shared settings name the Redis to use: the one that was given, else the one that a foreign tree names already,
// else our own.
func (c *Cluster) settleRedis(ctx context.Context, settings *shared.Client) error {
	if c.o.Redis != "" {
		addr, password, err := parseRedis(c.o.Redis, os.Getenv)
		if err != nil {
			return err
		}
		return writeRedis(ctx, settings, addr.String(), password)
	}
	if c.stores.redis == nil {
		tree, err := settings.GetPrefix(ctx, "config/redis/", shared.Global)
		if err != nil {
			return err
		}
		if tree.Text("", "addr") != "" || tree.Text("", "sentinel") != "" {
			return nil
		}
		if err := c.runRedis(ctx); err != nil {
			return err
		}
	}
	return writeRedis(ctx, settings, c.stores.redis.Addr(), c.dir.state.RedisPassword)
}

// parseRedis reads host:port or redis://:password@host:port; a password may come from REDISCLI_AUTH instead.
func parseRedis(text string, getenv func(string) string) (addr config.HostPort, password string, err error) {
	bad := backendai.Errorf(backendai.InvalidUsage, "Invalid value for '--redis': it must be host:port or redis://:password@host:port.")
	password = getenv("REDISCLI_AUTH")
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "redis" || strings.Trim(u.Path, "/") != "" {
			return addr, "", bad
		}
		if p, ok := u.User.Password(); ok {
			password = p
		}
		text = u.Host
	}
	if addr, err = config.ParseHostPort(text); err != nil {
		return addr, "", bad
	}
	return addr, password, nil
}

// redisPlace is where the shared settings say that Redis is.
func (c *Cluster) redisPlace(ctx context.Context, client *shared.Client) (redis.Config, error) {
	settings := shared.NewSettings(client, c.log)
	if err := settings.Start(ctx); err != nil {
		return redis.Config{}, err
	}
	defer settings.Stop()
	return redis.ConfigOf(settings.Current().Redis), nil
}
