package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"backend.ai/manager/cmd/backend.ai/console"
)

// Plan is what would come of a request for a session.
type Plan struct {
	Name         string            `json:"name"`
	Image        string            `json:"image"`
	Resources    map[string]string `json:"resources"`
	ScalingGroup string            `json:"scaling_group"`
	At           string            `json:"at"`
	Starts       bool              `json:"starts"`
	Placements   []PlannedKernel   `json:"placements"`
	Position     int               `json:"position,omitempty"`
	Waiting      int               `json:"waiting"`
	Sentences    []string          `json:"sentences"`
	Reasons      []json.RawMessage `json:"reasons"`
	Changes      []json.RawMessage `json:"changes"`
	Existing     *Created          `json:"existing,omitempty"`
}

// PlannedKernel is where a container would run; Agent is only told to superadmins.
type PlannedKernel struct {
	ClusterRole string `json:"cluster_role"`
	ClusterIdx  int    `json:"cluster_idx"`
	Agent       string `json:"agent,omitempty"`
}

// Plan asks what would come of a request for a session. Nothing comes of asking.
func (c *Client) Plan(ctx context.Context, n NewSession) (plan Plan, err error) {
	err = c.request(ctx, "POST", "/session/_/plan", nil, n.body(), &plan)
	return plan, err
}

// PlanCommand plans a session.
func PlanCommand() *cobra.Command {
	var n NewSession
	var resources, environ, opts []string
	c := withData(&cobra.Command{
		Use: "plan IMAGE", Short: "Tell whether a session would start now, and where, without asking for it", Args: cobra.ExactArgs(1),
		Example: `  backend.ai plan python -r cpu=4 -r mem=8g
  backend.ai plan pytorch -r cuda.shares=2 --cluster-size 4 --cluster-mode multi-node --format json`,
		Long: `Tell what would come of a session that is asked for now: whether it would start, or why it would wait and what would start it. The same
checks are made as when it is really asked for, and the scheduler decides as it would, on a copy of its state: nothing is written, nothing is
reserved, and others may be first by the time you ask for the session itself (backend.ai run).

The exit code is 0 whether it would start or not, and 1 where the request itself would be refused.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			n.Image = args[0]
			if n.Name == "" {
				n.Name = NewName()
			}
			if n.Resources, err = pairs("--resources", resources); err != nil {
				return err
			}
			if n.Environ, err = pairs("--env", environ); err != nil {
				return err
			}
			if n.ResourceOpts, err = pairs("--resource-opts", opts); err != nil {
				return err
			}
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			plan, err := c.Plan(cmd.Context(), n)
			if err != nil {
				return hint(err)
			}
			return console.Show(cmd, plan, func(out io.Writer) error { return plan.write(out) })
		},
	})
	flags := c.Flags()
	flags.StringVarP(&n.Name, "session", "s", "", "name of the session (default: any)")
	flags.StringArrayVarP(&resources, "resources", "r", nil, "resources, e.g. -r cpu=2 -r mem=1g (default: what the image needs)")
	flags.StringArrayVarP(&environ, "env", "e", nil, "environment, NAME=VALUE")
	flags.StringArrayVar(&opts, "resource-opts", nil, "options such as shmem=64m or priority=10")
	flags.StringVarP(&n.Group, "group", "g", "", "project the session belongs to")
	flags.StringVarP(&n.Domain, "domain", "d", "", "domain the session belongs to")
	flags.StringVar(&n.ScalingGroup, "scaling-group", "", "pool of agents it goes to (default: the first that is allowed)")
	flags.IntVar(&n.ClusterSize, "cluster-size", 0, "how many containers (default: 1)")
	flags.StringVar(&n.ClusterMode, "cluster-mode", "", "single-node or multi-node")
	return c
}

// write says it to people.
func (p Plan) write(out io.Writer) error {
	if p.Existing == nil {
		var want []string
		for _, name := range slices.Sorted(maps.Keys(p.Resources)) {
			if amount := p.Resources[name]; amount != "0" {
				want = append(want, name+"="+amount)
			}
		}
		fmt.Fprintf(out, "%s with %s in %s: ", p.Image, strings.Join(want, " "), p.ScalingGroup)
		if p.Starts {
			fmt.Fprintln(out, "it would start now.")
		} else {
			fmt.Fprintf(out, "it would wait, as number %d of %d.\n", p.Position, p.Waiting)
		}
	}
	for _, k := range p.Placements {
		if k.Agent != "" {
			fmt.Fprintf(out, "  %s%d on %s\n", k.ClusterRole, k.ClusterIdx, k.Agent)
		}
	}
	for _, s := range p.Sentences {
		fmt.Fprintln(out, s)
	}
	return writeChanges(out, "It would start now if", p.Changes)
}
