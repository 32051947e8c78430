package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// residentCount is how many sessions live through a run.
const residentCount = 48

type options struct {
	binary        string
	faults        int
	seed          uint64
	nodes, agents int
	workers, rest int
	only, format  string
	keep          bool
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if len(os.Args) > 1 && os.Args[1] == "cluster" {
		end(demonstrate(ctx, os.Args[2:]))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "scale" {
		end(scale(ctx, os.Args[2:]))
		return
	}
	o := options{}
	flag.StringVar(&o.binary, "manager", "bin/backend.ai", "the program to prove")
	flag.IntVar(&o.faults, "faults", 300, "how many faults")
	flag.Uint64Var(&o.seed, "seed", 0, "of the faults; 0: another one every time")
	flag.IntVar(&o.nodes, "nodes", 3, "manager nodes")
	flag.IntVar(&o.agents, "agents", 10, "pretended agents")
	flag.IntVar(&o.workers, "clients", 6, "clients that create and destroy sessions all the time")
	flag.IntVar(&o.rest, "rest", 20, "after how many faults the load is held and rows are compared with agents")
	flag.StringVar(&o.only, "only", "", "kinds of faults, separated by commas: "+join(kinds))
	flag.StringVar(&o.format, "format", "console", "console or json")
	flag.BoolVar(&o.keep, "keep", false, "leave data and logs for a look")
	flag.Parse()
	end(prove(ctx, o))
}

func end(ok bool, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	}
	if !ok {
		os.Exit(1)
	}
}

func join(list []kind) string {
	texts := make([]string, len(list))
	for i, k := range list {
		texts[i] = string(k)
	}
	return strings.Join(texts, ",")
}

// chosen are the kinds that --only names.
func chosen(only string) ([]kind, error) {
	if only == "" {
		return kinds, nil
	}
	var list []kind
	for name := range strings.SplitSeq(only, ",") {
		if !slices.Contains(kinds, kind(name)) {
			return nil, fmt.Errorf("no kind of fault is called %q; there are %s", name, join(kinds))
		}
		list = append(list, kind(name))
	}
	return list, nil
}

// prove runs the faults and tells whether nothing was wrong.
func prove(ctx context.Context, o options) (ok bool, err error) {
	of, err := chosen(o.only)
	if err != nil {
		return false, err
	}
	if o.format != "console" && o.format != "json" {
		return false, fmt.Errorf("--format is console or json")
	}
	if o.nodes < 2 || o.agents < 1 || o.faults < 1 || o.rest < 1 {
		return false, fmt.Errorf("it takes at least two nodes, one agent and one fault")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	say("seed %d: go run ./test/faults --seed %d --faults %d --nodes %d --agents %d%s", o.seed, o.seed, o.faults, o.nodes, o.agents,
		map[bool]string{true: " --only " + o.only}[o.only != ""])
	// Room for twice the residents, so that they spread over agents, and what is not given back is missed soon.
	w, err := newWorld(ctx, setup{binary: o.binary, nodes: o.nodes, agents: o.agents, residents: residentCount, wired: true, group: "default",
		cores: max(8, (2*residentCount+o.agents-1)/o.agents)}, say)
	keep := o.keep
	defer func() { w.close(keep) }()
	if err != nil {
		for _, n := range w.nodes {
			say("%s:\n%s", n.Name, n.tail(1500))
		}
		return false, err
	}
	plan := planFor(o.seed, o.faults, o.nodes, o.agents, of)
	outcomes := w.run(ctx, plan, o.workers, o.rest)
	w.checkLogs()
	w.report(os.Stdout, o.format, o.seed, plan, outcomes)
	if len(w.violations) > 0 {
		keep = true
	}
	return len(w.violations) == 0, nil
}
