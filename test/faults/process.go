package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// program is a process that is started, and started again.
type program struct {
	Name string
	args []string
	log  string // file that gets its output

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	err     error
	onStart func(pid int)
	onExit  func(pid int)
}

func newProgram(dir, name string, args ...string) *program {
	return &program{Name: name, args: args, log: filepath.Join(dir, name+".log")}
}

// Start starts it; its output is added to its log. It ends with this process.
func (p *program) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.err = cmd, done, nil
	if p.onStart != nil {
		p.onStart(cmd.Process.Pid)
	}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		if p.onExit != nil {
			p.onExit(cmd.Process.Pid)
		}
		close(done)
	}()
	return nil
}

// PID of its process, 0 before the first.
func (p *program) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal to the process, if it runs.
func (p *program) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig)
	}
}

// Done is closed when the present process has ended.
func (p *program) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Err says how the last process ended.
func (p *program) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Stop ends it: politely, and after a while by force.
func (p *program) Stop(sig syscall.Signal, patience time.Duration) {
	done := p.Done()
	if done == nil {
		return
	}
	p.Signal(sig)
	select {
	case <-done:
	case <-time.After(patience):
		p.Signal(syscall.SIGKILL)
		<-done
	}
}

// tail is the end of its log.
func (p *program) tail(n int) string {
	text, _ := os.ReadFile(p.log)
	if len(text) > n {
		text = text[len(text)-n:]
	}
	return string(text)
}
