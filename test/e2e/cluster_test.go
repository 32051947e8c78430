package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/redis/redistest"
	"backend.ai/manager/test/ports"
)

// programs are the built binaries.
var programs struct{ manager, agent string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "e2e-bin-")
	if err != nil {
		panic(err)
	}
	_ = os.Chmod(dir, 0o755)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "backend.ai/manager/cmd/backend.ai", "backend.ai/manager/cmd/agent")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the programs do not build:", err)
		os.Exit(1)
	}
	programs.manager, programs.agent = filepath.Join(dir, "backend.ai"), filepath.Join(dir, "agent")
	removed := func() { _ = os.RemoveAll(dir) }
	defer removed()
	dbtest.Main(m)
}

// Keys of the fixture.
const (
	adminKey, adminSecret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	userKey, userSecret   = "AKIANABBDUSEREXAMPLE", "C8qnIo29EZvXkPK_MXcuAakYTy4NYrxwmCEyNPlf"
)

// cluster is a manager with one bundled agent on servers of its own.
type cluster struct {
	*testing.T
	dir      string
	pool     *pgxpool.Pool
	db       postgres.Config
	redis    *redistest.Server
	etcd     *etcdtest.Server
	endpoint string
	config   string
	manager  *process
	agent    *process
	agentArg []string
}

// process is a program that was started; its output is kept for the case of a failure.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{T: t, dir: t.TempDir(), db: dbtest.Config(t), redis: redistest.New(t), etcd: etcdtest.New(t)}
	var err error
	if c.pool, err = postgres.Connect(t.Context(), c.db); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.pool.Close)
	c.populate()
	addr := ports.Free()
	c.endpoint = "http://" + addr
	c.writeConfig(addr)
	c.startManager()
	c.agentArg = []string{"--etcd", c.etcd.Endpoint, "--namespace", "local", "--listen", ports.Free(), "--id", "i-local",
		"--scratch-root", filepath.Join(c.dir, "scratch"), "--reserved-cpu", "0", "--reserved-mem", "0", "--cpus", "400"}
	c.startAgent()
	t.Cleanup(func() {
		c.agent.stop(t, syscall.SIGTERM)
		c.manager.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("manager:\n%s", tail(c.manager.out.String()))
			t.Logf("agent:\n%s", tail(c.agent.out.String()))
		}
	})
	return c
}

func tail(s string) string {
	if len(s) > 6000 {
		s = "…" + s[len(s)-6000:]
	}
	return s
}

// populate fills the database and the shared settings as an administrator would.
func (c *cluster) populate() {
	c.Helper()
	f, err := os.Open("testdata/fixture.json")
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	if _, err := fixture.Populate(c.Context(), c.pool, f); err != nil {
		c.Fatal(err)
	}
	detected := images.Detect(c.Context(), true)
	if len(detected) == 0 {
		c.Fatal("the machine has no interpreter that the agent could offer as an image")
	}
	for _, im := range detected {
		labels, _ := json.Marshal(im.Labels)
		resources, _ := json.Marshal(backendai.ImageLabels(im.Labels).MinResources())
		if _, err := c.pool.Exec(c.Context(), `WITH i AS (INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
 VALUES ($1, $2, $3, $4, $5, $6, 1, 'COMPUTE', $7, $8) RETURNING id) INSERT INTO image_aliases (alias, image) SELECT $9, id FROM i`,
			im.Registry+"/"+im.Name+":"+im.Tag, im.Name, im.Tag, im.Registry, im.Architecture, im.Digest, string(labels), string(resources), strings.TrimPrefix(im.Name, "stable/")); err != nil {
			c.Fatal(err)
		}
	}
	client, err := shared.Open(c.Context(), shared.Config{Endpoints: []string{c.etcd.Endpoint}, Namespace: "local"})
	if err != nil {
		c.Fatal(err)
	}
	defer client.Close()
	for key, value := range map[string]string{
		"config/redis/addr": c.redis.Addr(), "volumes/_types/user": "", "config/docker/registry/cr.backend.ai": "https://cr.backend.ai",
	} {
		if _, err := client.Put(c.Context(), key, value, shared.Global); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *cluster) writeConfig(addr string) {
	host, port, _ := net.SplitHostPort(addr)
	dbHost, dbPort, _ := net.SplitHostPort(c.db.Addr)
	etcdHost, etcdPort, _ := net.SplitHostPort(c.etcd.Endpoint)
	text := fmt.Sprintf(`[etcd]
namespace = "local"
addr = { host = %q, port = %s }
[db]
addr = { host = %q, port = %s }
name = %q
user = %q
password = %q
[manager]
service-addr = { host = %q, port = %s }
[actors]
shards = 8
[logging]
level = "INFO"
drivers = ["console"]
[logging.console]
colored = false
format = "verbose"
[docker-registry]
[debug]
`, etcdHost, etcdPort, dbHost, dbPort, c.db.Name, c.db.User, c.db.Password, host, port)
	c.config = filepath.Join(c.dir, "manager.toml")
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		c.Fatal(err)
	}
}

func launch(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// stop sends a signal and waits for the end.
func (p *process) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Errorf("%s does not end by %s", filepath.Base(p.cmd.Path), sig)
	}
}

func (c *cluster) startManager() {
	c.Helper()
	c.manager = launch(c.T, programs.manager, "mgr", "start-server", "-f", c.config)
	c.eventually("the manager answers", func() bool {
		select {
		case <-c.manager.done:
			c.Fatalf("the manager has ended:\n%s", c.manager.out)
		default:
		}
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.endpoint, "http://"), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (c *cluster) startAgent() {
	c.Helper()
	c.agent = launch(c.T, programs.agent, c.agentArg...)
	c.eventually("the agent is ALIVE", func() bool {
		select {
		case <-c.agent.done:
			c.Fatalf("the agent has ended:\n%s", c.agent.out)
		default:
		}
		var status string
		_ = c.pool.QueryRow(context.Background(), `SELECT status::text FROM agents WHERE id = 'i-local'`).Scan(&status)
		return status == "ALIVE" && strings.Contains(c.agent.out.String(), "the agent serves")
	})
}

// eventually polls until the condition holds.
func (c *cluster) eventually(what string, holds func() bool) {
	c.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			c.Fatalf("does not come true: %s\nmanager:\n%s", what, tail(c.manager.out.String()))
		}
		time.Sleep(10 * time.Millisecond) // polling with a deadline
	}
}

func (c *cluster) text(sql string, args ...any) string {
	c.Helper()
	var s string
	if err := c.pool.QueryRow(context.Background(), sql, args...).Scan(&s); err != nil {
		c.Fatal(err)
	}
	return s
}

// python is the interpreter that has the official client; `make test` makes it.
func (c *cluster) python() string {
	p := os.Getenv("BACKENDAI_TEST_PYTHON")
	if p == "" {
		p, _ = filepath.Abs("../../.venv/bin/python")
	}
	if _, err := os.Stat(p); err != nil {
		c.Fatalf("the official client is not installed (%v); run the tests with make test", err)
	}
	return p
}

// official runs the official client's command line and returns what it printed.
func (c *cluster) official(input string, args ...string) (string, error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(c.python()), "backend.ai"), args...)
	cmd.Dir = c.dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "BACKEND_ENDPOINT="+c.endpoint, "BACKEND_ENDPOINT_TYPE=api", "BACKEND_ACCESS_KEY="+userKey, "BACKEND_SECRET_KEY="+userSecret,
		"BACKEND_SKIP_SSLCERT_VALIDATION=yes", "HOME="+c.dir, "PYTHONWARNINGS=ignore")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is official for commands that have to succeed.
func (c *cluster) must(input string, args ...string) string {
	c.Helper()
	out, err := c.official(input, args...)
	if err != nil {
		c.Fatalf("backend.ai %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
