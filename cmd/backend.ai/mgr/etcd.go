package mgr

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config/shared"
)

// scopeFlags say where a key counts.
type scopeFlags struct{ scope, group, agent string }

func (f *scopeFlags) register(c *cobra.Command) {
	c.Flags().StringVarP(&f.scope, "scope", "s", "GLOBAL", "where the key counts: MERGED, GLOBAL, SGROUP or NODE")
	c.Flags().StringVar(&f.group, "scaling-group", "", "the scaling group of the scope SGROUP")
	c.Flags().StringVar(&f.agent, "agent", "", "the agent of the scope NODE")
}

func (f *scopeFlags) open(ctx context.Context, t *tools) (*shared.Client, shared.Scope, error) {
	scope, ok := shared.Scopes[strings.ToUpper(f.scope)]
	switch {
	case !ok:
		return nil, 0, console.Usagef("'%s' is not one of 'MERGED', 'GLOBAL', 'SGROUP', 'NODE'.", f.scope)
	case scope == shared.ScalingGroup && f.group == "":
		return nil, 0, console.Usagef("The scope SGROUP needs --scaling-group.")
	case scope == shared.Node && f.agent == "":
		return nil, 0, console.Usagef("The scope NODE needs --agent.")
	}
	client, err := t.etcd(ctx, f.group, f.agent)
	return client, scope, err
}

// etcdGroup is etcd: the shared settings (spec/config-cli-ops §4.3), and the older spellings of the image commands.
func etcdGroup(o *options) *cobra.Command {
	group := console.Group("etcd", "Read and write the shared settings")
	group.Long = `Read and write the shared settings that all managers and agents of a cluster read. Keys are relative to the cluster's
namespace and not quoted for you: see "etcd quote" for names with colons and slashes.`
	add := func(use, short string, args int, do func(context.Context, *shared.Client, shared.Scope, *cobra.Command, []string) error, flags ...func(*cobra.Command)) {
		scope := &scopeFlags{}
		c := o.with(&cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args), RunE: o.run(func(ctx context.Context, t *tools, cmd *cobra.Command, args []string) error {
			client, s, err := scope.open(ctx, t)
			if err != nil {
				return err
			}
			return do(ctx, client, s, cmd, args)
		})})
		scope.register(c)
		for _, f := range flags {
			f(c)
		}
		group.AddCommand(c)
	}
	prefix := func(short string) func(*cobra.Command) {
		return func(c *cobra.Command) { c.Flags().Bool("prefix", false, short) }
	}
	add("put KEY VALUE", "Write a key", 2, func(ctx context.Context, c *shared.Client, s shared.Scope, _ *cobra.Command, args []string) error {
		_, err := c.Put(ctx, args[0], args[1], s)
		return err
	})
	add("put-json KEY FILE", "Write the members of a JSON object below a key", 2, putJSON)
	add("get KEY", "Print a key's value; exit code 1 when there is none", 1, etcdGet, prefix("print all keys that begin with KEY, as a JSON object"))
	add("delete KEY", "Remove a key", 1, func(ctx context.Context, c *shared.Client, s shared.Scope, cmd *cobra.Command, args []string) error {
		remove := c.Delete
		if all, _ := cmd.Flags().GetBool("prefix"); all {
			remove = c.DeletePrefix
		}
		_, err := remove(ctx, args[0], s)
		return err
	}, prefix("remove all keys that begin with KEY"))
	add("move-subtree SRC_PREFIX DST_PREFIX", "Move a key and everything below it", 2, func(ctx context.Context, c *shared.Client, s shared.Scope, _ *cobra.Command, args []string) error {
		return c.MoveSubtree(ctx, args[0], args[1], s)
	})
	for name, f := range map[string]func(string) string{"quote": shared.Quote, "unquote": shared.Unquote} {
		group.AddCommand(&cobra.Command{Use: name + " VALUE", Short: map[bool]string{true: "Quote a name for use in a key", false: "Undo quote"}[name == "quote"], Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), f(args[0]))
				return err
			}})
	}
	group.AddCommand(olderImageCommands(o)...)
	return group
}

// putJSON writes a nested object; KEY ” is the root of the namespace.
func putJSON(ctx context.Context, c *shared.Client, s shared.Scope, cmd *cobra.Command, args []string) error {
	var text []byte
	var err error
	if args[1] == "-" {
		text, err = io.ReadAll(cmd.InOrStdin())
	} else {
		text, err = os.ReadFile(args[1])
	}
	if err != nil {
		return backendai.Errorf(backendai.InvalidArgument, "%v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // 1e3 and 1000 are different texts
	var value map[string]any
	if err := dec.Decode(&value); err != nil || value == nil {
		return backendai.Errorf(backendai.InvalidArgument, "%s must hold a JSON object", args[1])
	}
	_, err = c.PutPrefix(ctx, args[0], value, s)
	return err
}

func etcdGet(ctx context.Context, c *shared.Client, s shared.Scope, cmd *cobra.Command, args []string) error {
	if all, _ := cmd.Flags().GetBool("prefix"); all {
		tree, err := c.GetPrefix(ctx, args[0], s)
		if err != nil {
			return err
		}
		return console.WriteJSON(cmd.OutOrStdout(), ordered{tree})
	}
	value, ok, err := c.Get(ctx, args[0], s)
	if err != nil {
		return err
	}
	if !ok {
		return console.Exit(1)
	}
	return console.Show(cmd, value, func(out io.Writer) error {
		_, err := fmt.Fprintln(out, value)
		return err
	})
}

// ordered is a tree as JSON in etcd's order, without the escapes that are for HTML.
type ordered struct{ *shared.Tree }

func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	names := o.Names()
	if value, ok := o.Value(); ok && len(names) == 0 {
		err := enc.Encode(value)
		return b.Bytes(), err
	}
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(ordered{o.Child(name)}); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
