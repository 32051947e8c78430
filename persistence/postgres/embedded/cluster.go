package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
)

// locales to try in order. C.UTF-8 compares bytes, like C, but knows the letters
// of all languages; not every system has it.
var locales = []string{"C.UTF-8", "C"}

// makeCluster runs initdb unless there is a cluster. It works in another
// directory and renames it, so that data/ is there whole or not at all.
func (s *Server) makeCluster(ctx context.Context, in Installation) error {
	if _, err := os.Stat(s.dataDir()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.say("Creating a PostgreSQL %d database cluster", in.Major)
	if err := s.makePassword(); err != nil {
		return err
	}
	var err error
	for _, locale := range locales {
		if err = s.initdb(ctx, in, locale); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(s.path("data.new"), s.dataDir())
}

func (s *Server) initdb(ctx context.Context, in Installation, locale string) error {
	fresh := s.path("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	args := []string{"-D", fresh, "-U", Superuser, "-E", "UTF8", "--locale=" + locale,
		"--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=" + s.path("password")}
	if !s.cfg.Fsync {
		args = append(args, "--no-sync")
	}
	cmd := exec.Command(filepath.Join(in.Bin, "initdb"), args...)
	cmd.Dir, cmd.Env = s.cfg.Dir, environment()
	cmd.SysProcAttr = s.account.attributes()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := spawn(cmd, syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(syscall.SIGTERM)
		<-p.done
		return ctx.Err()
	}
	if p.err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "initdb failed: %s", lastLines(out.String())).WithCause(p.err)
	}
	return nil
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}

// makePassword writes a new password where initdb, run as the account, can read it.
func (s *Server) makePassword() error {
	if err := os.WriteFile(s.path("password"), []byte(backendai.RandomToken(24)+"\n"), 0o600); err != nil {
		return err
	}
	return s.account.give(s.path("password"))
}

// EnsureDatabase makes a database unless it exists.
func (s *Server) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil || exists {
		return err
	}
	s.say("Creating the database %s", name)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}
