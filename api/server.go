package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
)

// Config of a server; zero values take the defaults named at each.
type Config struct {
	// Addr is "host:port" (manager.service-addr); port 0 = any free one, see Server.Addr.
	Addr string
	// CertFile and KeyFile are PEM files; both or none (manager.ssl-cert, ssl-privkey).
	CertFile, KeyFile string
	// Debug shows causes of internal errors to clients (debug.enabled).
	Debug bool
	// IdleTimeout ends kept connections that say nothing; default 30 s, the original's.
	IdleTimeout time.Duration
	// HeadTimeout bounds how long a request's head may take; default 30 s.
	HeadTimeout time.Duration
	// BodyTimeout bounds how long a request's body may take; default 1 h, for uploads.
	BodyTimeout time.Duration
	// MaxRunning bounds the requests that run at a time; default 4096.
	MaxRunning int
	// MaxWaiting bounds those of routes marked Waits; default 16384.
	MaxWaiting int
	// MaxStreams bounds the open streams of events; default 4096.
	MaxStreams int
	// MaxConnections bounds open connections; default 65536.
	MaxConnections int
}

// maxHead is the size of a request's head that is accepted (spec/rest-core §1.1).
const maxHead = 32 << 10

func (c Config) withDefaults() Config {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 30*time.Second)
	c.HeadTimeout = cmp.Or(c.HeadTimeout, 30*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, time.Hour)
	c.MaxRunning = cmp.Or(c.MaxRunning, 4096)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 16384)
	c.MaxStreams = cmp.Or(c.MaxStreams, 4096)
	c.MaxConnections = cmp.Or(c.MaxConnections, 65536)
	return c
}

// Credentials finds out who signs with a key; *accounts.Accounts does. Nil for keys that are unknown or not active.
type Credentials interface {
	Credential(context.Context, backendai.AccessKey) (*accounts.Credential, error)
}

// Deps is what the server asks. Only Credentials is required.
type Deps struct {
	Credentials Credentials
	// Status is the manager's status now, from memory; nil = always running.
	Status func() Status
	// RateLimiter counts signed requests; nil = nobody is limited.
	RateLimiter RateLimiter
	// Used is told of every signed request; it must not block (accounts.Usage.Note).
	Used func(backendai.AccessKey, time.Time)
	// Hooks are extensions.
	Hooks Hooks
	// Failed is told of every answer of 500 and above but 503; it must not block (spec/rest-core §3.4).
	Failed func(Failure)
	// Observe is told of every request, for metrics; it must not block.
	Observe func(Observation)
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Failure is an error of the manager that a client met.
type Failure struct {
	Method, Path string
	Err          *backendai.Error
	Stack        string // of a panic
}

// Observation is one request.
type Observation struct {
	Method string
	Route  string // the path of the route, with variables as "{name}"; "" = no route
	Status int
	Took   time.Duration
}

// Server serves the API.
//
//	New ──Mount…──▶ ready ──Start──▶ serving ──Stop──▶ draining ──all answered, or ctx ends──▶ stopped
type Server struct {
	config    Config
	deps      Deps
	app       *fiber.App
	routes    *table
	keys      *keyring
	admission admission
	now       func() time.Time

	rateWarned atomic.Int64

	running  context.Context // of the requests
	giveUp   context.CancelFunc
	stopping context.Context // of the streams, which would never end by themselves
	stop     context.CancelFunc
	streams  atomic.Int64
	ln       net.Listener
	served   chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// New makes a server that answers nothing yet.
func New(config Config, deps Deps) *Server {
	if deps.Status == nil {
		deps.Status = func() Status { return Running }
	}
	if deps.Used == nil {
		deps.Used = func(backendai.AccessKey, time.Time) {}
	}
	s := &Server{config: config.withDefaults(), deps: deps, routes: newTable(), keys: newKeyring(), now: deps.Now, conns: map[net.Conn]struct{}{}}
	if s.now == nil {
		s.now = time.Now
	}
	s.admission.mostQuick, s.admission.mostWaiting = int64(s.config.MaxRunning), int64(s.config.MaxWaiting)
	s.running, s.giveUp = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(s.running)
	s.app = fiber.New(fiber.Config{
		DisableStartupMessage:        true,
		ServerHeader:                 "BackendAI",
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		BodyLimit:                    MaxBody, // larger ones are streamed, too
		ReadBufferSize:               maxHead,
		ReduceMemoryUsage:            true, // clients keep hundreds of connections that mostly wait
		ReadTimeout:                  s.config.HeadTimeout,
		IdleTimeout:                  s.config.IdleTimeout,
		Concurrency:                  s.config.MaxConnections,
		ErrorHandler:                 malformedRequest,
	})
	s.app.Use(s.entry)
	http := s.app.Server()
	http.CloseOnShutdown = true
	http.ConnState = s.track
	http.HeaderReceived = func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
		if h.ContentLength() != 0 && h.ContentLength() != -2 {
			return fasthttp.RequestConfig{ReadTimeout: s.config.BodyTimeout}
		}
		return fasthttp.RequestConfig{}
	}
	return s
}

// malformedRequest answers what is no HTTP request at all (spec/rest-core §3.3: a plain 400).
func malformedRequest(c *fiber.Ctx, err error) error {
	status := fiber.StatusBadRequest
	var e *fiber.Error
	if errors.As(err, &e) && e.Code == fiber.StatusRequestTimeout {
		status = e.Code
	}
	c.Context().SetConnectionClose()
	return c.Status(status).SendString("Bad Request")
}

// Mount registers the routes of a resource below a prefix ("/auth"; "" for the root). Call it before Start.
func (s *Server) Mount(prefix string, r Resource) {
	r.Register(&Router{prefix: prefix, table: s.routes})
}

// Start binds the address and serves. Errors: InvalidConfig for certificates that can't be used, else the system's.
func (s *Server) Start(ctx context.Context) error {
	var secure *tls.Config
	if s.config.CertFile != "" || s.config.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(s.config.CertFile, s.config.KeyFile)
		if err != nil {
			return backendai.Errorf(backendai.InvalidConfig, "manager.ssl-cert, manager.ssl-privkey: %v", err)
		}
		secure = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.Addr)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	s.ln, s.served = ln, make(chan struct{})
	if secure != nil {
		ln = tls.NewListener(ln, secure)
	}
	go func() {
		defer close(s.served)
		if err := s.app.Listener(ln); err != nil {
			slog.Error("the API server ended", "error", err)
		}
	}()
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Stop takes no new connections, ends streams of events and lets running requests finish. When ctx ends first, their contexts end and connections are cut, and the
// error is ctx's.
func (s *Server) Stop(ctx context.Context) error {
	s.stop()
	if s.ln == nil {
		s.giveUp()
		return nil
	}
	err := s.app.ShutdownWithContext(ctx)
	s.giveUp()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close() // its handler sees it
	}
	s.mu.Unlock()
	<-s.served
	return err
}

// track knows the open connections, to cut them when draining takes too long.
func (s *Server) track(c net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	case fasthttp.StateClosed, fasthttp.StateHijacked: // a stream watches its request's context itself
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

func (r *Request) observation() Observation {
	o := Observation{Method: r.Method, Status: r.ctx.Response().StatusCode(), Took: r.server.now().Sub(r.began)}
	if r.route != nil {
		o.Route = r.route.Path
	}
	return o
}
