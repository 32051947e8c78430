package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"backend.ai/manager/persistence/postgres/embedded"
)

// private is the server of this process; it starts when the first test needs it.
var private struct {
	once     sync.Once
	server   *embedded.Server
	dir      string
	dsn      string
	password string
	err      error
}

// server returns the connection string of the server to use.
func server(ctx context.Context) (string, error) {
	if dsn, ok, err := fromEnv(); ok {
		return dsn, err
	}
	private.once.Do(func() { private.dsn, private.err = startPrivate(ctx) })
	return private.dsn, private.err
}

const dirPrefix = "backendai-dbtest-"

func startPrivate(ctx context.Context) (string, error) {
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", err
	}
	private.dir = dir
	// Root's server runs as somebody else, who has to get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	port, err := embedded.FreePort()
	if err != nil {
		return "", err
	}
	s, err := embedded.New(embedded.Config{
		Dir: filepath.Join(dir, "postgres"), Port: port, MaxConns: 200,
		Settings: map[string]string{"shared_buffers": "64MB", "autovacuum": "off"},
	})
	if err != nil {
		return "", err
	}
	if err := s.Start(ctx); err != nil {
		return "", fmt.Errorf("start a private PostgreSQL: %w", err)
	}
	private.server = s
	if private.password, err = s.Password(); err != nil {
		return "", err
	}
	return s.DSN("postgres"), nil
}

// sweep removes what processes without Main left behind. A home whose lock can
// be taken has no owner; one that was only just made has none yet, and stays.
func sweep() {
	homes, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, home := range homes {
		info, err := os.Stat(home)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(home, "postgres", "lock"), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(home)
			continue
		}
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(home)
		}
		lock.Close()
	}
}

// Main runs the tests of a package and removes the private server afterwards:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop ends the private server, if one runs, and removes its files; for a
// TestMain that has more to do than Main. No database can be made afterwards.
func Stop() {
	if private.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = private.server.Stop(ctx)
	}
	if private.dir != "" {
		_ = os.RemoveAll(private.dir)
	}
}

// inUse: somebody is connected to the database.
func inUse(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == "55006"
}
