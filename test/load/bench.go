package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// What the original did on two cores of such a machine, measured with load.py and fake_agent.py (10 agents, create delay 0.3 s).
const (
	originalSessions = 7.4 // a second
	originalP99      = 5600.0
	originalLone     = 2500.0 // ms
	originalDestroy  = 1500.0
	originalAuth     = 217.0
	originalMatch    = 108.0
	originalKeypair  = 113.0
	originalList     = 3.5
	originalHello    = 2956.0
	originalStart    = 2.0 // s
	originalMemory   = 211.0
)

// bench measures mgr start-server on real servers and prints each figure beside the original's.
func bench(ctx context.Context, o options, binary, python string) error {
	g, err := newGround(ctx)
	if err != nil {
		return err
	}
	defer g.stop()
	first, err := g.startManager(binary)
	if err != nil {
		return err
	}
	o.endpoint, o.redis, o.image = "http://"+g.api, g.redis.Addr(), image
	o.access, o.secret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" // the fixture's well-known test keys
	row := func(name string, value, original float64, unit string, more bool) {
		ratio := value / original
		if !more {
			ratio = original / value
		}
		fmt.Printf("%-46s %10.1f %-4s  original %8.1f  ratio %6.1f\n", name, value, unit, original, ratio)
	}
	fmt.Println("two cores, everything on this machine; agents and driver in Go unless said otherwise")
	row("start to first answer", first.Seconds()*1000, originalStart*1000, "ms", false)
	idle := g.memory()
	row("resident memory at start", idle["resident_mib"], originalMemory, "MiB", false)

	joining := o
	joining.agents = 100
	joined, err := run(ctx, "join", joining)
	if err != nil {
		return err
	}
	fmt.Printf("%-46s %10.2f s     original: a standstill of minutes\n", "100 agents join at once, all ALIVE after", joined["all_alive_s"])

	lone := o
	lone.count, lone.concurrency, lone.agents = 20, 1, 10
	alone, err := run(ctx, "sessions", lone)
	if err != nil {
		return err
	}
	row("a lone session, POST to RUNNING (0.3 s agent), p50", alone["post_to_running_ms"].(spread).P50, originalLone, "ms", false)
	row("a lone destroy, p50", alone["destroy_ms"].(spread).P50, originalDestroy, "ms", false)

	for _, at := range []int{16, 64, 128, 300, 600, 900} {
		many := o
		many.concurrency, many.agents = at, 10
		many.count = max(many.count, 6*at) // the first and the last of them find an idle machine
		result, err := run(ctx, "sessions", many)
		if err != nil {
			return err
		}
		started, ended := result["post_to_running_ms"].(spread), result["destroy_ms"].(spread)
		row(fmt.Sprintf("sessions/s, %d clients", at), result["sessions_per_s"].(float64), originalSessions, "/s", true)
		fmt.Printf("    POST to RUNNING p50 %.0f ms, p99 %.0f ms (original %.0f ms); destroy p50 %.0f ms, p99 %.0f ms, %.0f/s; RUNNING %d of %d; agents' books %v\n",
			started.P50, started.P99, originalP99, ended.P50, ended.P99, result["destroys_per_s"], result["running"], result["asked"], result["agents"])
	}
	waiting := o
	waiting.count, waiting.concurrency, waiting.agents, waiting.delay = 300, 20, 10, 0
	woken, err := run(ctx, "wake", waiting)
	if err != nil {
		return err
	}
	started := woken["destroy_to_create_ms"].(spread)
	fmt.Printf("%-46s p50 %.1f ms, p99 %.1f ms, at most %.1f ms; %d others wait beside it (original: up to 10 s)\n", "end of a session to start of one that waits", started.P50, started.P99, started.Max, woken["waiting"])

	loaded := g.memory()
	fmt.Printf("%-46s %10.1f MiB (its own %.1f, peak %.1f); original 314\n", "resident memory after that", loaded["resident_mib"], loaded["own_mib"], loaded["peak_mib"])

	asking := o
	asking.concurrency, asking.redis = 32, ""
	rates, err := run(ctx, "api", asking)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		name     string
		original float64
	}{{"GET /", originalHello}, {"GET /auth", originalAuth}, {"GET /session/_/match", originalMatch}, {"GraphQL keypair", originalKeypair}, {"GraphQL list of 100 sessions", originalList}} {
		figures, ok := rates[r.name].(map[string]any)
		if ok && figures["per_s"] != nil {
			row(r.name, figures["per_s"].(float64), r.original, "/s", true)
		} else {
			fmt.Printf("%-46s %v\n", r.name, figures)
		}
	}
	if python == "" {
		return nil
	}
	fmt.Println("the same with driver and agents in Python (load.py, fake_agent.py), as the original was measured")
	result, err := g.python(ctx, python, "sessions", 10, 1000)
	if err != nil {
		return err
	}
	figures, _ := result["result"].(map[string]any)
	fmt.Printf("    %v sessions enqueued at %v/s; RUNNING %v at %v/s; enqueued to RUNNING %v ms; destroy %v\n", figures["asked"], figures["enqueue_per_s"],
		figures["running"], figures["sessions_per_s"], figures["enqueue_to_running_ms"], figures["destroy"])
	fmt.Printf("    the driver took %v of %v cores, all of the machine's processes %v\n", result["driver_cpu_cores"], result["cores"], result["machine_busy_cores"])
	return nil
}

// pythonWithAgents finds an interpreter that can run the pretended agents.
func pythonWithAgents() string {
	p := filepath.Join(".venv", "bin", "python")
	if _, err := os.Stat(p); err != nil {
		return ""
	}
	return p
}
