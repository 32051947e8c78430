package membership

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"backend.ai/manager/config/shared/etcdtest"
)

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The shards of a process that has ended are free long before its lease runs out; one that still listens, or has left, is let be.
func testSuspected(t *testing.T, etcd *etcdtest.Server, prefix string) {
	var said logged
	a := start(t, etcd, prefix, "a", func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&said, nil)) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := func(c *Config) { c.Self.Address, c.TTL = l.Addr().String(), MaxTTL }
	b := start(t, etcd, prefix, "b", at)
	if _, err := b.Claim(background(t), shards(0, 10)); err != nil {
		t.Fatal(err)
	}
	v := a.await("b's claims", claims(b, 10))
	seen, _ := v.Member(b.ID())
	a.bury(seen)
	if left, err := a.timeToLive(background(t), leaseID(int(seen.Lease))); err != nil || left.TTL <= 0 {
		t.Fatalf("the lease of a process that listens was ended: %v %v", left, err)
	}
	a.Suspect("127.0.0.1:1") // is nobody's

	_ = l.Close()
	b.kill()
	before := time.Now()
	a.Suspect(l.Addr().String())
	if v := a.await("b's end", sees("a")); len(v.Claims) != 0 {
		t.Errorf("claims are left: %v", v.Claims)
	}
	if took := time.Since(before); took > MaxTTL/2 {
		t.Errorf("that took %v", took)
	}
	if n := strings.Count(said.String(), "has ended without saying so"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, said.String())
	}
	a.bury(seen) // whoever suspects it late finds that it has left
	if n := strings.Count(said.String(), "has ended without saying so"); n != 1 {
		t.Errorf("a member that is not there any more was buried:\n%s", said.String())
	}
}
