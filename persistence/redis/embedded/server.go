package embedded

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	backendai "backend.ai/manager"
)

// Config describes a server. Dir must be set.
type Config struct {
	// Dir is the home; made when missing.
	Dir string
	// Port of 127.0.0.1; 0 = any free one, the same again after a restart when it is still free.
	Port int
	// Password is asked of clients; empty = none.
	Password string
	// Binary is the redis-server to run; empty = look for one; "none" = miniredis.
	Binary string
	// StartTimeout bounds Start; default 30 s.
	StartTimeout time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Kind is what runs.
type Kind string

const (
	RedisServer Kind = "redis-server"
	Miniredis   Kind = "miniredis"
)

// Server is a private Redis. Start and Stop are called once each.
type Server struct {
	cfg  Config
	kind Kind
	addr string

	mini    *miniredis.Miniredis
	process *process
	ticking chan struct{}
	ticked  chan struct{}
	stop    sync.Once
	done    chan struct{}
}

// New checks the configuration; it touches nothing. Errors: InvalidConfig.
func New(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, backendai.Errorf(backendai.InvalidConfig, "embedded Redis: no directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(dir+cfg.Password, "\n\r\"") {
		return nil, backendai.Errorf(backendai.InvalidConfig, "embedded Redis: directory and password can't hold quotes and line breaks")
	}
	cfg.Dir, cfg.StartTimeout = dir, cmp.Or(cfg.StartTimeout, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, done: make(chan struct{})}, nil
}

// Addr is "127.0.0.1:port", known once Start has returned.
func (s *Server) Addr() string { return s.addr }

// Kind is known once Start has returned.
func (s *Server) Kind() Kind { return s.kind }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// FindBinary is the machine's redis-server (or valkey-server), empty when there is none.
func FindBinary() string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"} {
			if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode()&0o111 != 0 {
				return filepath.Join(dir, name)
			}
		}
	}
	return ""
}

// Start runs the server and returns once it answers. Errors: ServerMisconfigured, with the end of the server's log.
func (s *Server) Start(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis: %v", err)
	}
	if real, err := filepath.EvalSymlinks(s.cfg.Dir); err == nil {
		s.cfg.Dir = real // the server tells its directory in this form
	}
	binary := cmp.Or(s.cfg.Binary, FindBinary(), "none")
	if binary == "none" {
		return s.startMini()
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	s.endOrphan(ctx)
	// The port that was free a moment ago may be taken when the server binds it.
	var err error
	for attempt := range 5 {
		if err = s.startProcess(ctx, binary, attempt); err == nil || s.cfg.Port != 0 || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (s *Server) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// choosePort takes the configured port, else the last one, else a free one.
func (s *Server) choosePort(attempt int) (string, error) {
	wanted := fmt.Sprintf("127.0.0.1:%d", s.cfg.Port)
	if noted, err := os.ReadFile(s.path("address")); s.cfg.Port == 0 && attempt == 0 && err == nil {
		wanted = strings.TrimSpace(string(noted))
	}
	l, err := net.Listen("tcp", wanted)
	if err != nil && s.cfg.Port == 0 {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis: %v", err)
	}
	return l.Addr().String(), l.Close()
}

func (s *Server) startProcess(ctx context.Context, binary string, attempt int) error {
	addr, err := s.choosePort(attempt)
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	// A file, not arguments: everybody may read the arguments of a process.
	conf := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir \"%s\"\nappendonly yes\nappendfsync everysec\nsave \"\"\ndaemonize no\nlogfile \"%s\"\nprotected-mode yes\n", port, s.cfg.Dir, s.path("log"))
	if s.cfg.Password != "" {
		conf += fmt.Sprintf("requirepass \"%s\"\n", strings.ReplaceAll(s.cfg.Password, `\`, `\\`))
	}
	if err := os.WriteFile(s.path("redis.conf"), []byte(conf), 0o600); err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis: %v", err)
	}
	_ = os.Remove(s.path("log"))
	cmd := exec.Command(binary, s.path("redis.conf"))
	cmd.Dir = s.cfg.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C in a terminal is for the parent, which stops the server in its turn
	p, err := spawn(cmd, syscall.SIGTERM)
	if err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis: %s can't be run: %v", binary, err)
	}
	if err := s.awaitAnswer(ctx, addr, p); err != nil {
		p.signal(syscall.SIGKILL)
		<-p.done
		return err
	}
	s.addr, s.kind, s.process = addr, RedisServer, p
	if err := os.WriteFile(s.path("address"), []byte(addr+"\n"), 0o600); err != nil {
		s.cfg.Log.Warn("embedded Redis: its address can't be noted", "error", err)
	}
	go func() {
		<-p.done
		close(s.done)
	}()
	s.cfg.Log.Info("embedded Redis is running", "addr", addr, "kind", string(s.kind))
	return nil
}

// awaitAnswer asks until the server has read its files.
func (s *Server) awaitAnswer(ctx context.Context, addr string, p *process) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := dial(ctx, addr, s.cfg.Password); err == nil {
			answer, err := c.ask("PING")
			dir, _ := c.dir()
			c.close()
			if err == nil && strings.HasPrefix(answer, "+PONG") && dir == s.cfg.Dir {
				return nil
			}
		}
		select {
		case <-p.done:
			return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis ended at its start: %s", s.logTail())
		case <-ctx.Done():
			return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis did not answer in time: %s", s.logTail())
		case <-tick.C:
		}
	}
}

func (s *Server) logTail() string {
	text, err := os.ReadFile(s.path("log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-600):]))
}

// endOrphan shuts down a server of an earlier run that still works in the home.
func (s *Server) endOrphan(ctx context.Context) {
	noted, err := os.ReadFile(s.path("address"))
	if err != nil {
		return
	}
	c, err := dial(ctx, strings.TrimSpace(string(noted)), s.cfg.Password)
	if err != nil {
		return
	}
	defer c.close()
	if dir, err := c.dir(); err != nil || dir != s.cfg.Dir {
		return
	}
	s.cfg.Log.Warn("embedded Redis: a server of an earlier run is shut down", "addr", strings.TrimSpace(string(noted)))
	_, _ = c.ask("SHUTDOWN") // ends the connection
	_, _ = bufio.NewReader(c.Conn).ReadByte()
}

func (s *Server) startMini() error {
	m := miniredis.NewMiniRedis()
	if s.cfg.Password != "" {
		m.RequireAuth(s.cfg.Password)
	}
	addr, err := s.choosePort(0)
	if err == nil {
		err = m.StartAddr(addr)
	}
	if err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "embedded Redis: %v", err)
	}
	s.mini, s.addr, s.kind = m, m.Addr(), Miniredis
	_ = os.WriteFile(s.path("address"), []byte(s.addr+"\n"), 0o600)
	s.ticking, s.ticked = make(chan struct{}), make(chan struct{})
	go s.age()
	s.cfg.Log.Info("embedded Redis is running; it keeps nothing over a restart, because no redis-server is installed", "addr", s.addr, "kind", string(s.kind))
	return nil
}

// age makes keys expire: miniredis has no clock of its own.
func (s *Server) age() {
	defer close(s.ticked)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case now := <-tick.C:
			s.mini.FastForward(now.Sub(last))
			last = now
		case <-s.ticking:
			return
		}
	}
}

// Stop ends the server in an orderly way, or after the context's deadline by force.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	s.stop.Do(func() {
		switch {
		case s.mini != nil:
			close(s.ticking)
			<-s.ticked
			s.mini.Close()
			close(s.done)
		case s.process != nil:
			s.process.signal(syscall.SIGTERM)
			select {
			case <-s.done:
			case <-ctx.Done():
				s.process.signal(syscall.SIGKILL)
				<-s.done
				err = errors.Join(errors.New("embedded Redis had to be killed"), ctx.Err())
			}
		}
	})
	return err
}
