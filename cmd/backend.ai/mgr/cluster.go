package mgr

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/persistence/postgres/shards"
)

// clusterGroup is cluster: the manager nodes and their shards.
func clusterGroup(o *options) *cobra.Command {
	status := o.with(&cobra.Command{
		Use: "status", Short: "Show the manager nodes and which of them owns how many shards", Args: cobra.NoArgs,
		Long: `Show the manager nodes that have a lease in etcd, and how many shards each of them owns there and in the database. While shards move the
two differ: etcd says who should act for a shard, the database who may.`,
		RunE: o.run(clusterStatus),
	})
	order := func(use, short, long string, draining bool) *cobra.Command {
		return o.with(&cobra.Command{
			Use: use + " NODE", Short: short, Long: long, Args: cobra.ExactArgs(1),
			RunE: o.run(func(ctx context.Context, t *tools, cmd *cobra.Command, args []string) error {
				client, err := t.etcd(ctx, "", "")
				if err != nil {
					return err
				}
				return membership.Order(ctx, client.Etcd(), server.ClusterPrefix(t.cfg.Etcd.Namespace), args[0], draining)
			}),
		})
	}
	return console.Group("cluster", "Look after the manager nodes of a cluster", status,
		order("drain", "Have a node hand its shards to the others", `Have a node hand its shards to the others and take none, as before an upgrade. It goes on answering requests; "cluster status" shows when it has none left.`, true),
		order("undrain", "Let a drained node take shards again", "", false))
}

// nodeLine is a node as "cluster status" shows it.
type nodeLine struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Address   string    `json:"address"`
	API       string    `json:"api"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	State     string    `json:"state"` // live, draining, drained
	Claimed   int       `json:"claimed"`
	Owned     int       `json:"owned"`
}

func clusterStatus(ctx context.Context, t *tools, cmd *cobra.Command, _ []string) error {
	client, err := t.etcd(ctx, "", "")
	if err != nil {
		return err
	}
	view, err := membership.Look(ctx, client.Etcd(), server.ClusterPrefix(t.cfg.Etcd.Namespace))
	if err != nil {
		return err
	}
	pool, err := t.database(ctx)
	if err != nil {
		return err
	}
	rows, err := shards.List(ctx, pool)
	if err != nil {
		return err
	}
	owned := make(map[string]int)
	for _, r := range rows {
		if r.Owner != nil {
			owned[*r.Owner]++
		}
	}
	answer := struct {
		Nodes     []nodeLine   `json:"nodes"`
		Shards    []shards.Row `json:"shards"`
		Unclaimed int          `json:"unclaimed"`
	}{Nodes: []nodeLine{}, Shards: rows, Unclaimed: len(rows) - len(view.Claims)}
	for _, m := range view.Members {
		n := nodeLine{Name: m.Name, ID: m.ID, Address: m.Address, API: m.API, Version: m.Version, StartedAt: m.StartedAt, State: "live",
			Claimed: len(view.Claimed(m.ID)), Owned: owned[m.Name]}
		if m.Draining {
			if n.State = "draining"; n.Claimed == 0 {
				n.State = "drained"
			}
		}
		answer.Nodes = append(answer.Nodes, n)
	}
	return console.Show(cmd, answer, func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tSTATE\tSHARDS\tIN DATABASE\tAPI\tNODES REACH IT AT\tVERSION\tSINCE")
		for _, n := range answer.Nodes {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", n.Name, n.State, n.Claimed, n.Owned, n.API, n.Address, n.Version, n.StartedAt.Local().Format(time.DateTime))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if answer.Unclaimed > 0 {
			fmt.Fprintf(out, "%d of %d shards are claimed by no node.\n", answer.Unclaimed, len(rows))
		}
		return nil
	})
}
