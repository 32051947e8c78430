package redistest

import (
	"context"
	"testing"
	"time"

	"backend.ai/manager/persistence/redis/embedded"
)

const limit = time.Minute

// Server is a redis-server that can be stopped and started again under its clients.
type Server struct {
	tb     testing.TB
	cfg    embedded.Config
	server *embedded.Server
}

// New starts a server. A machine without redis-server fails the test: nothing is skipped.
func New(tb testing.TB) *Server {
	tb.Helper()
	binary := embedded.FindBinary()
	if binary == "" {
		tb.Fatal("redistest: install redis-server (6.2 or newer); these tests need a real one")
	}
	s := &Server{tb: tb, cfg: embedded.Config{Dir: tb.TempDir(), Binary: binary}}
	s.Start()
	// The address stays the same over restarts.
	tb.Cleanup(s.Stop)
	return s
}

// Addr is "127.0.0.1:port".
func (s *Server) Addr() string { return s.server.Addr() }

// Start runs the server again with its data, at its address.
func (s *Server) Start() {
	s.tb.Helper()
	server, err := embedded.New(s.cfg)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err = server.Start(ctx)
	}
	if err != nil {
		s.tb.Fatalf("redistest: %v", err)
	}
	s.server = server
}

// Stop ends the server; its data stays.
func (s *Server) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.tb.Errorf("redistest: %v", err)
	}
}

// Restart is Stop and Start.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.Start()
}
