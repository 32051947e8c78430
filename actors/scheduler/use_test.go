package scheduler

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

func anyWhile(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(60*24*time.Hour)).Draw(t, label))
}

func anyHalving(t *rapid.T) halving {
	return halving(rapid.Int64Range(int64(time.Second), int64(400*24*time.Hour)).Draw(t, "half-life"))
}

// However a time is split, what is left and what has come together is the same; so it does not matter how often sums are settled.
func TestDecayDoesNotMindSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, a, b := anyHalving(t), anyWhile(t, "a"), anyWhile(t, "b")
		if l := h.left(a + b); !near(l, h.left(a)*h.left(b)) {
			t.Fatalf("left %v, in two steps %v", l, h.left(a)*h.left(b))
		}
		if g, steps := h.gain(a+b), h.gain(a)*h.left(b)+h.gain(b); !near(g, steps) {
			t.Fatalf("gain %v, in two steps %v", g, steps)
		}
		if l := h.left(time.Duration(h)); !near(l, 0.5) {
			t.Fatalf("after a half-life %v is left", l)
		}
	})
}

// More time leaves less of what was and adds more of what is; neither leaves its bounds.
func TestDecayIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, a, more := anyHalving(t), anyWhile(t, "a"), anyWhile(t, "more")
		if l := h.left(a); l < 0 || l > 1 || h.left(a+more) > l {
			t.Fatalf("left %v, later %v", l, h.left(a+more))
		}
		g, most := h.gain(a), min(a.Seconds(), time.Duration(h).Seconds()/math.Ln2)
		if g < 0 || g > most*(1+1e-9) || h.gain(a+more) < g {
			t.Fatalf("gain %v of at most %v, later %v", g, most, h.gain(a+more))
		}
	})
}

// What an owner has used is the integral over its containers, however they came, went and changed, and at whatever times it was asked for.
func TestUseIsTheIntegral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHalving(t)
		begin := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
		total := backendai.SlotsOf("cpu", "8", "mem", "16g")
		c := NewCore("g", protocol.Policy{Options: protocol.Options{FairShareHalfLife: time.Duration(h)}}, backendai.NewKnownSlots())
		c.now = begin
		type run struct {
			slots      backendai.ResourceSlots
			start, end time.Time
		}
		var runs, running []*run
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			c.passTime(c.now.Add(time.Duration(rapid.Int64Range(0, int64(2*h)).Draw(t, "pause"))))
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				r := &run{slots: backendai.SlotsOf("cpu", fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "cpu")), "mem", "1g"), start: c.now}
				runs, running = append(runs, r), append(running, r)
				c.using("key", r.slots, 1, false)
			case 1:
				if len(running) > 0 {
					running[0].end = c.now
					c.using("key", running[0].slots, -1, true)
					running = running[1:]
				}
			case 2:
				c.Uses(c.now)
			}
		}
		at := c.now.Add(time.Duration(rapid.Int64Range(0, int64(h)).Draw(t, "later")))
		var cpu, mem float64
		for _, r := range runs {
			end := r.end
			if end.IsZero() {
				end = at
			}
			seconds := h.gain(end.Sub(r.start)) * h.left(at.Sub(end))
			cpu += r.slots.Get("cpu").Float64() / 8 * seconds
			mem += r.slots.Get("mem").Float64() / float64(16<<30) * seconds
		}
		if got, want := c.useOf("key", total, at), max(cpu, mem); math.Abs(got-want) > 2*useUnit+1e-9*want {
			t.Fatalf("%v s, and by the integral %v s", got, want)
		}
	})
}

// What is written down and read by another scheduler is what was known, running containers included; nothing is counted twice.
func TestUseSurvivesATakeover(t *testing.T) {
	begin := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	policy := protocol.Policy{Name: policyFIFO, Options: protocol.Options{FairShareHalfLife: time.Hour}}
	total := backendai.SlotsOf("cpu", "8")
	alloc := &protocol.Allocation{KernelID: [16]byte{1}, SessionID: [16]byte{1}, Agent: "a", AccessKey: "key", Slots: total, Since: begin}
	first := NewCore("g", policy, backendai.NewKnownSlots())
	first.Apply(&protocol.SchedulerLoaded{Policy: policy, Known: first.Known, UsesRead: true}, begin)
	first.Apply(&protocol.Reread{Rows: &protocol.SchedulerLoaded{Allocations: []*protocol.Allocation{alloc}}}, begin)
	first.Apply(&protocol.Reread{Rows: &protocol.SchedulerLoaded{Allocations: []*protocol.Allocation{alloc}}}, begin)
	told := begin.Add(40 * time.Minute)
	effects := first.Apply(&protocol.Tick{Now: told}, told)
	var past []protocol.PastUse
	for _, e := range effects {
		if e, ok := e.(Used); ok {
			past = append(past, e.Past)
		}
	}
	if len(past) != 1 || past[0].AccessKey != "key" || !past[0].At.Equal(told) {
		t.Fatalf("written down: %+v", past)
	}
	if effects := first.Apply(&protocol.Tick{Now: told}, told.Add(tellUsesEvery/2)); len(effects) > 0 {
		t.Errorf("written down again at once: %+v", effects)
	}
	later := told.Add(30 * time.Minute) // the first was killed, and its successor is late
	second := NewCore("g", protocol.Policy{}, nil)
	second.Apply(&protocol.SchedulerLoaded{Policy: policy, Known: first.Known, Uses: past, UsesRead: true, Allocations: []*protocol.Allocation{alloc}}, later)
	for _, at := range []time.Time{later, later.Add(time.Hour)} {
		want, got := first.useOf("key", total, at), second.useOf("key", total, at)
		if math.Abs(want-got) > 2*useUnit {
			t.Errorf("at %s: %v s, the successor has %v s", at, want, got)
		}
		if exact := halving(time.Hour).gain(at.Sub(begin)); math.Abs(exact-got) > 2*useUnit {
			t.Errorf("at %s: %v s, exact are %v s", at, got, exact)
		}
	}
}

// Nothing is written down before what was is read; and turning it off forgets.
func TestUsesAreReadFirst(t *testing.T) {
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	c := NewCore("g", protocol.Policy{Name: policyFIFO}, backendai.NewKnownSlots())
	on := protocol.Policy{Name: policyFIFO, Options: protocol.Options{FairShareHalfLife: time.Hour}}
	c.Apply(&protocol.PolicyChanged{Policy: on}, now)
	if !c.WantsUses() || c.Uses(now) != nil {
		t.Error("what was written down is not asked for")
	}
	c.Apply(&protocol.Reread{Rows: &protocol.SchedulerLoaded{UsesRead: true, Uses: []protocol.PastUse{
		{AccessKey: "key", At: now.Add(-time.Hour), SlotSeconds: map[backendai.SlotName]float64{"cpu": 800, "mem": math.Inf(1), "x": -1}}}}}, now)
	if got := c.useOf("key", backendai.SlotsOf("cpu", "4", "mem", "1"), now); c.WantsUses() || math.Abs(got-100) > 2*useUnit {
		t.Errorf("%v s of the group", got)
	}
	if list := c.Uses(now.Add(forgottenAfter * 2 * time.Hour)); len(list) > 0 || len(c.uses) > 0 {
		t.Errorf("kept for ever: %+v", list)
	}
	c.Apply(&protocol.PolicyChanged{Policy: protocol.Policy{Name: policyFIFO}}, now)
	if c.uses != nil || c.WantsUses() {
		t.Error("counted although nobody asks for it")
	}
}
