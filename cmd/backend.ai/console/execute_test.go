package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
)

// tree is a program with a command for each way to end.
func tree() *cobra.Command {
	ends := map[string]error{
		"fine": nil, "fails": errors.New("no luck"), "coded": backendai.Errorf(backendai.ServiceUnavailable, "etcd is away").WithCause(errors.New("refused")),
		"usage": Usagef("That is no number."), "quiet": Exit(7), "interrupted": context.Canceled,
	}
	group := Group("group", "Commands")
	for name, err := range ends {
		group.AddCommand(&cobra.Command{Use: name, Short: name, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return err }})
	}
	shown := &cobra.Command{Use: "shown", Short: "shown", RunE: func(cmd *cobra.Command, _ []string) error {
		return Show(cmd, map[string]any{"a": "é<", "b": []int{}}, func(out io.Writer) error {
			return WriteTable(out, []string{"A", "LONG"}, [][]string{{"é漢", "1"}, {"bbb", ""}})
		})
	}}
	group.AddCommand(shown)
	root := Group("prog", "A program", group)
	Prepare(root)
	return root
}

func TestExecute(t *testing.T) {
	signalled, cancel := context.WithCancelCause(t.Context())
	cancel(Signal{syscall.SIGINT})
	for _, c := range []struct {
		args      string
		ctx       context.Context
		code      int
		out, errs string
	}{
		{args: "group fine"},
		{args: "group fails", code: 1, errs: "Error: no luck\n"},
		{args: "group coded", code: 1, errs: "Error: etcd is away: refused\n"},
		{args: "group usage", code: 2, errs: "Usage: prog group usage [flags]\nTry 'prog group usage -h' for help.\n\nError: That is no number.\n"},
		{args: "group quiet", code: 7},
		{args: "group interrupted", code: 1, errs: "Error: context canceled\n"},
		{args: "group interrupted", ctx: signalled, code: Interrupted, errs: "Interrupted!\n"},
		{args: "group fine extra", code: 2, errs: `Error: unknown command "extra" for "prog group fine"`},
		{args: "group nothing", code: 2, errs: "Error: No such command 'nothing'.\n"},
		{args: "nothing", code: 2, errs: "Error: No such command 'nothing'.\n"},
		{args: "group fine --wrong", code: 2, errs: "Error: unknown flag: --wrong\n"},
		{args: "--format xml group fine", code: 2, errs: "'xml' is not one of 'json', 'console'\n"},
		{args: "group shown", out: "A    LONG\né漢  1\nbbb\n"},
		{args: "group shown --format json", out: "{\n    \"a\": \"\\u00e9<\",\n    \"b\": []\n}\n"},
		{args: "--output json group shown", out: "{\n    \"a\": \"\\u00e9<\",\n    \"b\": []\n}\n"},
		{args: "", out: "Available Commands:"},
		{args: "group -h", out: "Available Commands:"},
	} {
		root := tree()
		var out, errs bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&errs)
		root.SetArgs(strings.Fields(c.args))
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		if code := Execute(ctx, root); code != c.code {
			t.Errorf("%q: code %d, want %d", c.args, code, c.code)
		}
		if !strings.Contains(out.String(), c.out) || c.out == "" && out.Len() > 0 {
			t.Errorf("%q: stdout %q, want %q", c.args, out.String(), c.out)
		}
		if !strings.Contains(errs.String(), c.errs) || c.errs == "" && errs.Len() > 0 {
			t.Errorf("%q: stderr %q, want %q", c.args, errs.String(), c.errs)
		}
	}
}
