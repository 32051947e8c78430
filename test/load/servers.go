package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/embedded"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/postgres/schema"
	redisembedded "backend.ai/manager/persistence/redis/embedded"
	"backend.ai/manager/test/ports"
)

// ground is the real servers that a manager is measured on: PostgreSQL with fsync, Redis, etcd, each a process of its own.
type ground struct {
	dir      string
	pg       *embedded.Server
	redis    *redisembedded.Server
	etcd     *exec.Cmd
	etcdAddr string
	password string // of the database
	api      string
	manager  *exec.Cmd
}

const image = "127.0.0.1:5000/stable/python:3.11-debian12"

func newGround(ctx context.Context) (g *ground, err error) {
	g = &ground{}
	if g.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	if err = os.Chmod(g.dir, 0o755); err != nil { // the database's user must get through
		return nil, err
	}
	port, err := embedded.FreePort()
	if err != nil {
		return nil, err
	}
	if g.pg, err = embedded.New(embedded.Config{Dir: filepath.Join(g.dir, "pg"), Port: port, Fsync: true}); err != nil {
		return nil, err
	}
	if err = g.pg.Start(ctx); err != nil {
		return nil, err
	}
	if g.password, err = g.pg.Password(); err != nil {
		return nil, err
	}
	if g.redis, err = redisembedded.New(redisembedded.Config{Dir: filepath.Join(g.dir, "redis")}); err != nil {
		return nil, err
	}
	if err = g.redis.Start(ctx); err != nil {
		return nil, err
	}
	if err = g.startEtcd(ctx); err != nil {
		return nil, err
	}
	return g, g.populate(ctx)
}

func (g *ground) startEtcd(ctx context.Context) error {
	client, peer := ports.Free(), ports.Free()
	g.etcdAddr = client
	g.etcd = exec.Command("etcd", "--data-dir", filepath.Join(g.dir, "etcd"), "--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer, "--logger", "zap", "--log-level", "error")
	g.etcd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.etcd.Start(); err != nil {
		return fmt.Errorf("etcd: %w (make bench installs it)", err)
	}
	c, err := shared.Open(ctx, shared.Config{Endpoints: []string{client}, Namespace: "local"})
	if err != nil {
		return err
	}
	defer c.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := c.Put(ctx, "config/redis/addr", g.redis.Addr(), shared.Global)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	for key, value := range map[string]string{"config/docker/registry/127.0.0.1%3A5000": "http://127.0.0.1:5000", "config/resource_slots/cuda.shares": "count", "volumes/_types/user": ""} {
		if _, err := c.Put(ctx, key, value, shared.Global); err != nil {
			return err
		}
	}
	return nil
}

func (g *ground) populate(ctx context.Context) error {
	if err := g.pg.EnsureDatabase(ctx, "backend"); err != nil {
		return err
	}
	pool, err := postgres.Connect(ctx, g.database())
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := schema.Oneshot(ctx, pool, func(string) {}); err != nil {
		return err
	}
	text, err := os.ReadFile("test/load/testdata/fixture.json")
	if err != nil {
		return fmt.Errorf("%w (run this at the top of the project)", err)
	}
	if _, err := fixture.Populate(ctx, pool, bytes.NewReader(text)); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
 VALUES ($1, 'stable/python', '3.11-debian12', '127.0.0.1:5000', 'x86_64', 'sha256:00', 1, 'COMPUTE', '{"ai.backend.service-ports": ""}', '{"cpu": {"min": "1"}, "mem": {"min": "128m"}}')`, image)
	return err
}

func (g *ground) database() postgres.Config {
	return postgres.Config{Addr: g.pg.TCPAddr(), Name: "backend", User: embedded.Superuser, Password: g.password}
}

// startManager starts mgr start-server and returns how long its first answer took.
func (g *ground) startManager(binary string) (time.Duration, error) {
	g.api = ports.Free()
	_, port, _ := net.SplitHostPort(g.api)
	dbHost, dbPort, _ := net.SplitHostPort(g.pg.TCPAddr())
	etcdHost, etcdPort, _ := net.SplitHostPort(g.etcdAddr)
	text := fmt.Sprintf("[etcd]\nnamespace = \"local\"\naddr = { host = %q, port = %s }\n[db]\naddr = { host = %q, port = %s }\nname = \"backend\"\nuser = %q\npassword = %q\n[manager]\nservice-addr = { host = \"127.0.0.1\", port = %s }\n[logging]\nlevel = \"WARNING\"\ndrivers = [\"console\"]\n[logging.console]\ncolored = false\n[docker-registry]\n[debug]\n",
		etcdHost, etcdPort, dbHost, dbPort, embedded.Superuser, g.password, port)
	path := filepath.Join(g.dir, "manager.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return 0, err
	}
	g.manager = exec.Command(binary, "mgr", "start-server", "-f", path)
	g.manager.Stderr = os.Stderr
	g.manager.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := g.manager.Start(); err != nil {
		return 0, err
	}
	for time.Since(begin) < 30*time.Second {
		if resp, err := http.Get("http://" + g.api + "/"); err == nil {
			_ = resp.Body.Close()
			return time.Since(begin), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("the manager does not answer")
}

// memory is the manager's resident memory in MiB: all of it, and what is its own (the rest are pages of the program's file).
func (g *ground) memory() map[string]float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.manager.Process.Pid))
	out := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		for key, name := range map[string]string{"VmRSS:": "resident_mib", "RssAnon:": "own_mib", "VmHWM:": "peak_mib"} {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
				kib, _ := strconv.ParseFloat(f[1], 64)
				out[name] = kib / 1024
			}
		}
	}
	return out
}

func (g *ground) stop() {
	if g.manager != nil && g.manager.Process != nil {
		_ = g.manager.Process.Signal(syscall.SIGTERM)
		_ = g.manager.Wait()
	}
	if g.etcd != nil && g.etcd.Process != nil {
		_ = g.etcd.Process.Kill()
		_ = g.etcd.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if g.redis != nil {
		_ = g.redis.Stop(ctx)
	}
	if g.pg != nil {
		_ = g.pg.Stop(ctx)
	}
	_ = os.RemoveAll(g.dir)
}

// python runs load.py against pretended agents in Python, as the original was measured; nil if there is no interpreter for them.
func (g *ground) python(ctx context.Context, interpreter, scenario string, agents, count int) (map[string]any, error) {
	fake := exec.CommandContext(ctx, interpreter, "test/load/python/fake_agent.py", "--etcd", g.etcdAddr, "--agents", fmt.Sprint(agents), "--always-number",
		"--base-port", "6301", "--cpu", "1024", "--mem", "4096g", "--image", image, "--create-delay", "0.3")
	out, err := fake.StdoutPipe()
	if err != nil {
		return nil, err
	}
	fake.Stderr = os.Stderr
	fake.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := fake.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = fake.Process.Signal(syscall.SIGINT)
		_ = fake.Wait()
	}()
	first := make([]byte, 512)
	if _, err := out.Read(first); err != nil {
		return nil, err
	}
	go func() { // keep its reports from filling the pipe
		buf := make([]byte, 4096)
		for {
			if _, err := out.Read(buf); err != nil {
				return
			}
		}
	}()
	time.Sleep(4 * time.Second) // heartbeats
	load := exec.CommandContext(ctx, interpreter, "test/load/python/load.py", scenario, "--endpoint", "http://"+g.api, "--image", image, "--count", fmt.Sprint(count), "--seconds", "3")
	load.Stderr = os.Stderr
	text, err := load.Output()
	if err != nil {
		return nil, fmt.Errorf("load.py %s: %w", scenario, err)
	}
	var result map[string]any
	return result, json.Unmarshal(text, &result)
}
