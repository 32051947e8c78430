package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"backend.ai/manager/persistence/postgres/embedded"
	"backend.ai/manager/test/ports"
)

// restartAfter is how long a supervisor waits before it starts a program again that has ended (systemd: RestartSec).
const restartAfter = 200 * time.Millisecond

// node is a manager process and whoever starts it again when it has ended.
type node struct {
	*program
	API     string // host:port
	peer    *wire  // how other nodes reach it; nil: directly
	client  *client
	ordered atomic.Bool // its end is wanted
	stop    chan struct{}
	ended   chan struct{}
	once    sync.Once
	starts  atomic.Int64
}

// ways are the addresses of what a node talks to.
type ways struct {
	postgres string
	etcd     []string
}

func nodeName(i int) string { return fmt.Sprintf("m%d", i+1) }

// newNode writes the configuration of a node. peer leads to its port for other nodes, or is nil.
func newNode(g *ground, binary string, i int, w ways, peer *wire) (*node, error) {
	n := &node{API: ports.Free(), peer: peer, stop: make(chan struct{}), ended: make(chan struct{})}
	table := func(addr string) string {
		host, port, _ := strings.Cut(addr, ":")
		return fmt.Sprintf("{ host = %q, port = %s }", host, port)
	}
	var etcd []string
	for _, a := range w.etcd {
		etcd = append(etcd, table(a))
	}
	between := ports.Free()
	advertise := ""
	if peer != nil {
		peer.Lead(between)
		advertise = "advertise-addr = " + table(peer.Addr) + "\n"
	}
	text := fmt.Sprintf(`[etcd]
namespace = %q
addr = [%s]
[db]
addr = %s
name = %q
user = %q
password = %q
[manager]
id = %q
service-addr = %s
[actors]
cluster-addr = %s
%s[logging]
level = "INFO"
drivers = ["console"]
[logging.console]
colored = false
[docker-registry]
[debug]
`, namespace, strings.Join(etcd, ", "), table(w.postgres), database, embedded.Superuser, g.password, nodeName(i), table(n.API), table(between), advertise)
	path := filepath.Join(g.dir, nodeName(i)+".toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	n.program = newProgram(g.dir, nodeName(i), binary, "mgr", "start-server", "-f", path)
	n.client = newClient("http://"+n.API, 64)
	return n, nil
}

// supervise starts the process whenever it does not run.
func (n *node) supervise(unexpected func(*node)) {
	defer close(n.ended)
	for {
		if n.peer != nil {
			_ = n.peer.Listen()
		}
		err := n.Start()
		n.starts.Add(1)
		if err == nil {
			select {
			case <-n.Done():
			case <-n.stop:
				n.Stop(syscall.SIGTERM, 20*time.Second)
				return
			}
		}
		if n.peer != nil {
			n.peer.Refuse()
		}
		if !n.ordered.Swap(false) && unexpected != nil {
			unexpected(n)
		}
		select {
		case <-time.After(restartAfter):
		case <-n.stop:
			return
		}
	}
}

// Kill ends the process at once; the supervisor starts it again.
func (n *node) Kill() {
	n.ordered.Store(true)
	done := n.Done()
	n.Signal(syscall.SIGKILL)
	<-done
}

// Terminate asks it to end, and waits.
func (n *node) Terminate(patience time.Duration) error {
	n.ordered.Store(true)
	done := n.Done()
	n.Signal(syscall.SIGTERM)
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s has not ended %s after SIGTERM", n.Name, patience)
	}
}

// Close ends it for good.
func (n *node) Close() {
	n.once.Do(func() { n.ordered.Store(true); close(n.stop) })
	<-n.ended
}

var quick = &http.Client{Timeout: time.Second}

// ready asks what a balancer asks.
func (n *node) ready() error {
	resp, err := quick.Get("http://" + n.API + "/health/ready")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: /health/ready says %s", n.Name, resp.Status)
	}
	return nil
}

// eventually polls until f gives no error, and returns the last error when that takes too long.
func eventually(ctx context.Context, limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
