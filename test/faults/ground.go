package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/embedded"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/postgres/schema"
	redisembedded "backend.ai/manager/persistence/redis/embedded"
	"backend.ai/manager/test/ports"
)

const (
	namespace   = "faults"
	database    = "backend"
	etcdMembers = 3
	image       = "127.0.0.1:5000/stable/python:3.11-debian12"
	// The fixture's well-known keys of a superadmin.
	accessKey, secretKey = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// ground is the servers that the nodes stand on. None of them syncs to disk: what is killed is processes, not machines.
type ground struct {
	dir      string
	pgPort   int
	pg       *embedded.Server
	password string
	redis    *redisembedded.Server
	redisCfg redisembedded.Config
	etcd     []*program
	etcdAddr []string
	pool     *pgxpool.Pool  // not through a wire
	settings *shared.Client // not through a wire
}

func newGround(ctx context.Context) (g *ground, err error) {
	g = &ground{}
	if g.dir, err = os.MkdirTemp("", "faults-"); err != nil {
		return nil, err
	}
	if err = os.Chmod(g.dir, 0o755); err != nil { // the database's user must get through
		return g, err
	}
	g.pgPort = portOf(ports.Free())
	if err = g.startPG(ctx); err != nil {
		return g, err
	}
	if g.password, err = g.pg.Password(); err != nil {
		return g, err
	}
	g.redisCfg = redisembedded.Config{Dir: filepath.Join(g.dir, "redis"), Port: portOf(ports.Free())}
	if err = g.startRedis(ctx); err != nil {
		return g, err
	}
	if err = g.startEtcd(ctx); err != nil {
		return g, err
	}
	return g, g.populate(ctx)
}

func portOf(addr string) (port int) {
	_, text, _ := net.SplitHostPort(addr)
	_, _ = fmt.Sscan(text, &port)
	return port
}

func (g *ground) startPG(ctx context.Context) (err error) {
	// What was committed must have been written when a server is killed, if not to the disk.
	written := map[string]string{"synchronous_commit": "on", "full_page_writes": "on"}
	if g.pg, err = embedded.New(embedded.Config{Dir: filepath.Join(g.dir, "pg"), Port: g.pgPort, MaxConns: 300, Settings: written}); err != nil {
		return err
	}
	return g.pg.Start(ctx)
}

// restartPG stops PostgreSQL in one of its modes and starts it again.
func (g *ground) restartPG(ctx context.Context, immediately bool) error {
	if immediately {
		text, err := os.ReadFile(filepath.Join(g.dir, "pg", "data", "postmaster.pid"))
		if err != nil {
			return err
		}
		var pid int
		if _, err := fmt.Sscan(string(text), &pid); err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
			return err
		}
		<-g.pg.Done()
	} else if err := g.pg.Stop(ctx); err != nil {
		return err
	}
	return g.startPG(ctx)
}

func (g *ground) startRedis(ctx context.Context) (err error) {
	if g.redis, err = redisembedded.New(g.redisCfg); err != nil {
		return err
	}
	return g.redis.Start(ctx)
}

func (g *ground) startEtcd(ctx context.Context) error {
	var peers, cluster []string
	for i := range etcdMembers {
		g.etcdAddr = append(g.etcdAddr, ports.Free())
		peers = append(peers, ports.Free())
		cluster = append(cluster, fmt.Sprintf("e%d=http://%s", i+1, peers[i]))
	}
	for i := range etcdMembers {
		name := fmt.Sprintf("e%d", i+1)
		p := newProgram(g.dir, "etcd-"+name, "etcd", "--name", name, "--data-dir", filepath.Join(g.dir, "etcd-data-"+name), "--listen-client-urls", "http://"+g.etcdAddr[i],
			"--advertise-client-urls", "http://"+g.etcdAddr[i], "--listen-peer-urls", "http://"+peers[i], "--initial-advertise-peer-urls", "http://"+peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-token", filepath.Base(g.dir), "--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn")
		if err := p.Start(); err != nil {
			return err
		}
		g.etcd = append(g.etcd, p)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		c, err := shared.Open(ctx, shared.Config{Endpoints: g.etcdAddr, Namespace: namespace})
		if err == nil {
			g.settings = c
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (g *ground) database() postgres.Config {
	return postgres.Config{Addr: g.pg.TCPAddr(), Name: database, User: embedded.Superuser, Password: g.password, AppName: "faults", MaxConns: 8}
}

func (g *ground) populate(ctx context.Context) error {
	for key, value := range map[string]string{"config/docker/registry/127.0.0.1%3A5000": "http://127.0.0.1:5000", "volumes/_types/user": "", "config/redis/addr": g.redis.Addr()} {
		if _, err := g.settings.Put(ctx, key, value, shared.Global); err != nil {
			return err
		}
	}
	if err := g.pg.EnsureDatabase(ctx, database); err != nil {
		return err
	}
	var err error
	if g.pool, err = postgres.Connect(ctx, g.database()); err != nil {
		return err
	}
	if _, err := schema.Oneshot(ctx, g.pool, func(string) {}); err != nil {
		return err
	}
	text, err := os.ReadFile("test/load/testdata/fixture.json")
	if err != nil {
		return fmt.Errorf("%w (run this at the top of the project)", err)
	}
	if _, err := fixture.Populate(ctx, g.pool, bytes.NewReader(text)); err != nil {
		return err
	}
	_, err = g.pool.Exec(ctx, `INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
 VALUES ($1, 'stable/python', '3.11-debian12', '127.0.0.1:5000', 'x86_64', 'sha256:00', 1, 'COMPUTE', '{"ai.backend.service-ports": ""}', '{"cpu": {"min": "1"}, "mem": {"min": "128m"}}')`, image)
	return err
}

func (g *ground) stop(keep bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if g.settings != nil {
		_ = g.settings.Close()
	}
	if g.pool != nil {
		g.pool.Close()
	}
	for _, p := range g.etcd {
		p.Stop(syscall.SIGKILL, time.Second)
	}
	if g.redis != nil {
		_ = g.redis.Stop(ctx)
	}
	if g.pg != nil {
		_ = g.pg.Stop(ctx)
	}
	if !keep && g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}
