package etcdtest

import (
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Server is a running etcd.
type Server struct {
	Endpoint string
	cfg      *embed.Config
	etcd     *embed.Etcd
	tb       testing.TB
}

// New starts an etcd that is stopped at the test's end.
func New(tb testing.TB) *Server {
	tb.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(tb.TempDir(), "etcd")
	cfg.LogLevel = "fatal"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	client, peer := loopback(tb), loopback(tb)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	s := &Server{Endpoint: client.Host, cfg: cfg, tb: tb}
	s.Start()
	tb.Cleanup(func() { s.Stop() })
	return s
}

// Start runs the server again after a Stop, with its data and address.
func (s *Server) Start() {
	s.tb.Helper()
	e, err := embed.StartEtcd(s.cfg)
	if err != nil {
		s.tb.Fatalf("etcdtest: %v", err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		s.tb.Fatal("etcdtest: not ready within a minute")
	}
	s.etcd = e
}

// Stop ends the server; its data stays.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

// Client is a connection that is closed at the test's end.
func (s *Server) Client() *clientv3.Client {
	s.tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		s.tb.Fatalf("etcdtest: %v", err)
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

func loopback(tb testing.TB) url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	defer func() { _ = l.Close() }()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}
