package client

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
)

// SetPriority gives a waiting session another priority.
func (c *Client) SetPriority(ctx context.Context, session string, priority int) error {
	return c.request(ctx, "POST", at(session, "/priority"), nil, map[string]int{"priority": priority}, nil)
}

// Priority changes how early a waiting session is looked at.
func Priority() *cobra.Command {
	return withData(&cobra.Command{
		Use: "priority SESSION NUMBER", Short: "Change how early a waiting session is looked at", Args: cobra.ExactArgs(2),
		Example: `  backend.ai priority train-7 10
  backend.ai priority train-7 -- -5`,
		Long: `Change how early a waiting session is looked at, in a scaling group that heeds priorities: those with higher numbers go first, 0 is what all
have that do not say. Anybody may go behind others, with a number below 0 (write -- before it); only administrators may go before them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return backendai.Errorf(backendai.InvalidUsage, "%s is not a whole number", backendai.Repr(args[1]))
			}
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetPriority(cmd.Context(), args[0], n); err != nil {
				return hint(err)
			}
			return console.Show(cmd, map[string]any{"session": args[0], "priority": n}, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "%s has priority %d now.\n", args[0], n)
				return err
			})
		},
	})
}
