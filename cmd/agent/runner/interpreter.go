package runner

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"backend.ai/manager/cmd/agent/images"

	"golang.org/x/sys/unix"
)

// Interpreter keeps one interpreter running. Its methods may be called from any goroutine.
type Interpreter struct {
	config Config
	reaper *Reaper
	sink   Sink

	mu       sync.Mutex
	commands *os.File // nil: it is not running
	pid      int
	run      chan struct{} // closed when the code that runs has ended; nil: none runs
}

// NewInterpreter returns an interpreter that Ensure starts. Exited reaches the sink after it has ended, when Ensure
// would start another.
func NewInterpreter(config Config, reaper *Reaper, sink Sink) *Interpreter {
	return &Interpreter{config: config, reaper: reaper, sink: sink}
}

// ErrNotRunning says that the interpreter has ended.
var ErrNotRunning = errors.New("the interpreter is not running")

// Ensure starts the interpreter unless it runs; started tells whether it did. A "ready" event follows a start.
func (n *Interpreter) Ensure() (started bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.commands != nil {
		return false, nil
	}
	commandsRead, commands, err := os.Pipe()
	if err != nil {
		return false, err
	}
	acknowledgeRead, acknowledge, err := os.Pipe()
	if err != nil {
		return false, errors.Join(err, commandsRead.Close(), commands.Close())
	}
	defer commandsRead.Close()
	defer acknowledgeRead.Close()
	events, eventsWrite, err := pipe()
	if err != nil {
		return false, errors.Join(err, commands.Close(), acknowledge.Close())
	}
	defer eventsWrite.Close()

	argv := n.config.argv()
	cmd := &exec.Cmd{
		Path: argv[0], Args: argv, Env: n.config.Env, Dir: n.config.Dir,
		ExtraFiles:  []*os.File{commandsRead, eventsWrite, acknowledgeRead},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	fd, err := unix.FcntlInt(acknowledge.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	acknowledge.Close()
	if err != nil {
		return false, errors.Join(err, commands.Close())
	}
	p := &pump{events: events, acknowledge: fd, sink: &watched{n.sink, n, commands}, exit: make(chan int, 1)}
	if err := p.start(n.reaper, cmd); err != nil {
		return false, errors.Join(err, commands.Close())
	}
	n.commands, n.pid = commands, cmd.Process.Pid
	return true, nil
}

// watched notes the end of the interpreter before it passes it on.
type watched struct {
	Sink
	interpreter *Interpreter
	commands    *os.File
}

func (w *watched) Exited(exit int) {
	n := w.interpreter
	n.mu.Lock()
	if n.commands == w.commands {
		n.commands, n.pid = nil, 0
	}
	n.ended()
	n.mu.Unlock()
	w.commands.Close()
	w.Sink.Exited(exit)
}

func (w *watched) Event(e Event) {
	if e.Type == "finished" {
		w.interpreter.mu.Lock()
		w.interpreter.ended()
		w.interpreter.mu.Unlock()
	}
	w.Sink.Event(e)
}

// ended notes that no code runs; with the lock held.
func (n *Interpreter) ended() {
	if n.run != nil {
		close(n.run)
		n.run = nil
	}
}

func (n *Interpreter) send(op, key, text string) error {
	raw, ok := n.config.command(op, key, text)
	if !ok {
		return errors.New("the runtime has no " + op)
	}
	n.mu.Lock()
	commands := n.commands
	if op == "code" && commands != nil {
		n.ended()
		n.run = make(chan struct{})
	}
	n.mu.Unlock()
	if commands == nil {
		return ErrNotRunning
	}
	if _, err := commands.Write(raw); err != nil {
		return ErrNotRunning
	}
	return nil
}

// Code runs code; a "finished" event follows.
func (n *Interpreter) Code(code string) error { return n.send("code", "code", code) }

// Input answers a "waiting-input" event.
func (n *Interpreter) Input(text string) error { return n.send("input", "text", text) }

// Complete asks for completions; a "completion" event follows. Only while no code runs.
func (n *Interpreter) Complete(code string) error { return n.send("complete", "code", code) }

// Interrupt does what Ctrl-C does at a terminal: it reaches the interpreter and the children of the code it runs. A shell
// is interrupted again and again, because it loses an interrupt that arrives while it starts a program, and killed when
// that does not help, as inside nested functions. Python loses one only just before os.system, for whose time it ignores
// them; then its children get it again.
func (n *Interpreter) Interrupt() {
	n.mu.Lock()
	run := n.run
	n.mu.Unlock()
	n.signal(unix.SIGINT)
	if run == nil {
		return
	}
	shell := n.config.Runtime == images.RuntimeShell
	go func() {
		for range 15 {
			select {
			case <-run:
				return
			case <-time.After(200 * time.Millisecond):
				if shell || n.ignoresInterrupts() {
					n.signal(unix.SIGINT)
				}
			}
		}
		if shell {
			n.Kill()
		}
	}()
}

// ignoresInterrupts tells whether the interpreter itself would not notice another interrupt.
func (n *Interpreter) ignoresInterrupts() bool {
	n.mu.Lock()
	pid := n.pid
	n.mu.Unlock()
	return pid > 0 && ignores(pid, unix.SIGINT)
}

// Kill ends the interpreter; Exited follows.
func (n *Interpreter) Kill() { n.signal(unix.SIGKILL) }

func (n *Interpreter) signal(s unix.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid > 0 {
		unix.Kill(-n.pid, s)
	}
}
