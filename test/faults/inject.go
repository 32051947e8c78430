package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/rueidis"
)

// inject makes a fault happen and returns what heals it.
func (w *world) inject(ctx context.Context, f fault) (heal func() error, err error) {
	n := w.nodes[f.Node%len(w.nodes)]
	a := w.fleet.agents[f.Agent%len(w.fleet.agents)]
	nothing := func() error { return nil }
	cuts := func(links ...link) func() error {
		for _, l := range links {
			c := f.Cut
			if l.To == n.Name { // made by another node: what it sends is what is sent to this one
				c.Out, c.In = c.In, c.Out
			}
			w.wires.Cut(l, c)
		}
		return func() error {
			for _, l := range links {
				w.wires.Cut(l, cut{})
			}
			return nil
		}
	}
	switch f.Kind {
	case killNode:
		n.Kill()
	case pauseNode:
		n.Signal(syscall.SIGSTOP)
		return func() error { n.Signal(syscall.SIGCONT); return nil }, nil
	case terminateNode:
		return nothing, n.Terminate(30 * time.Second)
	case drainNode:
		return w.drain(ctx, n)
	case isolateNode:
		links := append(w.linksToEtcd(n), link{n.Name, "postgres"}, link{n.Name, "redis"})
		for _, other := range w.fleet.agents {
			links = append(links, link{n.Name, other.ID})
		}
		return cuts(append(links, w.linksBetween(n)...)...), nil
	case cutEtcd:
		return cuts(w.linksToEtcd(n)...), nil
	case cutPostgres:
		return cuts(link{n.Name, "postgres"}), nil
	case cutRedis:
		return cuts(link{n.Name, "redis"}), nil
	case cutNodes:
		return cuts(w.linksBetween(n)...), nil
	case cutAgent:
		return cuts(link{"", a.ID}), nil
	case slowPG:
		return cuts(link{"", "postgres"}), nil
	case restartPG:
		return nothing, w.restartPG(ctx, f.Mode == "immediately")
	case restartRedis:
		if err := w.redis.Stop(ctx); err != nil {
			return nothing, err
		}
		return nothing, w.startRedis(ctx)
	case flushRedis:
		return nothing, w.flushRedis(ctx)
	case killEtcd:
		e := w.etcd[f.Node%len(w.etcd)]
		e.Stop(syscall.SIGKILL, time.Second)
		return e.Start, nil
	case loseQuorum:
		var ended []*program
		for i, e := range w.etcd {
			if i != f.Node%len(w.etcd) {
				e.Stop(syscall.SIGKILL, time.Second)
				ended = append(ended, e)
			}
		}
		return func() (err error) {
			for _, e := range ended {
				err = errors.Join(err, e.Start())
			}
			return err
		}, nil
	case restartAgent:
		return func() error { return a.start(false) }, a.end()
	case crashAgent:
		err := a.end()
		lost := w.bereave(a.ID)
		return func() error {
			if err := a.start(true); err != nil {
				return err
			}
			return w.mourn(ctx, lost)
		}, err
	}
	return nothing, nil
}

func (w *world) linksToEtcd(n *node) (links []link) {
	for i := range etcdMembers {
		links = append(links, link{n.Name, etcdName(i)})
	}
	return links
}

// linksBetween are the ways between a node and the others, whoever has made the connection.
func (w *world) linksBetween(n *node) (links []link) {
	for _, other := range w.nodes {
		if other != n {
			links = append(links, link{n.Name, other.Name}, link{other.Name, n.Name})
		}
	}
	return links
}

// drain has a node hand its shards over, and waits until it has none.
func (w *world) drain(ctx context.Context, n *node) (func() error, error) {
	order := func(what string) error {
		out, err := exec.CommandContext(ctx, n.args[0], "mgr", "cluster", what, n.Name, "-f", filepath.Join(w.dir, n.Name+".toml")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mgr cluster %s: %w: %s", what, err, out)
		}
		return nil
	}
	heal := func() error { return order("undrain") }
	if err := order("drain"); err != nil {
		return heal, err
	}
	return heal, eventually(ctx, 20*time.Second, func() error {
		v, err := w.view(ctx)
		if err != nil {
			return err
		}
		if left := ownedBy(v, n.Name); len(left) > 0 {
			return fmt.Errorf("%s is drained and still owns %d shards", n.Name, len(left))
		}
		return nil
	})
}

func (w *world) flushRedis(ctx context.Context) error {
	r, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{w.redis.Addr()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Do(ctx, r.B().Flushall().Build()).Error()
}

// mourn waits until the rows say that lost residents are gone.
func (w *world) mourn(ctx context.Context, lost []resident) error {
	var ids []string
	for _, r := range lost {
		ids = append(ids, r.ID)
	}
	return eventually(ctx, 40*time.Second, func() error {
		var n int
		if err := w.pool.QueryRow(ctx, `SELECT count(*) FROM kernels WHERE session_id = ANY($1::uuid[]) AND status NOT IN ('TERMINATED', 'CANCELLED')`, ids).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%d sessions that a crashed agent has lost are still said to live", n)
		}
		return nil
	})
}
