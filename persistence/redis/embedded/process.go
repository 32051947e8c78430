package embedded

import (
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that ends when this process does.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// spawn starts cmd. To the operating system the child's parent is the thread that forked it, so one thread is kept for the child's life.
func spawn(cmd *exec.Cmd, parentDied syscall.Signal) (*process, error) {
	dieWithParent(cmd.SysProcAttr, parentDied)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }
