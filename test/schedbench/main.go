package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"text/tabwriter"
	"time"

	"backend.ai/manager/actors/protocol"
)

// Result is everything that was measured.
type Result struct {
	Processor  string       `json:"processor"`
	Throughput []Throughput `json:"throughput"`
	Options    []Throughput `json:"options"` // what the original's schedulers don't have, 5,000 agents
	ByQueue    []Throughput `json:"by_queue"`
	Parked     Parked       `json:"parked"`
	Gangs      []Gang       `json:"gangs"`
	Trace      []Outcome    `json:"trace"`
}

var policies = []string{"fifo", "lifo", "mof", "drf"}

var options = []string{"fifo+priority", "fifo+share", "fifo+spread", "fifo+pack", "fifo+backfill", "fifo+preemption"}

func main() {
	format := flag.String("format", "text", "text or json")
	plots := flag.String("plots", "docs/plots", "folder for the plots; empty: none")
	during := flag.Duration("during", 2*time.Second, "how long each steady state is measured")
	jobs := flag.Int("jobs", 20_000, "jobs of the trace")
	only := flag.Bool("trace", false, "only play the trace, and make no plots")
	onlyParked := flag.Bool("parked-cost", false, "only measure what 100,000 parked sessions cost (2 minutes)")
	worker := flag.Bool("worker", false, "work for a stretch for each line that is read: what -parked-cost starts")
	parked := flag.Int("parked", 0, "parked sessions beside those of -worker and -profile")
	profile := flag.String("profile", "", "write a CPU profile of the steady state of 5,000 agents under the policy given as argument there, and do nothing else")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	if *profile != "" {
		f, err := os.Create(*profile)
		check(err)
		steady = func() { check(pprof.StartCPUProfile(f)) }
		fmt.Printf("%+v\n", throughput(flag.Arg(0), 5000, 10_000, *parked, 5*time.Second))
		pprof.StopCPUProfile()
		check(f.Close())
		return
	}
	if *worker {
		check(serveStretches(*parked, os.Stdin, os.Stdout))
		return
	}
	if *onlyParked {
		p, err := parkedCost()
		check(err)
		p.print()
		return
	}
	if *only {
		print(&Result{Trace: traces(*jobs)})
		return
	}
	r := measure(*during, *jobs)
	if *plots != "" {
		check(draw(r, *plots))
	}
	if *format == "json" {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		check(out.Encode(r))
		return
	}
	print(r)
}

func measure(during time.Duration, jobs int) *Result {
	r := &Result{Processor: fmt.Sprintf("%s/%s, 1 of %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}
	for _, policy := range policies {
		for _, agents := range []int{100, 1000, 5000} {
			r.Throughput = append(r.Throughput, throughput(policy, agents, 10_000, 0, during))
		}
	}
	for _, policy := range options {
		r.Options = append(r.Options, throughput(policy, 5000, 10_000, 0, during))
	}
	for _, pending := range []int{100, 1000, 10_000, 100_000} {
		r.ByQueue = append(r.ByQueue, throughput("fifo", 5000, pending, 0, during))
	}
	var err error
	r.Parked, err = parkedCost()
	check(err)
	for _, policy := range policies {
		r.Gangs = append(r.Gangs, gang(policy, 5000, 1500))
	}
	r.Trace = traces(jobs)
	return r
}

// traces plays the trace under each policy, and under fifo with each option that matters to it.
func traces(jobs int) (list []Outcome) {
	const machines = 64
	for _, policy := range policies {
		list = append(list, play(protocol.Policy{Name: policy}, policy, jobs, machines))
		if policy != "fifo" {
			continue
		}
		list = append(list, play(protocol.Policy{Name: policy, RetriesToSkip: 3}, "fifo, skip 3", jobs, machines))
		for _, o := range []struct {
			label   string
			options protocol.Options
		}{
			{"fifo, backfill", protocol.Options{Backfill: true}},
			{"fifo, fair share", protocol.Options{FairShareHalfLife: 24 * time.Hour}},
			{"fifo, both", protocol.Options{Backfill: true, FairShareHalfLife: 24 * time.Hour}},
			{"fifo, spread", protocol.Options{Placement: "spread"}},
			{"fifo, pack", protocol.Options{Placement: "pack"}},
		} {
			list = append(list, play(protocol.Policy{Name: policy, Options: o.options}, o.label, jobs, machines))
		}
	}
	return list
}

func draw(r *Result, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	byAgents := plot{title: "Decisions per second, 10,000 pending", x: "agents", y: "decisions/s on one core"}
	for _, policy := range policies {
		l := line{name: policy}
		for _, t := range r.Throughput {
			if t.Policy == policy {
				l.x, l.y = append(l.x, float64(t.Agents)), append(l.y, t.PerSecond)
			}
		}
		byAgents.lines = append(byAgents.lines, l)
	}
	byQueue := plot{title: "Decisions per second, 5,000 agents", x: "pending sessions", y: "decisions/s on one core"}
	l := line{name: "fifo"}
	for _, t := range r.ByQueue {
		l.x, l.y = append(l.x, float64(t.Pending)), append(l.y, t.PerSecond)
	}
	byQueue.lines = []line{l}
	waits := plot{title: "Wait of a drawn trace: 99th percentile", x: "GPUs of a job", y: "seconds"}
	for _, o := range r.Trace {
		l := line{name: o.Policy}
		for _, w := range o.Waits {
			l.x, l.y = append(l.x, float64(w.GPUs)), append(l.y, max(w.P99, 1))
		}
		waits.lines = append(waits.lines, l)
	}
	for name, p := range map[string]*plot{"scheduler-agents.svg": &byAgents, "scheduler-queue.svg": &byQueue, "scheduler-trace.svg": &waits} {
		if err := p.write(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

func print(r *Result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.Throughput) == 0 {
		r.print(w)
		return
	}
	fmt.Fprintln(w, "policy\tagents\tpending\tdecisions/s\tfilling/s\t")
	for _, t := range slices.Concat(r.Throughput, r.Options, r.ByQueue) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t\n", t.Policy, t.Agents, t.Pending, t.PerSecond, t.FillRate)
	}
	w.Flush()
	r.Parked.print()
	for _, g := range r.Gangs {
		fmt.Fprintf(w, "a gang of %d kernels on %d agents, %s\t%.1f ms\trefused %.1f ms\t\n", g.Kernels, g.Agents, g.Policy, g.Milliseconds, g.RefusedMS)
	}
	w.Flush()
	r.print(w)
}

func (p Parked) print() {
	fmt.Printf("\n100,000 parked sessions cost %.1f %% of the throughput (two schedulers without any differ by %.1f %%)\n\n", 100*p.Cost, 100*math.Abs(p.Control))
}

// print shows the outcomes of the trace.
func (r *Result) print(w *tabwriter.Writer) {
	fmt.Println("\nwaits: p50/p99 in seconds by GPUs of a job")
	for _, o := range r.Trace {
		fmt.Fprintf(w, "%s\tmakespan %.1f h\tutilisation %.1f %%\tfairness %.3f\t", o.Policy, o.Makespan, 100*o.Utilisation, o.Fairness)
		for _, wait := range o.Waits {
			fmt.Fprintf(w, "%d: %.0f/%.0f\t", wait.GPUs, wait.P50, wait.P99)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schedbench:", err)
		os.Exit(1)
	}
}
