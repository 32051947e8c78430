package embedded

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func ask(t *testing.T, s *Server, words ...string) string {
	t.Helper()
	c, err := dial(t.Context(), s.Addr(), s.cfg.Password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	answer, err := c.ask(words...)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(answer, "$") && !strings.HasPrefix(answer, "$-1") {
		answer, _ = c.in.ReadString('\n')
	}
	return strings.TrimSpace(answer)
}

func TestDataAndAddressSurvive(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Password: `p w\1`}
	first := start(t, cfg)
	if first.Kind() != RedisServer {
		t.Fatal("no redis-server on this machine")
	}
	if got := ask(t, first, "SET", "k", "v"); got != "+OK" {
		t.Fatal(got)
	}
	if _, err := dial(t.Context(), first.Addr(), "wrong"); err == nil {
		t.Error("the password is not asked for")
	}
	stop(t, first)
	<-first.Done()
	second := start(t, cfg)
	if got := ask(t, second, "GET", "k"); got != "v" || second.Addr() != first.Addr() {
		t.Error(got, second.Addr(), first.Addr())
	}
	// An orphan: the second server is still there when a third starts in its home.
	third := start(t, cfg)
	<-second.Done()
	if got := ask(t, third, "GET", "k"); got != "v" {
		t.Error(got)
	}
}

func TestFailuresTellWhy(t *testing.T) {
	if _, err := New(Config{}); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Error(err)
	}
	s, _ := New(Config{Dir: t.TempDir(), Binary: "/nowhere/redis-server"})
	if err := s.Start(t.Context()); backendai.CodeOf(err) != backendai.ServerMisconfigured || !strings.Contains(err.Error(), "/nowhere/redis-server") {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/appendonlydir", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/appendonlydir/appendonly.aof.manifest", []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ = New(Config{Dir: dir})
	if err := s.Start(t.Context()); backendai.CodeOf(err) != backendai.ServerMisconfigured || !strings.Contains(err.Error(), "manifest") {
		t.Error(err)
	}
}

func TestMiniredis(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Binary: "none", Password: "x"})
	if s.Kind() != Miniredis || ask(t, s, "SET", "k", "v", "PX", "1500") != "+OK" || ask(t, s, "GET", "k") != "v" {
		t.Error(s.Kind())
	}
	deadline := time.Now().Add(20 * time.Second)
	for ask(t, s, "GET", "k") != "$-1" {
		if time.Now().After(deadline) {
			t.Fatal("keys do not expire")
		}
	}
	stop(t, s)
	<-s.Done()
}
