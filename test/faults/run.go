package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// wholeLimit is how long a cluster may take to be whole after a fault has been healed.
const wholeLimit = 60 * time.Second

// outcome is what a fault did.
type outcome struct {
	Fault      fault           `json:"fault"`
	At         time.Duration   `json:"at"`
	Until      time.Duration   `json:"until"` // requests are counted
	Waits      []time.Duration `json:"waits"` // of commands, by probed shard
	Recovery   time.Duration   `json:"recovery"`
	Requests   int             `json:"requests"`
	Failed     int             `json:"failed"` // 5xx, or no answer
	Violations int             `json:"violations"`
}

// run goes through a plan, with a rest after every so many faults.
func (w *world) run(ctx context.Context, plan []fault, workers, perRest int) (outcomes []outcome) {
	w.load.start(workers)
	defer func() {
		w.load.close()
		w.judge(outcomes)
	}()
	told := make(map[string]int)
	for i, f := range plan {
		if ctx.Err() != nil {
			break
		}
		pause(ctx, f.Quiet)
		o := w.suffer(ctx, f)
		w.checkSins(f.Kind, told)
		o.Violations = w.violationsOf(f)
		outcomes = append(outcomes, o)
		w.say("%3d/%d  %-46s longest wait %-7s  whole after %-7s  %d requests, %d failed%s", i+1, len(plan), f, short(slices.Max(append(o.Waits, 0))), short(o.Recovery),
			o.Requests, o.Failed, map[bool]string{true: fmt.Sprintf("  %d VIOLATIONS", o.Violations)}[o.Violations > 0])
		if (i+1)%perRest == 0 && i+1 < len(plan) {
			w.rest(ctx, false)
		}
	}
	w.rest(context.WithoutCancel(ctx), true)
	w.checkSins("", told)
	return outcomes
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// suffer injects a fault, heals it, and waits until the cluster is whole.
func (w *world) suffer(ctx context.Context, f fault) outcome {
	t := traits[f.Kind]
	victim := w.nodes[f.Node%len(w.nodes)]
	var shards []int32
	notThrough, notOn := victim, ""
	if t.victim {
		if v, err := w.view(ctx); err == nil {
			shards = ownedBy(v, victim.Name)
		}
	} else {
		notThrough, notOn = nil, ""
	}
	switch f.Kind {
	case cutAgent, restartAgent, crashAgent:
		notOn = w.fleet.agents[f.Agent%len(w.fleet.agents)].ID
	}
	w.setFault(f.N)
	p := w.probe(shards, notOn, notThrough)
	at := w.now()
	w.add(entry{Start: at, What: "fault", Text: f.String()})
	heal, err := w.inject(ctx, f)
	if err != nil {
		w.violate(f.Kind, "%s: %v", f, err)
	}
	if t.heals {
		pause(ctx, f.Lasts-(w.now()-at))
	}
	if err := heal(); err != nil {
		w.violate(f.Kind, "after %s: %v", f, err)
	}
	healed := w.now()
	w.add(entry{Start: healed, What: "healing", Text: f.String()})
	o := outcome{Fault: f, At: at}
	if err := eventually(ctx, wholeLimit, func() error { return w.whole(ctx) }); err != nil && ctx.Err() == nil {
		w.violate(f.Kind, "%s after %s was healed: %v", wholeLimit, f, err)
	}
	o.Recovery = w.now() - healed
	w.add(entry{What: "whole", Text: fmt.Sprintf("%s after the healing", short(o.Recovery))})
	if len(w.living()) < w.setup.residents {
		if err := eventually(ctx, wholeLimit, func() error { return w.settle(ctx) }); err != nil && ctx.Err() == nil {
			w.violate(f.Kind, "no sessions can be created after %s: %v", f, err)
		}
	}
	if t.window > 0 {
		pause(ctx, t.window-(w.now()-at))
	}
	waits, firsts := p.end(at)
	o.Waits = waits
	for shard, c := range firsts {
		w.add(entry{Start: c.end, What: "command", Text: fmt.Sprintf("first command to shard %d after the fault, through %s, after %s", shard, c.node, short(c.end-at))})
	}
	if len(firsts) < len(p.list) && ctx.Err() == nil {
		w.violate(f.Kind, "%d of %d probed shards have carried out no command since %s; last error: %s", len(p.list)-len(firsts), len(p.list), f, p.fail)
	}
	until := w.now()
	if t.window > 0 {
		until = at + t.window
	}
	o.Until = until
	w.count(&o)
	return o
}

// count counts the requests around a fault that have ended, and returns those that failed.
func (w *world) count(o *outcome) (bad []string) {
	f := o.Fault
	o.Requests, o.Failed = 0, 0
	for _, e := range w.between(o.At, o.Until) {
		if e.What != "request" {
			continue
		}
		o.Requests++
		if why := e.strange(); why != "" && f.Kind != crashAgent && !w.judged[e.key()] {
			w.judged[e.key()] = true
			w.violateAt(f, e.Start, "%s: %s", why, e)
		}
		if e.bad() {
			o.Failed++
			if len(bad) < 5 {
				bad = append(bad, e.String())
			}
		}
	}
	return bad
}

// judge counts again at the end, when every request has ended, and says where too many have failed.
func (w *world) judge(outcomes []outcome) {
	for i := range outcomes {
		o := &outcomes[i]
		bad, allowed := w.count(o), traits[o.Fault.Kind].allowed
		if float64(o.Failed) > allowed*float64(o.Requests) {
			w.violateAt(o.Fault, o.At, "%s: %d of %d requests failed, allowed are %.0f %%:\n  %s", o.Fault, o.Failed, o.Requests, 100*allowed, strings.Join(bad, "\n  "))
		}
		o.Violations = w.violationsOf(o.Fault)
	}
}

func (w *world) violationsOf(f fault) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.violations {
		if v.Fault == f.N {
			n++
		}
	}
	return n
}
