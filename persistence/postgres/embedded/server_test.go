package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
)

// home is a place that an unprivileged server can reach even when root runs the
// tests (t.TempDir is closed to everybody else).
func home(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "backendai-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgres")
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(deadline(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil && s.Err() == nil {
		t.Error(err)
	}
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	ctx := deadline(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer string
	if err := conn.QueryRow(ctx, sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestLife is one home's story: made, stopped, started again, taken by one
// owner at a time, reached over TCP with the password only.
func TestLife(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	cfg := Config{Dir: home(t), Port: port, Progress: func(line string) { said = append(said, line) }}
	s := start(t, cfg)
	ctx := deadline(t)
	for range 2 {
		if err := s.EnsureDatabase(ctx, "backend"); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(said[0], "Creating a PostgreSQL") {
		t.Errorf("progress: %q", said)
	}
	query(t, s.DSN("backend"), `SELECT 'x' FROM (SELECT set_config('x.y', 'z', false)) q`)

	other, _ := New(Config{Dir: cfg.Dir})
	if err := other.Start(ctx); !errors.Is(err, backendai.Conflict) {
		t.Errorf("second owner: %v", err)
	}

	password, err := s.Password()
	if err != nil || len(password) < 20 {
		t.Fatalf("password: %v", err)
	}
	tcp := "postgres://" + Superuser + ":%s@" + s.TCPAddr() + "/backend?sslmode=disable"
	query(t, fmt.Sprintf(tcp, password), "SELECT 'in'")
	if _, err := pgx.Connect(ctx, fmt.Sprintf(tcp, "wrong")); err == nil {
		t.Error("TCP without the password")
	}

	stop(t, s)
	if s.Err() != nil {
		t.Error(s.Err())
	}
	if left := holders(s.dataDir()); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	again := start(t, cfg)
	if got := query(t, again.DSN("postgres"), `SELECT count(*)::text FROM pg_database WHERE datname = 'backend'`); got != "1" {
		t.Error("the database is gone after a restart")
	}
}

func TestTellsWhenTheServerDies(t *testing.T) {
	s := start(t, Config{Dir: home(t)})
	if err := syscall.Kill(s.process.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-deadline(t).Done():
		t.Fatal("Done stays open")
	}
	if !errors.Is(s.Err(), backendai.ServiceUnavailable) {
		t.Errorf("Err: %v", s.Err())
	}
}

// TestStalePidFile leaves what a crash and a reused process number would: a
// pid file that names a living process (this one) that is no server.
func TestStalePidFile(t *testing.T) {
	cfg := Config{Dir: home(t)}
	s := start(t, cfg)
	stop(t, s)
	pidFile := filepath.Join(s.dataDir(), "postmaster.pid")
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n%s\n0\n5432\n\n\n  0 0\n", os.Getpid(), s.dataDir()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.account.give(pidFile); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("data.new"), 0o700); err != nil { // what an interrupted initdb leaves does no harm either
		t.Fatal(err)
	}
	start(t, cfg)
}

// TestOwnerKilled kills the owner with SIGKILL and starts again at once.
func TestOwnerKilled(t *testing.T) {
	dir := home(t)
	owner, pid := otherOwner(t, dir)
	_ = owner.Process.Kill()
	_ = owner.Wait()
	s := start(t, Config{Dir: dir})
	if s.process.cmd.Process.Pid == pid {
		t.Error("not a new server")
	}
	if got := query(t, s.DSN("postgres"), `SELECT v FROM t`); got != "kept" {
		t.Errorf("committed row: %q", got)
	}
}

// TestOrphan starts beside a server that nobody owns any more.
func TestOrphan(t *testing.T) {
	cfg := Config{Dir: home(t)}
	first := start(t, cfg)
	pid := first.process.cmd.Process.Pid
	raw, err := first.lock.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	unlock := func(fd uintptr) { err = syscall.Flock(int(fd), syscall.LOCK_UN) } // as if its owner had died without a trace
	if ctlErr := raw.Control(unlock); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
	second := start(t, cfg)
	if len(holders(second.dataDir())) == 0 {
		t.Error("nothing runs")
	}
	for _, p := range holders(second.dataDir()) {
		if p == pid {
			t.Error("the orphan still runs")
		}
	}
}

// otherOwner runs this test binary as a process that owns a server.
func otherOwner(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperOwner$")
	cmd.Env = append(os.Environ(), "EMBEDDED_TEST_HOME="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return cmd, pid
		}
	}
	_ = cmd.Wait()
	t.Fatal("the other owner did not come up")
	return nil, 0
}

// TestHelperOwner is no test of its own: otherOwner runs it in another process.
func TestHelperOwner(t *testing.T) {
	dir := os.Getenv("EMBEDDED_TEST_HOME")
	if dir == "" {
		return
	}
	s := start(t, Config{Dir: dir})
	ctx := deadline(t)
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `CREATE TABLE t AS SELECT 'kept'::text AS v`); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("pid %d\n", s.process.cmd.Process.Pid)
	<-ctx.Done() // until killed
}

func TestRefusals(t *testing.T) {
	ctx := deadline(t)
	if _, err := New(Config{}); !errors.Is(err, backendai.InvalidConfig) {
		t.Errorf("no directory: %v", err)
	}
	s, _ := New(Config{Dir: home(t), BinDirs: []string{t.TempDir()}})
	if err := s.Start(ctx); !errors.Is(err, backendai.ServerMisconfigured) {
		t.Errorf("no programs: %v", err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop of what never ran: %v", err)
	}
	s, _ = New(Config{Dir: home(t), Settings: map[string]string{"no_such_setting": "1"}})
	if err := s.Start(ctx); !errors.Is(err, backendai.ServiceUnavailable) || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("bad setting: %v", err)
	}
}

func TestChoose(t *testing.T) {
	data := t.TempDir()
	list := []Installation{{Major: 16, Bin: "/a"}, {Major: 13, Bin: "/b"}}
	if got, err := choose(list, data); err != nil || got.Major != 16 {
		t.Errorf("fresh: %v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("13\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := choose(list, data); err != nil || got.Major != 13 {
		t.Errorf("its own version: %v, %v", got, err)
	}
	if _, err := choose(list[:1], data); !errors.Is(err, backendai.ServerMisconfigured) || !strings.Contains(err.Error(), "16") {
		t.Errorf("version gone: %v", err)
	}
}

func TestLongHome(t *testing.T) {
	s, err := New(Config{Dir: filepath.Join(home(t), strings.Repeat("long/", 25))})
	if err != nil {
		t.Fatal(err)
	}
	if dir := s.SocketDir(); len(dir) > longestSocketDir {
		t.Errorf("no room for a socket's name after %s", dir)
	}
}
