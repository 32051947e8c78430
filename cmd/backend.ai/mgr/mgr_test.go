package mgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/images"
	"backend.ai/manager/persistence/redis/embedded"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// command runs a command line and returns exit code, stdout and stderr.
func command(t *testing.T, stdin string, args ...string) (int, string, string) {
	t.Helper()
	root := console.Group("backend.ai", "", Command())
	console.Prepare(root)
	var out, errs bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	code := console.Execute(t.Context(), root)
	return code, out.String(), errs.String()
}

// site is a manager.toml with real stores behind it; the working directory is where it lies.
func site(t *testing.T, db postgres.Config, etcd string) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	text := fmt.Sprintf(`[etcd]
namespace = "test"
addr = %q
[db]
addr = %q
name = %q
user = %q
password = %q
[logging]
level = "INFO"
[logging.console]
colored = false
format = "simple"
`, etcd, db.Addr, db.Name, db.User, db.Password)
	if err := os.WriteFile(filepath.Join(dir, "manager.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTranscripts runs the command lines of testdata against real stores. Below "run" stand the words after mgr, and then standard input;
// quotes group words. Lines of stderr begin with "!".
func TestTranscripts(t *testing.T) {
	testdata, err := filepath.Abs("testdata") // commands change the working directory
	if err != nil {
		t.Fatal(err)
	}
	datadriven.Walk(t, testdata, func(t *testing.T, path string) {
		redis, err := embedded.New(embedded.Config{Dir: t.TempDir()})
		if err == nil {
			err = redis.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = redis.Stop(t.Context()) }()
		db := dbtest.Config(t)
		site(t, db, etcdtest.New(t).Endpoint)
		if code, _, errs := command(t, "", "mgr", "etcd", "put", "config/redis/addr", redis.Addr()); code != 0 {
			t.Fatal(errs)
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "file":
				name := d.CmdArgs[0].Key
				if err := os.WriteFile(name, []byte(d.Input), 0o600); err != nil {
					t.Fatal(err)
				}
				return ""
			case "image":
				pool, err := postgres.Connect(t.Context(), db)
				if err != nil {
					t.Fatal(err)
				}
				defer pool.Close()
				ref, err := backendai.ParseImageRef(d.CmdArgs[0].Key, backendai.AnyRegistry, d.CmdArgs[1].Key)
				if err != nil {
					t.Fatal(err)
				}
				if err := images.Put(t.Context(), pool, images.Image{
					Canonical: ref.Canonical(), Registry: ref.Registry, Name: ref.Name, Tag: ref.Tag, Architecture: ref.Architecture, Digest: "sha256:00", Labels: map[string]string{"l": "1"},
				}); err != nil {
					t.Fatal(err)
				}
				return ""
			case "run":
				line, stdin, _ := strings.Cut(d.Input, "\n")
				code, out, errs := command(t, stdin, append([]string{"mgr"}, split(line)...)...)
				shown := out
				for _, line := range strings.Split(strings.TrimSpace(errs), "\n") {
					if line != "" {
						shown += "! " + line + "\n"
					}
				}
				if code != 0 {
					shown += fmt.Sprintf("exit code %d\n", code)
				}
				if shown == "" {
					shown = "ok\n"
				}
				return strings.ReplaceAll(shown, redis.Addr(), "REDIS")
			}
			t.Fatalf("what is %q?", d.Cmd)
			return ""
		})
	})
}

// split parts words at blanks, but not within single quotes.
func split(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

func TestHelpNeedsNoConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	for _, args := range [][]string{{"mgr"}, {"mgr", "etcd", "--help"}, {"mgr", "start-server", "-h"}, {"mgr", "dbshell", "--help"}, {"mgr", "schema", "oneshot", "-h"}, {"mgr", "generate-keypair"}, {"mgr", "sample-config"}} {
		if code, out, errs := command(t, "", args...); code != 0 || out == "" || errs != "" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	code, _, errs := command(t, "", "mgr", "etcd", "get", "x")
	if code != 1 || !strings.Contains(errs, "no configuration file") {
		t.Error(code, errs)
	}
	code, _, errs = command(t, "", "mgr", "-f", "/nowhere/a.toml", "start-server", "-f", "/nowhere/b.toml")
	if code != 1 || !strings.Contains(errs, "/nowhere/b.toml") {
		t.Error("the command's own flag does not win:", code, errs)
	}
}

func TestSchemaOneshot(t *testing.T) {
	pool := dbtest.Empty(t)
	cc := pool.Config().ConnConfig
	db := dbtest.Config(t)
	db.Name = cc.Database
	site(t, db, "127.0.0.1:1")
	for i, args := range [][]string{{"show"}, {"oneshot"}, {"oneshot", "head"}, {"show"}} {
		code, out, errs := command(t, "", append([]string{"mgr", "schema"}, args...)...)
		wants := [][]string{{"Current database revision: None"}, {"Detected a fresh new database.", "Creating tables..."}, {"Detected an existing database."}, {"Current database revision: 81c264528f20"}}
		for _, want := range wants[i] {
			if code != 0 || !strings.Contains(out+errs, want) {
				t.Errorf("%v: %d %q %q, want %q", args, code, out, errs, want)
			}
		}
	}
	// The INI file wins, and is enough.
	if err := os.WriteFile("alembic.ini", []byte("[alembic]\nsqlalchemy.url = postgresql://u:p@127.0.0.1:1/elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := command(t, "", "mgr", "schema", "show")
	if code != 1 || !strings.Contains(errs, "different databases") || strings.Contains(errs, ":p@") {
		t.Error(code, errs)
	}
}

// TestStartServer: from the command line to an answering API, and an orderly end.
func TestStartServer(t *testing.T) {
	redis, err := embedded.New(embedded.Config{Dir: t.TempDir()})
	if err == nil {
		err = redis.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = redis.Stop(t.Context()) }()
	dir := site(t, dbtest.Config(t), etcdtest.New(t).Endpoint)
	if code, _, errs := command(t, "", "mgr", "etcd", "put", "config/redis/addr", redis.Addr()); code != 0 {
		t.Fatal(errs)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "manager.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(dir, "pid")
	more := fmt.Sprintf("[manager]\nservice-addr = %q\npid-file = %q\n[actors]\nshards = 8\n", addr, pid)
	if err := os.WriteFile(file, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	root := console.Group("backend.ai", "", Command())
	console.Prepare(root)
	errs := &watched{wanted: "started handling API requests", seen: make(chan struct{})}
	root.SetErr(errs)
	root.SetArgs([]string{"mgr", "start-server", "-f", file, "--debug"})
	ended := make(chan int, 1)
	go func() { ended <- console.Execute(ctx, root) }()
	select {
	case <-errs.seen:
	case code := <-ended:
		t.Fatal(code, errs.String())
	case <-time.After(time.Minute):
		t.Fatal("the manager does not get ready: ", errs.String())
	}
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	if raw, err := os.ReadFile(pid); err != nil || string(raw) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%q %v", raw, err)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Error(code, errs.String())
	}
	if _, err := os.Stat(pid); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the PID file stayed:", err)
	}
	for _, want := range []string{"== Manager configuration ==", "terminated."} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in %s", want, errs.String())
		}
	}
	if password := dbPassword(text); password == "" || strings.Contains(errs.String(), password) {
		t.Error("the password shows")
	}
}

// watched is a log that tells when it says something.
type watched struct {
	mu     sync.Mutex
	text   strings.Builder
	wanted string
	seen   chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if w.wanted != "" && strings.Contains(w.text.String(), w.wanted) {
		close(w.seen)
		w.wanted = ""
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// dbPassword is the password in a manager.toml of site.
func dbPassword(text []byte) string {
	_, rest, _ := strings.Cut(string(text), "password = \"")
	password, _, _ := strings.Cut(rest, "\"")
	return password
}

func TestAccountOf(t *testing.T) {
	if a, err := accountOf("", ""); err != nil || a.drop {
		t.Error(a, err)
	}
	if os.Geteuid() != 0 {
		if a, err := accountOf("nobody", ""); err != nil || a.drop {
			t.Error("only root can change its user:", a, err)
		}
		return
	}
	byName, err := accountOf("nobody", "")
	byNumber, err2 := accountOf(strconv.Itoa(byName.uid), "")
	if err != nil || err2 != nil || byName.uid == 0 || !cmp.Equal(byName, byNumber, cmp.AllowUnexported(account{})) {
		t.Error(byName, byNumber, err, err2)
	}
	if _, err := accountOf("no-such-user", ""); err == nil {
		t.Error("an unknown user is accepted")
	}
}

func TestAlembicURL(t *testing.T) {
	for _, c := range []struct{ text, want, addr string }{
		{"[alembic]\nscript_location = x:y\nsqlalchemy.url = postgresql://u:p%%40w@db:5/n\n", "postgresql://u:p%40w@db:5/n", "db:5"},
		{"# c\n[other]\nsqlalchemy.url = no\n[alembic]\nsqlalchemy.url: postgresql+psycopg2://u:p@db/%(here)s\n", "postgresql+psycopg2://u:p@db//etc/x", "db:5432"},
		{"[alembic]\nsqlalchemy.url = sqlite:///x\n", "sqlite:///x", ""},
		{"[alembic]\n", "", ""},
		{"[alembic]\nsqlalchemy.url = postgresql://u:secret@:1/n\n", "postgresql://u:secret@:1/n", ""},
	} {
		got, err := alembicURL("/etc/x/alembic.ini", []byte(c.text))
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q %v", c.text, got, err)
		}
		db, err := databaseURL("x", got)
		if db.Addr != c.addr || (err == nil) != (c.addr != "") || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v %v", got, db.Addr, err)
		}
	}
}

func TestPsqlArguments(t *testing.T) {
	for line, want := range map[string]psqlArgs{
		"-c x -f y":                {rest: []string{"-c", "x", "-f", "y"}},
		"--psql-container - --csv": {container: "-", rest: []string{"--csv"}},
		"--psql-container=db -h":   {container: "db", help: true},
		"--psql-help":              {rest: []string{"--help"}},
	} {
		got, err := parsePsql(strings.Fields(line))
		if d := cmp.Diff(want, got, cmp.AllowUnexported(psqlArgs{})); d != "" || err != nil {
			t.Error(line, d, err)
		}
	}
	if _, err := parsePsql([]string{"--psql-container"}); err == nil {
		t.Error("a missing name is accepted")
	}
}

func TestPsqlGetsThePasswordUnseen(t *testing.T) {
	bin := t.TempDir()
	psql := filepath.Join(bin, "psql")
	if err := os.WriteFile(psql, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	site(t, postgres.Config{Addr: "db:5432", Name: "backend", User: "u", Password: "hunter2"}, "127.0.0.1:1")
	t.Setenv("PATH", bin)
	var argv, env []string
	before := replaceProcess
	replaceProcess = func(_ string, a, e []string) error { argv, env = a, e; return nil }
	defer func() { replaceProcess = before }()
	if code, _, errs := command(t, "", "mgr", "dbshell", "-c", "SELECT 1"); code != 0 {
		t.Fatal(errs)
	}
	if d := cmp.Diff([]string{"psql", "postgres://u@db:5432/backend", "-c", "SELECT 1"}, argv); d != "" {
		t.Error(d)
	}
	if !strings.Contains(strings.Join(env, " "), "PGPASSWORD=hunter2") {
		t.Error("no password")
	}
	if code, _, errs := command(t, "", "mgr", "dbshell", "--psql-container", "c"); code != 1 || !strings.Contains(errs, "no docker") {
		t.Error(code, errs)
	}
}
