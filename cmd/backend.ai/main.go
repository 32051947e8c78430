package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"backend.ai/manager/cmd/backend.ai/client"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/cmd/backend.ai/mgr"
	"backend.ai/manager/cmd/backend.ai/up"
)

// Version is shown by --version. It follows the generation that the program serves.
var Version = "22.03.14"

func main() {
	ctx, signalled := untilSignal()
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	if sig := signalled(); sig != nil && code == console.Interrupted {
		// As if there had been no handler, so that a shell that runs us in a loop stops as well.
		signal.Reset(*sig)
		_ = syscall.Kill(os.Getpid(), *sig)
	}
	os.Exit(code)
}

// sameSignal is how soon after a first signal a second one counts as the same: timeout(1) and some process managers signal a process and
// then its group.
const sameSignal = 500 * time.Millisecond

// untilSignal is a context that the first signal cancels; a later one finds the system's own handling. signalled is the signal, if there
// was one.
func untilSignal() (ctx context.Context, signalled func() *syscall.Signal) {
	wanted := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		wanted = append(wanted, syscall.SIGHUP)
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, wanted...)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		sig := <-arrived
		cancel(console.Signal{Signal: sig.(syscall.Signal)})
		time.Sleep(sameSignal)
		signal.Reset(wanted...)
	}()
	return ctx, func() *syscall.Signal {
		if s, ok := context.Cause(ctx).(console.Signal); ok {
			return &s.Signal
		}
		return nil
	}
}

// run is the program without its process; it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	words := args[1:]
	if name := filepath.Base(args[0]); name == "backend.ai-mgr" || name == "backendai-mgr" {
		words = append([]string{"mgr"}, words...)
	}
	root.SetArgs(words)
	return console.Execute(ctx, root)
}

func newRoot() *cobra.Command {
	root := console.Group("backend.ai", "Run compute sessions on shared machines",
		up.Command(), mgr.Command(), client.Run(), client.Ps(), client.Rm(), client.Logs(), client.Why(), client.PlanCommand(), client.Priority())
	root.Long = `backend.ai runs compute sessions on shared machines.

  backend.ai up                          a whole cluster on this machine
  backend.ai run -c 'print(6*7)' python  a session, and code in it
  backend.ai mgr start-server            a manager of a cluster`
	root.Version = Version
	root.SetVersionTemplate("backend.ai {{.Version}}\n")
	console.Prepare(root)
	return root
}
