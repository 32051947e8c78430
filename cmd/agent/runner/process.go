package runner

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reaper starts processes, and collects those that lost their parents when this process is theirs by law: the first of a PID
// namespace, or a sub-reaper.
type Reaper struct {
	// DataBytes limits the private memory of each process that is started, and of its descendants; 0: no limit. It is the
	// stand-in for a cgroup. This process itself has no such limit: a Go program reserves more than it uses.
	DataBytes int64

	mu  sync.Mutex // held while a process is started, so that it cannot end unknown
	own map[int]bool
}

// NewReaper returns one that only starts processes until ReapOrphans is called.
func NewReaper() *Reaper {
	if signal.Ignored(os.Interrupt) {
		// As in everything started in the background by a shell. Children would inherit that and could not be interrupted;
		// a signal that is caught is at its default in them.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	return &Reaper{own: map[int]bool{}}
}

// Start starts cmd and calls done once it has ended, from another goroutine.
func (r *Reaper) Start(cmd *exec.Cmd, done func(exit int)) error {
	r.mu.Lock()
	err := cmd.Start()
	if err == nil {
		r.own[cmd.Process.Pid] = true
		if r.DataBytes > 0 {
			limit := unix.Rlimit{Cur: uint64(r.DataBytes), Max: uint64(r.DataBytes)}
			unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &limit, nil)
		}
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	go func() {
		cmd.Wait()
		r.mu.Lock()
		delete(r.own, cmd.Process.Pid)
		r.mu.Unlock()
		done(exitCode(cmd.ProcessState))
	}()
	return nil
}

// exitCode is what a shell would say: 128 and the signal for a process that was killed.
func exitCode(s *os.ProcessState) int {
	if s == nil {
		return -1
	}
	if ws, ok := s.Sys().(interface {
		Signaled() bool
	}); ok && ws.Signaled() {
		return 128 + int(signalOf(s))
	}
	return s.ExitCode()
}

// ReapOrphans collects ended processes that Start did not start, until the end of this process.
func (r *Reaper) ReapOrphans() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			for r.reapOne() {
			}
		}
	}()
}

// reapOne tells whether there may be more.
func (r *Reaper) reapOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid := peek()
	if pid <= 0 {
		return false
	}
	if r.own[pid] { // its own goroutine is about to collect it
		r.mu.Unlock()
		time.Sleep(time.Millisecond)
		r.mu.Lock()
		return true
	}
	var ws unix.WaitStatus
	unix.Wait4(pid, &ws, unix.WNOHANG, nil)
	return true
}
