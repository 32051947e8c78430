package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

type scaleOptions struct {
	binary, format           string
	counts                   []int
	rounds, sessions, agents int
	clients                  int
	keep                     bool
}

// stretch is what so many nodes did with the same work.
type stretch struct {
	Nodes      int     `json:"nodes"`
	Round      int     `json:"round"`
	Sessions   int     `json:"sessions"`
	Failed     int     `json:"failed"`
	CreatesPS  float64 `json:"sessions_per_s"` // created until RUNNING
	DestroysPS float64 `json:"destroys_per_s"`
	Messages   float64 `json:"messages_per_session"` // between nodes
	Etcd       float64 `json:"etcd_writes_per_session"`
}

// scale measures one, two, three … nodes at the same work on this machine, in turn. It tells whether all work was done.
func scale(ctx context.Context, args []string) (ok bool, err error) {
	o := scaleOptions{counts: []int{1, 2, 3}}
	fs := flag.NewFlagSet("scale", flag.ExitOnError)
	fs.StringVar(&o.binary, "manager", "bin/backend.ai", "the manager")
	fs.StringVar(&o.format, "format", "console", "console or json")
	fs.Func("nodes", "numbers of nodes to compare (default 1,2,3)", func(text string) error {
		o.counts = nil
		for word := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number of nodes", word)
			}
			o.counts = append(o.counts, n)
		}
		return nil
	})
	fs.IntVar(&o.rounds, "rounds", 3, "how often each is measured")
	fs.IntVar(&o.sessions, "sessions", 4000, "sessions to create and destroy")
	fs.IntVar(&o.agents, "agents", 10, "pretended agents")
	fs.IntVar(&o.clients, "clients", 400, "clients at once")
	fs.BoolVar(&o.keep, "keep", false, "leave data and logs for a look")
	_ = fs.Parse(args)
	if o.rounds < 1 || o.sessions < o.clients || o.agents < 1 || o.clients < 1 {
		return false, fmt.Errorf("it takes at least one round, one agent, one client and a session for each")
	}
	if o.format != "console" && o.format != "json" {
		return false, fmt.Errorf("--format is console or json")
	}
	var all []stretch
	ok = true
	for round := range o.rounds {
		for _, n := range o.counts {
			s, err := o.measure(ctx, n, round+1)
			if err != nil {
				return false, fmt.Errorf("%d nodes: %w", n, err)
			}
			fmt.Fprintf(os.Stderr, "round %d, %d nodes: %.0f sessions/s\n", s.Round, s.Nodes, s.CreatesPS)
			all, ok = append(all, s), ok && s.Failed == 0
		}
	}
	if o.format == "json" {
		return ok, json.NewEncoder(os.Stdout).Encode(all)
	}
	fmt.Printf("%d sessions by %d clients through HAProxy, %d agents, all on this machine; the middle of %d rounds\n", o.sessions, o.clients, o.agents, o.rounds)
	fmt.Printf("%-6s %12s %8s %20s %12s %20s %22s %8s\n", "nodes", "sessions/s", "ratio", "(of all rounds)", "destroys/s", "messages/session", "etcd writes/session", "failed")
	var one float64
	for i, n := range o.counts {
		of := func(f func(stretch) float64) (list []float64) {
			for _, s := range all {
				if s.Nodes == n {
					list = append(list, f(s))
				}
			}
			slices.Sort(list)
			return list
		}
		creates := of(func(s stretch) float64 { return s.CreatesPS })
		middle := creates[len(creates)/2]
		if i == 0 {
			one = middle
		}
		median := func(list []float64) float64 { return list[len(list)/2] }
		failed := of(func(s stretch) float64 { return float64(s.Failed) })
		fmt.Printf("%-6d %12.0f %8.2f %20s %12.0f %20.1f %22.3f %8.0f\n", n, middle, middle/one, fmt.Sprintf("%.0f to %.0f", creates[0], creates[len(creates)-1]),
			median(of(func(s stretch) float64 { return s.DestroysPS })), median(of(func(s stretch) float64 { return s.Messages })),
			median(of(func(s stretch) float64 { return s.Etcd })), failed[len(failed)-1])
	}
	return ok, nil
}

// measure starts a world of n nodes and has it do the work.
func (o scaleOptions) measure(ctx context.Context, n, round int) (s stretch, err error) {
	quiet := func(string, ...any) {}
	w, err := newWorld(ctx, setup{binary: o.binary, nodes: n, agents: o.agents, group: "default", cores: 2*o.sessions/o.agents + 1}, quiet)
	defer func() { w.close(o.keep) }()
	if err != nil {
		return s, err
	}
	// The nodes and the database get warm.
	if failed := o.lives(w, "warm", max(o.clients, o.sessions/4)); failed.made+failed.ended > 0 {
		return s, fmt.Errorf("%d sessions failed before it began: %v", failed.made+failed.ended, failed.first)
	}
	messages, revision, err := w.counts(ctx)
	if err != nil {
		return s, err
	}
	done := o.lives(w, "scale", o.sessions)
	after, changed, err := w.counts(ctx)
	if err != nil {
		return s, err
	}
	if len(w.violations) > 0 {
		return s, fmt.Errorf("%s", w.violations[0].Text)
	}
	if done.first != nil {
		fmt.Fprintln(os.Stderr, "a request failed:", done.first)
	}
	per := func(n int64) float64 { return float64(n) / float64(o.sessions) }
	return stretch{Nodes: n, Round: round, Sessions: o.sessions, Failed: done.made + done.ended,
		CreatesPS: float64(o.sessions-done.made) / done.creating.Seconds(), DestroysPS: float64(o.sessions-done.ended) / done.ending.Seconds(),
		Messages: per(after - messages), Etcd: per(changed - revision)}, nil
}

// outcomeOfLives is how a number of sessions went.
type outcomeOfLives struct {
	creating, ending time.Duration
	made, ended      int // failures
	first            error
}

// lives creates sessions, waits until they run, and destroys them.
func (o scaleOptions) lives(w *world, prefix string, count int) (out outcomeOfLives) {
	var made, ended atomic.Int64
	var first atomic.Pointer[error]
	fail := func(n *atomic.Int64, err error) {
		n.Add(1)
		first.CompareAndSwap(nil, &err)
	}
	name := func(i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }
	began := time.Now()
	atOnce(o.clients, count, func(i int) {
		s, err := w.load.create(name(i))
		if err == nil && s.Status != "RUNNING" {
			err = fmt.Errorf("%s is %s", name(i), s.Status)
		}
		if err != nil {
			fail(&made, err)
		}
	})
	out.creating = time.Since(began)
	began = time.Now()
	atOnce(o.clients, count, func(i int) {
		if _, err := w.load.request("destroy", name(i), func(ctx context.Context) (string, int, error) {
			status, err := w.load.client.do(ctx, "DELETE", "/session/"+name(i), nil, nil)
			return "", status, err
		}); err != nil {
			fail(&ended, err)
		}
	})
	out.ending = time.Since(began)
	out.made, out.ended = int(made.Load()), int(ended.Load())
	if p := first.Load(); p != nil {
		out.first = *p
	}
	return out
}

// counts are the messages that the nodes have sent each other, and etcd's revision, which every write raises.
func (w *world) counts(ctx context.Context) (messages, revision int64, err error) {
	for _, n := range w.nodes {
		var seen struct {
			Peers []struct {
				Sent int64 `json:"sent"`
			} `json:"peers"`
		}
		if _, err := newClient("http://"+n.API, 1).do(ctx, "GET", "/inspect/cluster", nil, &seen); err != nil {
			return 0, 0, err
		}
		for _, p := range seen.Peers {
			messages += p.Sent
		}
	}
	resp, err := w.etcdCli.Get(ctx, w.prefix)
	if err != nil {
		return 0, 0, err
	}
	return messages, resp.Header.Revision, nil
}
