package membership

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	backendai "backend.ai/manager"
	"backend.ai/manager/config/shared/etcdtest"
)

// TestMain sees to it that nothing that a membership has started is left when all of them are stopped.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/embed.(*Etcd).errHandler"))
}

// wire stands between a member and etcd and can be cut.
type wire struct {
	t    testing.TB
	to   string
	addr string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	running  sync.WaitGroup
}

func newWire(t testing.TB, to string) *wire {
	w := &wire{t: t, to: to, addr: "127.0.0.1:0"}
	w.mend()
	t.Cleanup(w.cut)
	return w
}

func (w *wire) mend() {
	l, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.listener, w.addr = l, l.Addr().String()
	w.mu.Unlock()
	w.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", w.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, in, out)
			w.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				w.running.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = pair[0].Close(), pair[1].Close()
				})
			}
		}
	})
}

func (w *wire) cut() {
	w.mu.Lock()
	_ = w.listener.Close()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
	w.mu.Unlock()
	w.running.Wait()
}

func (w *wire) client() *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{w.addr}, Logger: zap.NewNop()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// While etcd can't be reached the lease is lost by the local clock, and the member comes back by itself when it can.
func testEtcdAway(t *testing.T, etcd *etcdtest.Server, prefix string) {
	w := newWire(t, etcd.Endpoint)
	b := start(t, etcd, prefix, "b")
	a := start(t, etcd, prefix, "a", func(c *Config) { c.Client = w.client() })
	if _, err := a.Claim(background(t), shards(0, 5)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, b} {
		n.await("a's claims", claims(a, 5))
	}
	w.cut()
	poll(t, "OnExpired", func() bool { return a.expired.Load() == 1 })
	if v := a.await("only the other", sees("b")); len(v.Claimed(a.ID())) != 0 || a.Healthy() {
		t.Errorf("without a lease it is healthy (%v) and sees claims of its own: %v", a.Healthy(), v.Claims)
	}
	if _, err := a.Claim(background(t), shards(0, 5)); backendai.CodeOf(err) != backendai.ServiceUnavailable {
		t.Errorf("a claim without a lease: %v", err)
	}
	b.await("the end of a", sees("b"))
	if _, err := b.Claim(background(t), shards(0, 3)); err != nil {
		t.Fatal(err)
	}
	w.mend()
	a.await("both", sees("a b"))
	poll(t, "it is healthy again", a.Healthy)
	if got, err := a.Claim(background(t), shards(0, 5)); err != nil || len(got) != 2 {
		t.Errorf("of five shards, three are the other's now: %v %v", got, err)
	}
	if n := a.expired.Load(); n != 1 {
		t.Errorf("OnExpired was called %d times", n)
	}
}

// Stop returns in time although etcd is away.
func testStopWithoutEtcd(t *testing.T, etcd *etcdtest.Server, prefix string) {
	w := newWire(t, etcd.Endpoint)
	n := start(t, etcd, prefix, "a", func(c *Config) { c.Client = w.client() })
	w.cut()
	before := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := n.Stop(ctx); backendai.CodeOf(err) != backendai.ServiceUnavailable {
		t.Errorf("want ServiceUnavailable, got %v", err)
	}
	if d := time.Since(before); d > 3*time.Second {
		t.Errorf("Stop took %s", d)
	}
}

// An answer that lay in the queue while the process was paused does not revive a lease that has run out meanwhile.
func TestPausedProcess(t *testing.T) {
	answers := make(chan *clientv3.LeaseKeepAliveResponse, 1)
	answers <- &clientv3.LeaseKeepAliveResponse{TTL: 3}
	a := &alive{answers: answers, deadline: time.Now().Add(-time.Second), ttl: 3 * time.Second}
	if why := New(Config{Self: Member{Name: "a"}}).renew(context.Background(), a); why == "" || a.deadline.After(time.Now()) {
		t.Errorf("the lease was taken for alive: %q", why)
	}
}
