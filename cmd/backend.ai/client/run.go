package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
)

// cleanUpTime bounds what is done for a run that was given up.
const cleanUpTime = 45 * time.Second

// runFlags are those of run.
type runFlags struct {
	code, session, group, domain string
	resources, environ           []string
	remove, quiet                bool
	wait                         int
}

// Run runs code in a session.
func Run() *cobra.Command {
	var f runFlags
	c := withData(&cobra.Command{
		Use: "run [-c CODE] IMAGE [FILE]", Short: "Run code in a session", Args: cobra.RangeArgs(1, 2),
		Example: `  backend.ai run -c 'print(6*7)' python
  backend.ai run --rm python script.py
  echo 'echo $HOSTNAME' | backend.ai run --rm bash -`,
		Long: `Make a session from an image, or take the one that -s names, and run code in it: that of -c, of a file, or of standard
input. Output comes as it is written, and questions of the code are answered from standard input. The session stays, with its
variables, until it is ended (backend.ai rm) or --rm says otherwise. The exit code is that of the code.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runCode(cmd, args, f) },
	})
	flags := c.Flags()
	flags.StringVarP(&f.code, "code", "c", "", "code to run")
	flags.StringVarP(&f.session, "session", "s", "", "name of the session, new or running")
	flags.BoolVar(&f.remove, "rm", false, "end the session afterwards")
	flags.StringArrayVarP(&f.resources, "resources", "r", nil, "resources, e.g. -r cpu=2 -r mem=1g (default: what the image needs)")
	flags.StringArrayVarP(&f.environ, "env", "e", nil, "environment, NAME=VALUE")
	flags.StringVarP(&f.group, "group", "g", "", "project the session belongs to")
	flags.StringVarP(&f.domain, "domain", "d", "", "domain the session belongs to")
	flags.IntVar(&f.wait, "wait", 0, "seconds to wait for the session to start (default: as long as it takes)")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing but what the code says")
	return c
}

func runCode(cmd *cobra.Command, args []string, f runFlags) error {
	image, code, err := whatToRun(args, f.code, cmd.Flags().Changed("code"), cmd.InOrStdin())
	if err != nil {
		return err
	}
	n := NewSession{Name: f.session, Image: image, Group: f.group, Domain: f.domain, WaitSeconds: f.wait}
	if n.Name == "" {
		n.Name = NewName()
	}
	if n.Resources, err = pairs("--resources", f.resources); err != nil {
		return err
	}
	if n.Environ, err = pairs("--env", f.environ); err != nil {
		return err
	}
	c, err := open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	say := func(format string, args ...any) {
		if !f.quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
		}
	}
	ctx := cmd.Context()
	made, err := c.Start(ctx, n)
	if err != nil {
		return hint(err)
	}
	if made.Created {
		say("Session %s (%s) is running.", made.Name, made.ID)
	}
	exit, outputs, err := c.runIn(ctx, cmd, made.ID, code)
	if f.remove {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		if _, e := c.Destroy(cleaning, made.ID, false); e != nil {
			err = errors.Join(err, fmt.Errorf("the session %s is still there: %w", made.Name, e))
		}
	} else if made.Created {
		say("It stays; end it with: backend.ai rm %s", made.Name)
	}
	if err != nil {
		return err
	}
	if console.WantsJSON(cmd) {
		err := console.WriteJSON(cmd.OutOrStdout(), struct {
			Created
			ExitCode int      `json:"exitCode"`
			Console  []Output `json:"console"`
		}{made, exit, append([]Output{}, outputs...)})
		if err != nil {
			return err
		}
	}
	if exit != 0 {
		return console.Exit(code8(exit))
	}
	return nil
}

// code8 fits an exit code of the API, −1 for a failure of the runner, into what a process can return.
func code8(exit int) int {
	if exit < 0 || exit > 255 {
		return 1
	}
	return exit
}

// Start is Create that takes only a running session for a success. A session that did not start is ended again.
func (c *Client) Start(ctx context.Context, n NewSession) (Created, error) {
	made, err := c.Create(ctx, n)
	if err == nil && made.Status == string(backendai.Running) {
		return made, nil
	}
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if err != nil {
		if ctx.Err() != nil { // whether it was made is unknown
			_, _ = c.Destroy(cleaning, n.Name, true)
		}
		return made, err
	}
	why := made.Status
	if info, e := c.Info(cleaning, made.ID); e == nil {
		why = fmt.Sprintf("%s %s %s", info.Status, strings.Trim(info.StatusInfo, " "), string(info.StatusData))
	}
	if made.Created {
		_, _ = c.Destroy(cleaning, made.ID, true)
	}
	return made, backendai.Errorf(backendai.KernelCreationFailed, "the session %s does not run: %s", made.Name, why)
}

// whatToRun sorts the arguments: the image, and where the code is. A file may stand before or behind the image; of two arguments the one
// that is a file is the file.
func whatToRun(args []string, code string, given bool, in io.Reader) (image, text string, err error) {
	image = args[0]
	file := ""
	if len(args) == 2 {
		file = args[1]
		if !isFile(args[1]) && isFile(args[0]) {
			file, image = args[0], args[1]
		}
	}
	switch {
	case given && file != "":
		return "", "", console.Usagef("Give either -c CODE or a file, not both.")
	case given:
		return image, code, nil
	case file != "" && file != "-":
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", "", backendai.Errorf(backendai.InvalidArgument, "%v", err)
		}
		return image, string(raw), nil
	case file == "" && isTerminal(in):
		return "", "", console.Usagef("There is nothing to run: give -c CODE, a file, or - for standard input.")
	}
	raw, err := io.ReadAll(in)
	return image, string(raw), err
}

func isFile(name string) bool {
	if name == "-" {
		return true
	}
	st, err := os.Stat(name)
	return err == nil && !st.IsDir()
}

func isTerminal(in any) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// pairs reads NAME=VALUE.
func pairs(flag string, list []string) (map[string]string, error) {
	m := make(map[string]string, len(list))
	for _, item := range list {
		name, value, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			return nil, console.Usagef("Invalid value for '%s': '%s' is not NAME=VALUE.", flag, item)
		}
		m[name] = value
	}
	return m, nil
}

// runIn runs code and passes on what it says, or gathers it when JSON is wanted.
func (c *Client) runIn(ctx context.Context, cmd *cobra.Command, session, code string) (exit int, outputs []Output, err error) {
	gather := console.WantsJSON(cmd)
	in := bufio.NewReader(cmd.InOrStdin())
	exit, err = c.Execute(ctx, session, code, Talk{
		Write: func(o Output) {
			if gather {
				outputs = append(outputs, o)
				return
			}
			switch o.Kind {
			case "stderr", "log":
				fmt.Fprint(cmd.ErrOrStderr(), o.Text)
			case "media":
				fmt.Fprintf(cmd.OutOrStdout(), "[%s, %d bytes]\n", o.Text, len(o.Data))
			default:
				fmt.Fprint(cmd.OutOrStdout(), o.Text)
			}
		},
		Read: func(ctx context.Context, secret bool) (string, error) { return readLine(ctx, cmd, in, secret) },
	})
	return exit, outputs, err
}

// readLine reads an answer. A terminal does not show secret ones. Reading can't be broken off, so it is left behind when ctx ends: the
// process ends soon after.
func readLine(ctx context.Context, cmd *cobra.Command, in *bufio.Reader, secret bool) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	f, _ := cmd.InOrStdin().(*os.File)
	hidden := secret && f != nil && term.IsTerminal(int(f.Fd()))
	var before *term.State
	if hidden {
		before, _ = term.GetState(int(f.Fd()))
	}
	go func() {
		if hidden {
			text, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(cmd.ErrOrStderr())
			got <- answer{string(text), err}
			return
		}
		text, err := in.ReadString('\n')
		if err == io.EOF && text != "" {
			err = nil
		}
		got <- answer{strings.TrimRight(text, "\r\n"), err}
	}()
	select {
	case a := <-got:
		if a.err == io.EOF {
			return "", backendai.Errorf(backendai.InvalidArgument, "the code asks for input, and standard input has ended")
		}
		return a.text, a.err
	case <-ctx.Done():
		if before != nil {
			_ = term.Restore(int(f.Fd()), before)
		}
		return "", ctx.Err()
	}
}
