package up

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	backendai "backend.ai/manager"
)

// agentProgram is the name of the bundled agent's program.
const agentProgram = "backend.ai-agent"

// findAgent is the bundled agent: beside our own program, else in PATH. Errors: ServerMisconfigured.
func findAgent() (string, error) {
	own, err := os.Executable()
	if err == nil {
		if real, err := filepath.EvalSymlinks(own); err == nil {
			own = real
		}
		beside := filepath.Join(filepath.Dir(own), agentProgram)
		if st, err := os.Stat(beside); err == nil && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath(agentProgram)
	if err != nil {
		return "", backendai.Errorf(backendai.ServerMisconfigured, "the program %s is neither beside %s nor in PATH; `make build` makes both", agentProgram, own)
	}
	return path, nil
}

// child is a process that ends when this one does, however that ends.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid once done is closed
}

// spawn starts cmd away from the terminal's signals: a ^C there is for this process, which stops its children in its own order. To the
// operating system the child's parent is the thread that forked it, so one thread is kept for the child's whole life.
func spawn(cmd *exec.Cmd, orphaned syscall.Signal) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, orphaned)
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

func (c *child) signal(sig syscall.Signal) { _ = c.cmd.Process.Signal(sig) }

// stop sends a signal and waits; when the time is over the process is killed.
func (c *child) stop(sig syscall.Signal, over <-chan struct{}) {
	c.signal(sig)
	select {
	case <-c.done:
	case <-over:
		c.signal(syscall.SIGKILL)
		<-c.done
	}
}

// withArgument lists the processes of a program that were started with an argument, other than this one. Zombies have no arguments.
func withArgument(program, argument string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		args := bytes.Split(bytes.TrimSuffix(raw, []byte{0}), []byte{0})
		if filepath.Base(string(args[0])) == program && slices.ContainsFunc(args[1:], func(a []byte) bool { return string(a) == argument }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// evict ends orphans: politely for a while, then for good.
func evict(find func() []int, sig syscall.Signal, patience time.Duration) {
	deadline := time.Now().Add(patience)
	for pids := find(); len(pids) > 0; pids = find() {
		if time.Now().After(deadline) {
			sig = syscall.SIGKILL
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, sig)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
