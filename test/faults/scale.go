package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

type scaleOptions struct {
	binary, format          string
	counts                  []int
	turns, sessions, agents int
	clients                 int
	keep                    bool
}

// scaled is what so many nodes did with the same work.
type scaled struct {
	Nodes      int     `json:"nodes"`
	Sessions   int     `json:"sessions"`
	Failed     int     `json:"failed"`
	CreatesPS  float64 `json:"sessions_per_s"` // created until RUNNING
	DestroysPS float64 `json:"destroys_per_s"`
	Messages   float64 `json:"messages_per_session"` // between nodes
	Etcd       float64 `json:"etcd_writes_per_session"`
	// Processor time of a session's creation, in milliseconds.
	ManagersMS float64 `json:"managers_ms_per_session"`
	StoresMS   float64 `json:"stores_ms_per_session"`
	ClientsMS  float64 `json:"clients_ms_per_session"`
	// Ratio is to the sessions per second of the first number of nodes, Turns the same of each turn.
	Ratio float64   `json:"ratio"`
	Turns []float64 `json:"ratio_by_turn"`
}

// scale measures one, two, three … nodes at the same work on this machine. It tells whether all work was done. All are started at once
// and work in turn for a second or so, the others resting: a machine whose speed changes from minute to minute then changes all alike.
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
	fs.IntVar(&o.turns, "turns", 12, "how often each works")
	fs.IntVar(&o.sessions, "sessions", 1200, "sessions to create and destroy in a turn")
	fs.IntVar(&o.agents, "agents", 10, "pretended agents")
	fs.IntVar(&o.clients, "clients", 400, "clients at once")
	fs.BoolVar(&o.keep, "keep", false, "leave data and logs for a look")
	_ = fs.Parse(args)
	if o.turns < 1 || o.sessions < o.clients || o.agents < 1 || o.clients < 1 {
		return false, fmt.Errorf("it takes at least one turn, one agent, one client and a session for each")
	}
	if o.format != "console" && o.format != "json" {
		return false, fmt.Errorf("--format is console or json")
	}
	results, err := o.measure(ctx)
	if err != nil {
		return false, err
	}
	ok = !slices.ContainsFunc(results, func(s scaled) bool { return s.Failed > 0 })
	if o.format == "json" {
		return ok, json.NewEncoder(os.Stdout).Encode(results)
	}
	fmt.Printf("%d sessions by %d clients through HAProxy, %d agents, all on this machine, in %d turns\n", o.turns*o.sessions, o.clients, o.agents, o.turns)
	fmt.Printf("%-6s %11s %6s %20s %11s %17s %20s %7s   %s\n", "nodes", "sessions/s", "ratio", "(half of the turns)", "destroys/s", "messages/session", "etcd writes/session",
		"failed", "processor ms/session: all = managers + stores + clients")
	for _, s := range results {
		turns := slices.Sorted(slices.Values(s.Turns))
		fmt.Printf("%-6d %11.0f %6.2f %20s %11.0f %17.1f %20.3f %7d   %.2f = %.2f + %.2f + %.2f\n", s.Nodes, s.CreatesPS, s.Ratio,
			fmt.Sprintf("%.2f to %.2f", turns[len(turns)/4], turns[len(turns)-1-len(turns)/4]), s.DestroysPS, s.Messages, s.Etcd, s.Failed,
			s.ManagersMS+s.StoresMS+s.ClientsMS, s.ManagersMS, s.StoresMS, s.ClientsMS)
	}
	return ok, nil
}

// contender is a number of nodes, with what it has done.
type contender struct {
	*world
	creating, ending   []time.Duration // by turn
	failed             int
	spent              spent
	messages, revision int64 // before
}

// measure starts all and lets them work.
func (o scaleOptions) measure(ctx context.Context) ([]scaled, error) {
	quiet := func(string, ...any) {}
	var all []*contender
	for _, n := range o.counts {
		w, err := newWorld(ctx, setup{binary: o.binary, nodes: n, agents: o.agents, group: "default", cores: 2*o.sessions/o.agents + 1}, quiet)
		defer func() { w.close(o.keep) }()
		if err != nil {
			return nil, fmt.Errorf("%d nodes: %w", n, err)
		}
		// The nodes and the database get warm.
		if warm := o.lives(w, "warm"); warm.made+warm.ended > 0 {
			return nil, fmt.Errorf("%d nodes: %d sessions failed before it began: %v", n, warm.made+warm.ended, warm.first)
		}
		c := &contender{world: w}
		if c.messages, c.revision, err = w.counts(ctx); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	order := rand.New(rand.NewPCG(1, 2)) // who comes behind whom must not matter
	for turn := range o.turns {
		for _, i := range order.Perm(len(all)) {
			if err := o.turn(all[i], turn); err != nil {
				return nil, fmt.Errorf("%d nodes: %w", o.counts[i], err)
			}
		}
		fmt.Fprintf(os.Stderr, "turn %d of %d:", turn+1, o.turns)
		for i, c := range all {
			fmt.Fprintf(os.Stderr, " %d nodes %.0f sessions/s", o.counts[i], float64(o.sessions)/c.creating[turn].Seconds())
		}
		fmt.Fprintln(os.Stderr)
	}
	var results []scaled
	for i, c := range all {
		s, err := o.result(ctx, o.counts[i], c, all[0])
		if err != nil {
			return nil, err
		}
		results = append(results, s)
	}
	return results, nil
}

// result is what one of them has done, compared with the first.
func (o scaleOptions) result(ctx context.Context, nodes int, c, first *contender) (s scaled, err error) {
	messages, revision, err := c.counts(ctx)
	if err != nil {
		return s, err
	}
	sessions := o.sessions * o.turns
	per := func(total float64) float64 { return total / float64(sessions) }
	ms := func(d time.Duration) float64 { return 1000 * per(d.Seconds()) }
	creating, ending := sum(c.creating), sum(c.ending)
	s = scaled{Nodes: nodes, Sessions: sessions, Failed: c.failed, CreatesPS: 1 / per(creating.Seconds()), DestroysPS: 1 / per(ending.Seconds()),
		Messages: per(float64(messages - c.messages)), Etcd: per(float64(revision - c.revision)),
		ManagersMS: ms(c.spent.Managers), StoresMS: ms(c.spent.Stores), ClientsMS: ms(c.spent.Clients),
		Ratio: sum(first.creating).Seconds() / creating.Seconds()}
	for turn, taken := range c.creating {
		s.Turns = append(s.Turns, first.creating[turn].Seconds()/taken.Seconds())
	}
	return s, nil
}

func sum(list []time.Duration) (total time.Duration) {
	for _, d := range list {
		total += d
	}
	return total
}

// turn has one of them work.
func (o scaleOptions) turn(c *contender, turn int) error {
	before, err := c.settled()
	if err != nil {
		return err
	}
	done := o.lives(c.world, fmt.Sprintf("turn%02d", turn))
	if done.err != nil {
		return done.err
	}
	if len(c.violations) > 0 {
		return fmt.Errorf("%s", c.violations[0].Text)
	}
	if done.first != nil {
		fmt.Fprintln(os.Stderr, "a request failed:", done.first)
	}
	c.creating, c.ending = append(c.creating, done.creating), append(c.ending, done.ending)
	c.failed += done.made + done.ended
	c.spent = c.spent.plus(done.spent.minus(before))
	return nil
}

// outcomeOfLives is how a number of sessions went.
type outcomeOfLives struct {
	creating, ending time.Duration
	made, ended      int // failures
	first            error
	spent            spent // when all were created
	err              error // of reading that
}

// lives creates sessions, waits until they run, and destroys them.
func (o scaleOptions) lives(w *world, prefix string) (out outcomeOfLives) {
	var made, ended atomic.Int64
	var first atomic.Pointer[error]
	fail := func(n *atomic.Int64, err error) {
		n.Add(1)
		first.CompareAndSwap(nil, &err)
	}
	name := func(i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }
	began := time.Now()
	atOnce(o.clients, o.sessions, func(i int) {
		s, err := w.load.create(name(i))
		if err == nil && s.Status != "RUNNING" {
			err = fmt.Errorf("%s is %s", name(i), s.Status)
		}
		if err != nil {
			fail(&made, err)
		}
	})
	out.creating = time.Since(began)
	out.spent, out.err = w.spent()
	began = time.Now()
	atOnce(o.clients, o.sessions, func(i int) {
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
