package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/agent/runner"
	"backend.ai/manager/cmd/agent/sandbox"
)

func TestMain(m *testing.M) {
	Dispatch(os.Args[1:])
	os.Exit(m.Run())
}

func startHost(t *testing.T, change func(*Spec)) (*Client, int) {
	t.Helper()
	list := images.Detect(context.Background(), os.Getuid() == 0)
	if len(list) == 0 || list[0].Runtime != images.RuntimePython {
		t.Fatal("these tests need python3")
	}
	dir := t.TempDir()
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	account := sandbox.Account{UID: os.Getuid(), GID: os.Getgid()}
	if os.Getuid() == 0 {
		account = sandbox.Account{UID: 64000, GID: 64000}
	}
	i := sandbox.Probe(context.Background(), dir, account, "", slog.New(slog.DiscardHandler))
	s := Spec{KernelID: "k", ServiceHost: "127.0.0.1", Sandbox: sandbox.Spec{Isolation: i, Account: account.Inside(i), Hostname: "main1", Prefixes: list[0].Prefixes}}
	for name, path := range map[string]*string{"root": &s.Sandbox.Root, "work": &s.Sandbox.Work, "tmp": &s.Sandbox.Tmp, "config": &s.Sandbox.Config} {
		*path = filepath.Join(dir, name)
		os.Mkdir(*path, 0o777)
		os.Chmod(*path, 0o777)
	}
	scripts := s.Sandbox.Config
	if i.HasMounts() {
		scripts = "/home/config"
	}
	for name, text := range runner.Scripts() {
		os.WriteFile(filepath.Join(s.Sandbox.Config, name), text, 0o644)
	}
	s.Runner = runner.Config{Runtime: images.RuntimePython, Path: list[0].Path, Scripts: scripts, Dir: s.Sandbox.Home(), Env: []string{"PATH=" + sandbox.Path, "HOME=" + s.Sandbox.Home(), "LANG=C.UTF-8"}}
	if change != nil {
		change(&s)
	}
	c, cmd, err := Start(dir, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	birth, err := sandbox.Birth(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		go cmd.Wait()
		if err := sandbox.KillTree(ctx, cmd.Process.Pid, birth); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err, c.Complaint())
	}
	return c, cmd.Process.Pid
}

func ten(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func show(r Result) string {
	text := r.Status
	if r.ExitCode != nil {
		text += fmt.Sprintf(" %d", *r.ExitCode)
	}
	for _, i := range r.Console {
		text += fmt.Sprintf(" %s:%q", i.Type, i.Text+string(i.Data))
	}
	return text
}

func execute(t *testing.T, c *Client, q Request) string {
	t.Helper()
	r, err := c.Execute(ten(t), q)
	if err != nil {
		t.Fatal(err)
	}
	return show(r)
}

func check(t *testing.T, c *Client, q Request, want string) {
	t.Helper()
	if got := execute(t, c, q); got != want {
		t.Errorf("%+v\n gave %s\nwant %s", q, got, want)
	}
}

func ptr[T any](v T) *T { return &v }

func TestHostRunsCode(t *testing.T) {
	c, _ := startHost(t, func(s *Spec) {
		s.Bootstrap = true
		os.WriteFile(filepath.Join(s.Sandbox.Work, "bootstrap.sh"), []byte("echo from bootstrap; touch booted"), 0o644)
	})
	check(t, c, Request{RunID: "1", Mode: "query", Code: "import os; x = 1; print(os.listdir('.'))"}, `finished 0 stdout:"['bootstrap.sh', 'booted']\n"`)
	check(t, c, Request{RunID: "2", Mode: "query", Code: "x"}, `finished 0 stdout:"1\n"`)
	check(t, c, Request{RunID: "2", Mode: "continue"}, "finished 0")
	check(t, c, Request{RunID: "3", Mode: "batch", Exec: ptr("echo out; echo err >&2; exit 3")}, "clean-finished 0")
	check(t, c, Request{RunID: "3", Mode: "continue"}, "build-finished 0")
	check(t, c, Request{RunID: "3", Mode: "continue"}, `finished 3 stdout:"out\n" stderr:"err\n"`)
	check(t, c, Request{RunID: "4", Mode: "batch", Build: ptr("exit 2"), Exec: ptr("*")}, "clean-finished 0")
	check(t, c, Request{RunID: "4", Mode: "continue"}, "build-finished 2")
	check(t, c, Request{RunID: "4", Mode: "continue"}, "finished 127")
	check(t, c, Request{RunID: "5", Mode: "query", Code: "input('? ')"}, `waiting-input stdout:"? "`)
	check(t, c, Request{RunID: "5", Mode: "continue"}, `waiting-input`)
	check(t, c, Request{RunID: "5", Mode: "input", Code: "a"}, `finished 0 stdout:"'a'\n"`)
	check(t, c, Request{RunID: "6", Mode: "query", Code: "import time; print('x'); time.sleep(1000)", FlushSeconds: ptr(1.0)}, `continued stdout:"x\n"`)
	if err := c.Interrupt(ten(t)); err != nil {
		t.Fatal(err)
	}
	if got := execute(t, c, Request{RunID: "6", Mode: "continue"}); !strings.Contains(got, "KeyboardInterrupt") {
		t.Error(got)
	}
	if list, err := c.Complete(ten(t), "impo"); err != nil || len(list) != 1 || strings.TrimSpace(list[0]) != "import" {
		t.Error(list, err)
	}
	if _, err := c.Execute(ten(t), Request{RunID: "nope", Mode: "continue"}); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Error(err)
	}
	log, _ := os.ReadFile(filepath.Join(c.dir, LogFile))
	for _, want := range []string{"Kernel started at", "from bootstrap", "err\n"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

func TestInterpreterDiesHostLives(t *testing.T) {
	c, _ := startHost(t, nil)
	if got := execute(t, c, Request{RunID: "1", Mode: "query", Code: "import os; os.abort()"}); !strings.HasPrefix(got, "finished 134") {
		t.Error(got)
	}
	check(t, c, Request{RunID: "2", Mode: "query", Code: "6*7"}, `finished 0 stdout:"42\n"`)
}

func TestServices(t *testing.T) {
	c, _ := startHost(t, nil)
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	s := Service{Name: "http-server", Protocol: "http", Port: port}
	for _, want := range []string{"started", "running"} {
		if got, err := c.StartService(ten(t), s); err != nil || got.Status != want {
			t.Fatal(got, err)
		}
	}
	execute(t, c, Request{RunID: "1", Mode: "query", Code: "open('hello', 'w').write('there')"})
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/hello", port))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := c.StopService(ten(t), "http-server"); err != nil {
		t.Error(err)
	}
	if got, err := c.StartService(ten(t), Service{Name: "own", Port: 1}); err != nil || got.Status != "failed" {
		t.Error(got, err)
	}
}

func TestShutdownEndsEverything(t *testing.T) {
	c, pid := startHost(t, nil)
	execute(t, c, Request{RunID: "1", Mode: "query", Code: "import os; os.system('setsid sleep 1000 &');"})
	list := sandbox.Tree(pid)
	if len(list) < 3 {
		t.Errorf("processes: %v", list)
	}
	if err := c.Shutdown(ten(t), time.Second); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		alive := 0
		for _, p := range list {
			if _, err := sandbox.Birth(p); err == nil {
				alive++
			}
		}
		if alive == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("processes are left")
		}
		<-time.After(5 * time.Millisecond)
	}
	if err := c.Ready(ten(t)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// fake runs nothing.
type fake struct{ runs *Runs }

func (f *fake) Query(code string) error { return nil }
func (f *fake) Batch(a, b, c *string)   {}
func (f *fake) Input(text string) error {
	f.runs.Output("stdout", text)
	f.runs.Finish(StatusFinished, 0)
	return nil
}

func TestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		r := NewRuns(f)
		f.runs = r
		ctx := context.Background()
		must := func(q Request, want string) Result {
			t.Helper()
			res, err := r.Execute(ctx, q)
			if err != nil || show(res) != want {
				t.Errorf("%+v gave %s, %v; want %s", q, show(res), err, want)
			}
			return res
		}
		flush := ptr(2.0)
		began := time.Now()
		must(Request{RunID: "a", Mode: "query", FlushSeconds: flush}, "continued")
		if time.Since(began) != 2*time.Second {
			t.Error("flush time not kept")
		}
		r.Output("stdout", "1")
		r.Output("stdout", "2")
		r.Output("stderr", "3")
		r.Rich("html", json.RawMessage(`"h"`))
		res := must(Request{RunID: "a", Mode: "continue", FlushSeconds: flush}, `continued stdout:"12" stderr:"3" html:"\"h\""`)
		r.Output("stderr", "4")
		r.GiveBack(res) // it never arrived
		must(Request{RunID: "a", Mode: "continue", FlushSeconds: flush}, `continued stdout:"12" stderr:"3" html:"\"h\"" stderr:"4"`)

		started := make(chan string)
		go func() { // another run waits
			res, err := r.Execute(ctx, Request{RunID: "b", Mode: "query", FlushSeconds: flush})
			started <- fmt.Sprint(show(res), err)
		}()
		synctest.Wait()
		r.AskInput(true)
		res = must(Request{RunID: "a", Mode: "continue"}, "waiting-input")
		if !res.IsPassword {
			t.Error("not a password")
		}
		res = must(Request{RunID: "a", Mode: "input", Code: "x"}, `finished 0 stdout:"x"`)
		if got := <-started; !strings.HasPrefix(got, "continued") {
			t.Error(got)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := r.Execute(gone, Request{RunID: "b", Mode: "continue"}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		r.Output("stdout", strings.Repeat("x", maxQueued-10))
		r.Output("stdout", strings.Repeat("y", 20))
		r.Output("stdout", strings.Repeat("z", 20))
		r.Finish(StatusFinished, 1)
		res, _ = r.Execute(ctx, Request{RunID: "b", Mode: "continue"})
		if len(res.Console) != 2 || len(res.Console[0].Text) != maxQueued-10 || !strings.Contains(res.Console[1].Text, "left out") {
			t.Error("output without bounds")
		}
	})
}

func TestLogKeepsTheEnd(t *testing.T) {
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l, _ := NewLog(file, 1000)
	for i := range 500 {
		l.WriteString(fmt.Sprintf("line %d\n", i))
		if l.size > 1000 {
			t.Fatal("too long")
		}
	}
	raw, _ := os.ReadFile(file.Name())
	if !strings.HasSuffix(string(raw), "line 498\nline 499\n") || len(raw) < 400 {
		t.Errorf("%d bytes: …%q", len(raw), raw[len(raw)-20:])
	}
}
