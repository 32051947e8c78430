package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait; machines under test are busy.
const patience = 3 * time.Minute

// machine is a place with both programs, and an account to run them as.
type machine struct {
	t       *testing.T
	bin     string
	data    string
	account *syscall.Credential // nil: the current one
}

// install puts the programs into a directory that every account can enter.
func install(t *testing.T) string {
	t.Helper()
	bin, err := os.MkdirTemp("", "backendai-up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(bin) })
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// As people run them: without the race detector, under which drawing keys alone takes longer than all the rest.
	for name, source := range map[string]string{"backend.ai": ".", "backend.ai-agent": "../agent"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return bin
}

// agentOnPath is a PATH with an agent's program that is never run.
func agentOnPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "backend.ai-agent"), []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + ":" + os.Getenv("PATH")
}

func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(m.bin, "backend.ai"), args...)
	cmd.Dir = m.bin
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.data}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.account, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a command to its end.
func (m *machine) run(args ...string) (code int, out, errs string) {
	m.t.Helper()
	cmd := m.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// cluster is a running `up`.
type cluster struct {
	m      *machine
	cmd    *exec.Cmd
	said   string        // until it was ready
	took   time.Duration // by the clock of the one who waits
	exited chan error
}

// up starts a cluster and returns when it says that it is ready.
func (m *machine) up(args ...string) *cluster {
	m.t.Helper()
	cmd := m.command(append([]string{"up", "--data", m.data, "--addr", "127.0.0.1:0"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	c := &cluster{m: m, cmd: cmd, exited: make(chan error, 1)}
	ready := make(chan string, 1)
	go func() {
		var said strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&said, lines.Text())
			if strings.Contains(lines.Text(), "^C stops it") {
				ready <- said.String()
			}
		}
		c.exited <- cmd.Wait()
	}()
	select {
	case c.said = <-ready:
	case err := <-c.exited:
		m.t.Fatalf("up ended: %v\n%s\n%s", err, errs.String(), m.logs())
	case <-time.After(patience):
		m.t.Fatalf("up is not ready: %s\n%s", errs.String(), m.logs())
	}
	c.took = time.Since(began)
	m.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return c
}

func (m *machine) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(m.data, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "%s:\n%s\n", f, text[max(0, len(text)-3000):])
	}
	return b.String()
}

// end sends a signal and waits for the end.
func (c *cluster) end(sig syscall.Signal) error {
	c.m.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.m.t.Fatal(err)
	}
	select {
	case err := <-c.exited:
		return err
	case <-time.After(patience):
		c.m.t.Fatal("up does not end:", c.m.logs())
		return nil
	}
}

// orphans are the processes that have become ours because their parents are gone: whatever a cluster leaves behind.
func orphans(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if fields[0] == "Z" {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		list = append(list, fmt.Sprintf("%d %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	return list
}

// TestUp: from nothing to a session, and over restarts of every kind.
func TestUp(t *testing.T) {
	// Whatever a cluster leaves behind becomes a child of this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	bin := install(t)
	t.Run("current user", func(t *testing.T) { testUp(t, &machine{t: t, bin: bin}) })
	if os.Geteuid() != 0 {
		return
	}
	t.Run("ordinary user", func(t *testing.T) {
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		testUp(t, &machine{t: t, bin: bin, account: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}})
	})
}

func testUp(t *testing.T, m *machine) {
	home, err := os.MkdirTemp("", "backendai-data")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if m.account != nil {
		if err := os.Chown(home, int(m.account.Uid), int(m.account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	m.data = filepath.Join(home, "cluster")
	onCluster := func(command string, args ...string) []string {
		return append([]string{command, "--data", m.data}, args...)
	}

	first := m.up("--check", "--agents", "2")
	if !regexp.MustCompile(`(?m)^Hello from Python 3\.\d+\.\d+: `).MatchString(first.said) {
		t.Errorf("no session printed a line: %s", first.said)
	}
	keys, err := os.ReadFile(filepath.Join(m.data, "client.env"))
	if err != nil || !regexp.MustCompile(`^BACKEND_ENDPOINT=http://127\.0\.0\.1:\d+\nBACKEND_ENDPOINT_TYPE=api\nBACKEND_ACCESS_KEY=AKIA\w+\nBACKEND_SECRET_KEY=\S+\nexport .*\n$`).Match(keys) {
		t.Errorf("%s %v", keys, err)
	}
	if st, err := os.Stat(filepath.Join(m.data, "client.env")); err != nil || st.Mode().Perm() != 0o600 {
		t.Error("the keys are not closed:", st, err)
	}
	if code, _, errs := m.run("up", "--data", m.data); code != 1 || !strings.Contains(errs, "running in "+m.data+" already") {
		t.Error("a second one in the same directory:", code, errs)
	}
	if code, out, errs := m.run(onCluster("run", "-q", "-s", "kept", "-c", "x = 41", "python")...); code != 0 {
		t.Fatal(code, out, errs, m.logs())
	}
	if code, out, errs := m.run(onCluster("run", "-q", "--rm", "-c", "echo to stderr >&2; exit 3", "bash")...); code != 3 || errs != "to stderr\n" {
		t.Error(code, out, errs)
	}
	var listed []struct{ Name, Status string }
	code, out, errs := m.run(onCluster("ps", "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != 0 || len(listed) != 1 || listed[0].Name != "kept" || listed[0].Status != "RUNNING" {
		t.Error(code, out, errs, err)
	}
	if code, out, errs = m.run("mgr", "-f", filepath.Join(m.data, "manager.toml"), "image", "list", "-i"); code != 0 || !strings.Contains(out, "cr.backend.ai/stable/python:3.") {
		t.Error(code, out, errs)
	}

	// Killed, it comes up again and finds the session with its variables.
	_ = first.end(syscall.SIGKILL)
	second := m.up("--agents", "2")
	if code, out, errs := m.run(onCluster("run", "-q", "-s", "kept", "-c", "print(x + 1)", "python")...); code != 0 || out != "42\n" {
		t.Error("after kill -9:", code, out, errs, m.logs())
	}
	if code, out, errs = m.run(onCluster("logs", "kept")...); code != 0 || !strings.Contains(out, "42") {
		t.Error(code, out, errs)
	}

	// Stopped, it leaves nothing behind.
	if err := second.end(syscall.SIGINT); err != nil {
		t.Error("exit after ^C:", err)
	}
	if left := orphans(t); len(left) > 0 {
		t.Errorf("processes were left behind: %q", left)
	}

	third := m.up("--agents", "2")
	if third.took > 5*time.Second {
		t.Errorf("a further start took %v", third.took)
	}
	t.Logf("first start %v, after kill -9 %v, after ^C %v", first.took.Round(time.Millisecond), second.took.Round(time.Millisecond), third.took.Round(time.Millisecond))
	if now, err := os.ReadFile(filepath.Join(m.data, "client.env")); err != nil || !bytes.Equal(now, keys) {
		t.Errorf("the keys have changed: %s %v", now, err)
	}
	code, out, errs = m.run(onCluster("ps", "-a", "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != 0 || len(listed) != 3 {
		t.Error("what was before is forgotten:", code, out, errs)
	}
	if err := third.end(syscall.SIGTERM); err != nil {
		t.Error("exit after SIGTERM:", err)
	}
	if left := orphans(t); len(left) > 0 {
		t.Errorf("processes were left behind: %q", left)
	}
}
