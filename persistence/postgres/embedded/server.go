package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	backendai "backend.ai/manager"
)

// Superuser is the role that owns everything in an embedded server.
const Superuser = "backendai"

// Config describes a server. Dir is the only field that must be set.
type Config struct {
	// Dir is the home; made when missing.
	Dir string
	// Port listens on 127.0.0.1 as well, with the password; 0 = socket only.
	Port int
	// Fsync is off only for data that may vanish with the machine: tests.
	Fsync bool
	// MaxConns is the server's limit; default 100.
	MaxConns int
	// BinDirs are looked at instead of the usual places of initdb and postgres.
	BinDirs []string
	// RunAs is the user to drop to when started by root; default "postgres", else "nobody".
	RunAs string
	// Settings are further server settings, e.g. {"work_mem": "16MB"}.
	Settings map[string]string
	// Progress is told what happens, a short sentence each, for a person who
	// waits; it must not block. May be nil.
	Progress func(string)
	// Log gets the same and more; default: nothing.
	Log *slog.Logger
}

// Server is a private PostgreSQL. See the package's comment for its states.
// Start and Stop are called once each, in this order; the rest at any time between.
type Server struct {
	cfg     Config
	account account
	log     *slog.Logger
	lock    *os.File

	process  *process
	stopping chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	err      error
}

// New checks the configuration; it touches nothing. Errors: InvalidConfig,
// ServerMisconfigured.
func New(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, backendai.Errorf(backendai.InvalidConfig, "embedded PostgreSQL: no directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir, cfg.MaxConns = dir, cmp.Or(cfg.MaxConns, 100)
	acc, err := accountFor(cfg.RunAs)
	if err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, account: acc, log: log, stopping: make(chan struct{}), done: make(chan struct{})}, nil
}

func (s *Server) path(name string) string { return filepath.Join(s.cfg.Dir, name) }
func (s *Server) dataDir() string         { return s.path("data") }

// longestSocketDir leaves room for "/.s.PGSQL.65535.lock" in a socket's address (107 bytes, 103 on BSD).
const longestSocketDir = 80

// SocketDir is where the Unix socket is: in the home, or for a home with a long
// path in the directory for temporary files.
func (s *Server) SocketDir() string {
	dir := s.path("run")
	if len(dir) > longestSocketDir {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s.cfg.Dir))
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("backendai-pg-%016x", h.Sum64()))
	}
	return dir
}

// port names the socket even when nobody listens on TCP.
func (s *Server) port() int { return cmp.Or(s.cfg.Port, 5432) }

// Addr is how programs of the same user (or root) reach the server: the
// socket, in the form that the db.addr of this project takes.
func (s *Server) Addr() string {
	if s.port() == 5432 {
		return s.SocketDir()
	}
	return fmt.Sprintf("%s:%d", s.SocketDir(), s.port())
}

// TCPAddr is "127.0.0.1:port", or empty when there is none.
func (s *Server) TCPAddr() string {
	if s.cfg.Port == 0 {
		return ""
	}
	return fmt.Sprintf("127.0.0.1:%d", s.cfg.Port)
}

// Password of Superuser for TCP; known once Start has returned.
func (s *Server) Password() (string, error) {
	text, err := os.ReadFile(s.path("password"))
	return strings.TrimSpace(string(text)), err
}

// DSN is a connection string for a database, through the socket.
func (s *Server) DSN(database string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	return fmt.Sprintf("host='%s' port=%d user=%s dbname='%s' sslmode=disable", quote.Replace(s.SocketDir()), s.port(), Superuser, quote.Replace(database))
}

// FreePort finds a port of 127.0.0.1 that nobody uses at the moment.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Info(text, "dir", s.cfg.Dir)
	if s.cfg.Progress != nil {
		s.cfg.Progress(text)
	}
}

// Start brings the server up and returns when it takes connections. The first
// start of a home makes its cluster. When it fails, nothing is left running.
//
// Errors: ServerMisconfigured (no programs, wrong version, directory out of
// reach), Conflict (another process owns the home), DeadlineExceeded or the end
// of ctx, ServiceUnavailable with the server's last words.
func (s *Server) Start(ctx context.Context) (err error) {
	if err := s.prepareHome(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
			s.lock = nil
		}
	}()
	installation, err := choose(Find(ctx, s.cfg.BinDirs...), s.dataDir())
	if err != nil {
		return err
	}
	if err := s.evict(ctx); err != nil {
		return err
	}
	if err := s.makeCluster(ctx, installation); err != nil {
		return err
	}
	s.say("Starting PostgreSQL %d", installation.Major)
	if err := s.launch(installation); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.kill()
		return err
	}
	go s.watch()
	s.say("PostgreSQL is up")
	return nil
}

// prepareHome makes the directories and takes the lock.
func (s *Server) prepareHome() error {
	if err := os.MkdirAll(filepath.Dir(s.cfg.Dir), 0o755); err != nil {
		return err
	}
	if err := s.account.reach(s.cfg.Dir); err != nil {
		return err
	}
	for _, dir := range []string{s.cfg.Dir, s.SocketDir()} {
		if err := s.account.own(dir); err != nil {
			return err
		}
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return backendai.Errorf(backendai.Conflict, "%s is in use by another process", s.cfg.Dir)
		}
		return err
	}
	s.lock = lock
	return nil
}

// evict ends what is left of an earlier server in this home. We hold the lock,
// so nobody alive owns it.
func (s *Server) evict(ctx context.Context) error {
	pids := holders(s.dataDir())
	if len(pids) > 0 {
		s.say("Stopping a PostgreSQL that was left running")
		started := time.Now()
		sig := syscall.SIGINT
		for len(pids) > 0 {
			for _, pid := range pids {
				// Only the postmaster (its children's parent) understands the signals as wanted;
				// children of a dead one end by themselves.
				if pid == s.pidInFile() {
					_ = syscall.Kill(pid, sig)
				}
			}
			if time.Since(started) > 20*time.Second {
				sig = syscall.SIGQUIT
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			pids = holders(s.dataDir())
		}
	}
	// Nobody works here, so a pid file can only mislead: its number may be some other process's by now.
	if err := os.Remove(filepath.Join(s.dataDir(), "postmaster.pid")); err == nil {
		s.say("Removed a stale postmaster.pid")
	}
	return nil
}

func (s *Server) pidInFile() int {
	text, _ := os.ReadFile(filepath.Join(s.dataDir(), "postmaster.pid"))
	var pid int
	_, _ = fmt.Sscan(string(text), &pid)
	return pid
}

// launch starts the postmaster.
func (s *Server) launch(in Installation) error {
	_ = os.Rename(s.path("server.log"), s.path("server.log.1"))
	out, err := os.OpenFile(s.path("server.log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own

	args := []string{"-D", s.dataDir()}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	set("port", fmt.Sprint(s.port()))
	set("unix_socket_directories", s.SocketDir())
	set("listen_addresses", map[bool]string{true: "127.0.0.1", false: ""}[s.cfg.Port != 0])
	set("max_connections", fmt.Sprint(s.cfg.MaxConns))
	set("logging_collector", "off")
	set("log_destination", "stderr")
	if !s.cfg.Fsync {
		set("fsync", "off")
		set("synchronous_commit", "off")
		set("full_page_writes", "off")
	}
	for name, value := range s.cfg.Settings {
		set(name, value)
	}
	cmd := exec.Command(filepath.Join(in.Bin, "postgres"), args...)
	cmd.Dir = s.cfg.Dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = s.account.attributes()
	s.process, err = spawn(cmd, syscall.SIGINT)
	return err
}

// environment is ours without what would steer the server: PGDATA, PGPORT …
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return append(env, "LC_ALL=C")
}

// awaitReady returns when a connection works.
func (s *Server) awaitReady(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := pgx.Connect(attempt, s.DSN("postgres"))
		cancel()
		if err == nil {
			return conn.Close(ctx)
		}
		var pe *pgconn.PgError
		if errors.As(err, &pe) && !strings.HasPrefix(pe.Code, "57P") {
			return backendai.NewError(backendai.ServerMisconfigured).WithCause(err)
		}
		select {
		case <-s.process.done:
			return backendai.Errorf(backendai.ServiceUnavailable, "PostgreSQL ended while starting: %s", s.lastWords())
		default:
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("embedded PostgreSQL did not come up (%s): %w", s.lastWords(), err)
		}
	}
}

// lastWords are the lines of the log that say most about a failure.
func (s *Server) lastWords() string {
	text, _ := os.ReadFile(s.path("server.log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch closes done when the server ends, for whatever reason.
func (s *Server) watch() {
	<-s.process.done
	select {
	case <-s.stopping:
	default:
		s.err = backendai.Errorf(backendai.ServiceUnavailable, "PostgreSQL ended by itself: %s", s.lastWords())
		s.log.Error("embedded PostgreSQL ended by itself", "dir", s.cfg.Dir, "err", s.process.err)
	}
	s.lock.Close()
	close(s.done)
}

// Done is closed when a started server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says, once Done is closed, why the server ended; nil after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server cleanly: connections are cut, transactions rolled back,
// everything written. When ctx ends first the server is made to quit at once,
// which loses nothing that was committed but makes the next start recover.
// Stopping again is harmless.
func (s *Server) Stop(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	s.stopOnce.Do(func() { close(s.stopping) })
	s.process.signal(syscall.SIGINT)
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		s.kill()
		<-s.done
		return fmt.Errorf("embedded PostgreSQL was stopped the hard way: %w", ctx.Err())
	}
}

// kill ends the server without a checkpoint: quit first, which lets the children
// end with it, then for good.
func (s *Server) kill() {
	s.process.signal(syscall.SIGQUIT)
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-s.process.done:
	case <-t.C:
		s.process.signal(syscall.SIGKILL)
		<-s.process.done
	}
}
