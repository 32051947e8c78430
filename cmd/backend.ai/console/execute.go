package console

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	backendai "backend.ai/manager"
)

// Interrupted is the exit code of a command that a signal ended; main raises the signal again instead.
const Interrupted = 130

// Signal is the cause of a context that a signal has cancelled.
type Signal struct{ syscall.Signal }

func (s Signal) Error() string { return "signal: " + s.String() }

// Exit ends a command with a code and without a word: it has said all there is to say.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Usagef is an error of whoever typed the command. Code InvalidUsage.
func Usagef(format string, args ...any) error {
	return backendai.Errorf(backendai.InvalidUsage, format, args...)
}

// Group is a command that only has commands below it. Called alone it shows its help.
func Group(name, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return Usagef("No such command '%s'.", args[0])
		}
		return cmd.Help()
	}}
	c.AddCommand(below...)
	return c
}

// Prepare gives the root of a command tree the flags and habits that all commands share.
func Prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.TraverseChildren = true // flags of a group stand before the command
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usagef("%s", err.Error()) })
	flags := root.PersistentFlags()
	flags.Var(&formatValue{}, "format", "how to show results: console or json")
	flags.Bool("skip-sslcert-validation", false, "do not check certificates of the API")
	// The official client's name of the flag.
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "output" {
			name = "format"
		}
		return pflag.NormalizedName(name)
	})
}

// Execute runs the command that the root's arguments name, says what went wrong, and returns the exit code.
func Execute(ctx context.Context, root *cobra.Command) int {
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	cmd, err := root.ExecuteContextC(ctx)
	errs := root.ErrOrStderr()
	var exit Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(errs, "Interrupted!")
		return Interrupted
	case !began || errors.Is(err, backendai.InvalidUsage):
		// What fails before a command has begun is always its words.
		fmt.Fprintf(errs, "Usage: %s\nTry '%s -h' for help.\n\nError: %s\n", cmd.UseLine(), cmd.CommandPath(), Describe(err))
		return backendai.ExitCode(backendai.NewError(backendai.InvalidUsage))
	default:
		fmt.Fprintln(errs, "Error:", Describe(err))
		return backendai.ExitCode(err)
	}
}

// Describe is an error for people: without the code that programs go by.
func Describe(err error) string {
	e, ok := err.(*backendai.Error)
	if !ok {
		return err.Error()
	}
	if e.Message == nil || *e.Message == "" {
		return e.Error()
	}
	if cause := e.Unwrap(); cause != nil {
		return *e.Message + ": " + Describe(cause)
	}
	return *e.Message
}
