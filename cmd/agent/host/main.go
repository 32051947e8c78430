package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"backend.ai/manager/cmd/agent/runner"
	"backend.ai/manager/cmd/agent/sandbox"
	"golang.org/x/sys/unix"
)

// maxLog bounds the log, as the original's log driver does (spec/agent-protocol §11.5).
const maxLog = 10 << 20

// Dispatch runs the hidden sub-commands of the program and does not return if args (without the program's name) are one. Main
// functions, and TestMain of tests that start kernels, call it first.
func Dispatch(args []string) {
	if len(args) == 0 {
		return
	}
	var err error
	switch args[0] {
	case sandbox.ProbeCommand:
		err = sandbox.ProbeMain()
	case Command:
		err = outer()
	case innerCommand:
		err = inner()
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// descriptor reads a file by its number alone. An os.File would close it when the garbage collector finds nobody who holds it, although
// the program that this process is about to become needs it.
type descriptor int

func (d descriptor) ReadAt(p []byte, offset int64) (int, error) {
	n, err := unix.Pread(int(d), p, offset)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// readSpec reads what the agent has left in the open file; both the outer and the inner program do.
func readSpec(file descriptor) (s Spec, err error) {
	raw, err := io.ReadAll(io.NewSectionReader(file, 0, 64<<20))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return Spec{}, fmt.Errorf("specification: %w", err)
	}
	return s, nil
}

// outer builds the sandbox, privileged as far as it goes, and becomes inner.
func outer() error {
	s, err := readSpec(specFD)
	if err != nil {
		return err
	}
	if err := sandbox.Enter(s.Sandbox); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"backend.ai-kernel", innerCommand, s.KernelID}, []string{"PATH=" + sandbox.Path, "GOMAXPROCS=2"})
}

// inner serves.
func inner() error {
	// Nothing inside may look into this process, which has the log and the socket open.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	// The agent ends a kernel with a request, or kills it. Signals are caught, not ignored: children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	for _, fd := range []int{listenerFD, logFD, specFD} {
		unix.CloseOnExec(fd)
	}
	s, err := readSpec(specFD)
	if err != nil {
		return err
	}
	unix.Close(specFD)
	log, err := NewLog(os.NewFile(logFD, "log"), maxLog)
	if err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return err
	}
	reaper := runner.NewReaper()
	reaper.DataBytes = s.DataBytes
	reaper.ReapOrphans()
	k := newKernel(s, log, reaper)
	log.WriteString("Kernel started at: " + time.Now().UTC().Format(time.RFC3339) + "\n")
	server := &server{kernel: k, started: make(chan struct{})}
	go server.bootstrap(s)
	server.serve(listener)
	return nil
}

// server answers the agent.
type server struct {
	kernel  *kernel
	started chan struct{} // closed when the bootstrap script has ended and the interpreter is ready
	failed  error
}

func (s *server) bootstrap(spec Spec) {
	defer close(s.started)
	if spec.Bootstrap {
		done := make(chan int, 1)
		cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{"/bin/sh", spec.Runner.Dir + "/bootstrap.sh"}, Dir: spec.Runner.Dir, Env: spec.Runner.Env}
		if err := runner.Run(s.kernel.reaper, cmd, logSink{s.kernel.log, done}); err != nil {
			s.kernel.log.WriteString("The bootstrap script cannot be run: " + err.Error() + "\n")
		} else if exit := <-done; exit != 0 {
			s.kernel.log.WriteString(fmt.Sprintf("The bootstrap script has ended with exit code %d.\n", exit))
		}
	}
	s.failed = s.kernel.ensure()
}

type logSink struct {
	log  *Log
	exit chan int
}

func (s logSink) Output(_, text string) { s.log.WriteString(text) }
func (s logSink) Event(runner.Event)    {}
func (s logSink) Exited(exit int)       { s.exit <- exit }

func (s *server) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.answer(conn)
	}
}

// answer serves one request. The one who asked may go away, which ends the waiting.
func (s *server) answer(conn net.Conn) {
	defer conn.Close()
	var q Request
	decoder := json.NewDecoder(conn)
	if decoder.Decode(&q) != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, conn)
		cancel()
	}()
	res := s.do(ctx, q)
	if q.Op == opShutdown {
		defer os.Exit(0)
	}
	conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
	lost := ctx.Err() != nil
	if !lost {
		lost = json.NewEncoder(conn).Encode(res) != nil
	}
	if lost && res.Result != nil {
		s.kernel.runs.GiveBack(*res.Result)
	}
}

func (s *server) do(ctx context.Context, q Request) (res Response) {
	if q.Op != opShutdown {
		select {
		case <-s.started:
		case <-ctx.Done():
			return res
		}
	}
	switch q.Op {
	case opStatus:
		if s.failed != nil {
			res.Error = "The interpreter cannot be started: " + s.failed.Error()
		}
	case opExecute:
		r, err := s.kernel.runs.Execute(ctx, q)
		if err != nil {
			res.Error = err.Error()
			return res
		}
		res.Result = &r
	case opInterrupt:
		s.kernel.interrupt()
	case opComplete:
		res.Completions = s.kernel.complete(q.Code)
	case opStartService:
		status := s.kernel.services.start(ctx, q.Service)
		res.Service = &status
	case opShutdownService:
		s.kernel.services.stop(q.Service.Name)
	case opShutdown:
		endAll(time.Duration(q.GraceSeconds * float64(time.Second)))
	default:
		res.Error = "unknown operation " + q.Op
	}
	return res
}

// endAll asks every process of the kernel to end, and waits for it.
func endAll(grace time.Duration) {
	deadline := time.Now().Add(grace)
	others := func() []int { return sandbox.Tree(os.Getpid())[1:] }
	asked := map[int]bool{}
	for list := others(); len(list) > 0 && time.Now().Before(deadline); list = others() {
		for _, p := range list {
			if !asked[p] { // also those that one on its way out has started
				asked[p] = true
				unix.Kill(p, unix.SIGTERM)
				unix.Kill(p, unix.SIGCONT)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, p := range others() {
		unix.Kill(p, unix.SIGKILL)
	}
}
