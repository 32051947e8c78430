package host

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"backend.ai/manager/cmd/agent/runner"
	"golang.org/x/sys/unix"
)

// kernel joins the parts: runs go to the interpreter or to batch commands, and what these say goes to the runs and the log.
type kernel struct {
	config      runner.Config
	reaper      *runner.Reaper
	log         *Log
	runs        *Runs
	interpreter *runner.Interpreter
	services    *services

	mu          sync.Mutex
	ready       chan struct{} // closed when the present interpreter is
	querying    bool
	batch       *exec.Cmd // the step under way
	interrupted bool      // the batch run shall take no further steps
	completions chan []string
	starting    sync.Mutex
}

func newKernel(s Spec, log *Log, reaper *runner.Reaper) *kernel {
	k := &kernel{config: s.Runner, reaper: reaper, log: log, completions: make(chan []string, 1), ready: make(chan struct{})}
	k.runs = NewRuns(k)
	k.interpreter = runner.NewInterpreter(s.Runner, reaper, k)
	k.services = &services{bind: s.ServiceHost, config: s.Runner, reaper: reaper, log: log, running: map[string]*service{}}
	return k
}

// Output is the interpreter's; what is printed between runs is in the log alone.
func (k *kernel) Output(stream, text string) {
	k.log.WriteString(text)
	k.runs.Output(stream, text)
}

// Event is the interpreter's.
func (k *kernel) Event(e runner.Event) {
	switch e.Type {
	case "ready":
		k.mu.Lock()
		close(k.ready)
		k.mu.Unlock()
	case "finished":
		k.mu.Lock()
		k.querying = false
		k.mu.Unlock()
		k.runs.Finish(StatusFinished, e.ExitCode)
	case "waiting-input":
		k.runs.AskInput(e.IsPassword)
	case "html", "media":
		k.runs.Rich(e.Type, e.Data)
	case "completion":
		select {
		case k.completions <- e.Completions:
		default:
		}
	}
}

// Exited is the interpreter's: it died of the code it ran, or was killed.
func (k *kernel) Exited(exit int) {
	k.mu.Lock()
	was := k.querying
	k.querying = false
	select {
	case <-k.ready:
		k.ready = make(chan struct{})
	default:
	}
	k.mu.Unlock()
	if was {
		if exit > 128 {
			k.Output("stderr", "\nThe interpreter was ended by "+syscall.Signal(exit-128).String()+"; the next run starts with a new one.\n")
		}
		k.runs.Finish(StatusFinished, exit)
	}
}

// startTimeout is how long an interpreter has to get ready.
const startTimeout = 60 * time.Second

// ensure has the interpreter running and ready.
func (k *kernel) ensure() error {
	k.starting.Lock()
	defer k.starting.Unlock()
	if _, err := k.interpreter.Ensure(); err != nil {
		return err
	}
	k.mu.Lock()
	ready := k.ready
	k.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-time.After(startTimeout):
		return errors.New("it does not get ready")
	}
}

// Query runs code in the interpreter.
func (k *kernel) Query(code string) error {
	if err := k.ensure(); err != nil {
		return err
	}
	k.mu.Lock()
	k.querying = true
	k.mu.Unlock()
	err := k.interpreter.Code(code)
	if err != nil {
		k.mu.Lock()
		k.querying = false
		k.mu.Unlock()
	}
	return err
}

// Input hands the user's answer on.
func (k *kernel) Input(text string) error { return k.interpreter.Input(text) }

// batchSink is the output of one step.
type batchSink struct {
	*kernel
	exit chan int
}

func (s batchSink) Event(runner.Event) {}
func (s batchSink) Exited(exit int)    { s.exit <- exit }

// Batch runs the steps one after the other; after a failed build there is no execution (exit code 127, spec/rest-session
// §6.2).
func (k *kernel) Batch(clean, build, execute *string) {
	k.mu.Lock()
	k.interrupted = false
	k.mu.Unlock()
	go func() {
		k.runs.Finish(StatusCleanFinished, k.step("clean", clean))
		built := k.step("build", build)
		k.runs.Finish(StatusBuildFinished, built)
		if built != 0 {
			k.runs.Finish(StatusFinished, 127)
			return
		}
		k.runs.Finish(StatusFinished, k.step("exec", execute))
	}()
}

func (k *kernel) step(name string, command *string) int {
	if command == nil || *command == "" {
		return 0
	}
	text := *command
	if text == "*" {
		if text = runner.Default(k.config.Runtime, name); text == "" {
			return 0
		}
	}
	shell := "/bin/bash"
	if _, err := os.Stat(shell); err != nil {
		shell = "/bin/sh"
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return -1
	}
	defer null.Close()
	cmd := &exec.Cmd{Path: shell, Args: []string{shell, "-c", text}, Dir: k.config.Dir, Env: k.config.Env, Stdin: null, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	sink := batchSink{k, make(chan int, 1)}
	k.mu.Lock()
	if k.interrupted {
		k.mu.Unlock()
		return 130
	}
	err = runner.Run(k.reaper, cmd, sink)
	k.batch = cmd
	k.mu.Unlock()
	if err != nil {
		k.Output("stderr", err.Error()+"\n")
		return 127
	}
	exit := <-sink.exit
	k.mu.Lock()
	k.batch = nil
	k.mu.Unlock()
	return exit
}

// interrupt stops what runs.
func (k *kernel) interrupt() {
	k.mu.Lock()
	querying, batch := k.querying, k.batch
	k.interrupted = true
	k.mu.Unlock()
	if querying {
		k.interpreter.Interrupt()
	}
	if batch != nil {
		unix.Kill(-batch.Process.Pid, unix.SIGINT)
	}
}

// complete gives completions; none while code runs.
func (k *kernel) complete(code string) []string {
	if k.runs.Busy() || k.ensure() != nil {
		return nil
	}
	select { // an answer that came too late for the one who asked
	case <-k.completions:
	default:
	}
	if k.interpreter.Complete(code) != nil {
		return nil
	}
	select {
	case list := <-k.completions:
		return list
	case <-time.After(5 * time.Second):
		return nil
	}
}
