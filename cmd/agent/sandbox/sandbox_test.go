package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case ProbeCommand:
			if err := ProbeMain(); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Exit(0)
		case "enter": // SPEC COMMAND: enter and run a shell command
			var s Spec
			if err := json.Unmarshal([]byte(os.Args[2]), &s); err != nil {
				panic(err)
			}
			if err := Enter(s); err != nil {
				fmt.Println("cannot enter:", err)
				os.Exit(1)
			}
			panic(syscall.Exec("/bin/sh", []string{"sh", "-c", os.Args[3]}, []string{"PATH=" + Path}))
		case "exec-again": // N: become this program anew N times, each time from another thread than the first
			n, err := strconv.Atoi(os.Args[2])
			if err != nil {
				panic(err)
			}
			if n == 0 {
				os.Exit(0)
			}
			go func() {
				runtime.LockOSThread()
				panic(syscall.Exec("/proc/self/exe", []string{os.Args[0], os.Args[1], strconv.Itoa(n - 1)}, nil))
			}()
			runtime.LockOSThread() // main stays on the first
			select {}
		}
	}
	os.Exit(m.Run())
}

func account() Account {
	if os.Getuid() == 0 {
		return Account{64000, 64000}
	}
	return Account{os.Getuid(), os.Getgid()}
}

// enter runs a command inside and returns what it prints.
func enter(t *testing.T, i Isolation, change func(*Spec), command string) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	s := Spec{Isolation: i, Account: account().Inside(i), Hostname: "main1", Hosts: []string{"sub1"}}
	for name, path := range map[string]*string{"root": &s.Root, "work": &s.Work, "tmp": &s.Tmp, "config": &s.Config} {
		*path = filepath.Join(dir, name)
		os.Mkdir(*path, 0o777)
		os.Chmod(*path, 0o777)
	}
	if change != nil {
		change(&s)
	}
	raw, _ := json.Marshal(s)
	cmd := exec.Command("/proc/self/exe", "enter", string(raw), command)
	cmd.SysProcAttr = Attributes(i, nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", i, err, out)
	}
	return strings.TrimSpace(string(out))
}

func works(t *testing.T) Isolation {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	i := Probe(context.Background(), dir, account(), "", slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Logf("isolation here: %s", i)
	return i
}

func TestInside(t *testing.T) {
	best := works(t)
	for _, i := range degrees {
		if best != Namespaces && i == Namespaces || best == Process && i == Mounts {
			continue
		}
		t.Run(string(i), func(t *testing.T) {
			if who := enter(t, i, nil, "id -u; pwd; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status"); !strings.Contains(who, "CapEff:\t0000000000000000") || !strings.Contains(who, "NoNewPrivs:\t1") || strings.HasPrefix(who, "0\n") {
				t.Errorf("privileges inside: %s", who)
			}
			if !i.HasMounts() {
				return
			}
			if got := enter(t, i, nil, "id -un; pwd; hostname; ls /home; grep -c sub1 /etc/hosts; ls -d /root /srv 2>/dev/null || true"); got != "work\n/home/work\nmain1\nconfig\nwork\n1" {
				t.Errorf("surroundings: %q", got)
			}
			if got := enter(t, i, nil, "echo x >/home/work/f && cat /home/work/f; echo y >/tmp/g && cat /tmp/g; touch /usr/x /home/config/x /x 2>/dev/null || echo refused; echo z >/dev/null; ls /dev/shm"); got != "x\ny\nrefused" {
				t.Errorf("writing: %q", got)
			}
		})
	}
	if best == Namespaces {
		if got := enter(t, best, nil, "echo $$; ls /proc | grep -c '^[0-9]'"); !strings.HasPrefix(got, "1\n") {
			t.Errorf("processes seen: %q", got)
		}
	}
}

func TestFoldersAreMountedInside(t *testing.T) {
	i := works(t)
	if !i.HasMounts() {
		t.Log("no mounts here; links are tested with the agent")
		return
	}
	folder := t.TempDir()
	os.Chmod(folder, 0o755)
	os.Chmod(filepath.Dir(folder), 0o755)
	os.WriteFile(filepath.Join(folder, "data"), []byte("d"), 0o644)
	got := enter(t, i, func(s *Spec) {
		s.Mounts = []Mount{{folder, "/home/work/v", true}, {folder, "/data/deep", false}}
		// Left behind by user code: a link that must not lead the mount outside.
		os.Symlink("/etc", filepath.Join(s.Work, "w"))
		s.Mounts = append(s.Mounts, Mount{folder, "/home/work/w/x", true})
	}, "cat /home/work/v/data /data/deep/data /etc/x/data; touch /home/work/v/n 2>/dev/null || echo ro; ls -d /.mounts 2>/dev/null || true")
	if got != "dddro" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat("/etc/x"); err == nil {
		t.Error("a mount point was made outside")
	}
}

func TestLimits(t *testing.T) {
	if got := enter(t, Process, func(s *Spec) { s.Files = 77 }, "ulimit -n; ulimit -c"); got != "77\n0" {
		t.Errorf("got %q", got)
	}
}

func TestKillTreeLeavesNothing(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "setsid sh -c 'sleep 1000 & sleep 1000 & wait' & (sleep 1000 &) ; echo ready; wait")
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	birth, err := Birth(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	list := Tree(cmd.Process.Pid)
	if len(list) < 2 {
		t.Fatalf("tree: %v", list)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := KillTree(ctx, cmd.Process.Pid, birth+1); err != nil || len(Tree(cmd.Process.Pid)) < 2 {
		t.Fatal("another process than the one named was killed")
	}
	go cmd.Wait()
	if err := KillTree(ctx, cmd.Process.Pid, birth); err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if _, err := Birth(p); err == nil {
			t.Errorf("process %d lives", p)
		}
	}
}

// A kernel's process becomes another program right after its start, from any of its threads: while Linux lets that thread take the
// place of the first, that one is a zombie, and the process lives.
func TestProcessThatBecomesAnotherProgramLives(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "exec-again", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen, died := 0, 0
	var born uint64
	for done := false; !done; seen++ {
		birth, err := Birth(cmd.Process.Pid)
		if errors.Is(err, os.ErrProcessDone) {
			died++
		}
		if born == 0 {
			born = birth
		}
		if err == nil && birth != born {
			t.Fatalf("born at %d, then at %d", born, birth)
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		if done = info.Signo != 0; done && errors.Is(err, os.ErrProcessDone) {
			died-- // it may have ended between the two
		}
	}
	if _, err := Birth(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a zombie lives: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if died > 0 {
		t.Errorf("of %d looks %d found a living process dead", seen, died)
	}
}

func TestParseIsolation(t *testing.T) {
	if i, err := ParseIsolation("auto"); i != "" || err != nil {
		t.Error(i, err)
	}
	if _, err := ParseIsolation("jail"); err == nil {
		t.Error("accepted")
	}
}
