package session

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// clock is a session with virtual time: timers go off when the time has come, as the shell's do.
type clock struct {
	core   *Core
	now    time.Time
	timers map[string]time.Time
	ended  []*protocol.End // what kernels were told
	when   time.Time
	told   []any // what the scheduler was
}

func clocked(c *Core) *clock { return &clock{core: c, now: noon, timers: map[string]time.Time{}} }

func (c *clock) perform(effects []outbox.Effect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case SetTimer:
			c.timers[e.Kind] = c.now.Add(e.After)
		case TellKernel:
			if end, ok := e.Message.(*protocol.End); ok {
				c.ended, c.when = append(c.ended, end), c.now
			}
		case ToScheduler:
			c.told = append(c.told, e.Message)
		}
	}
}

// until lets time pass, timer by timer.
func (c *clock) until(t time.Time) {
	for {
		next, at := "", t
		for kind, due := range c.timers {
			if !due.After(at) {
				next, at = kind, due
			}
		}
		if c.now = at; next == "" {
			return
		}
		delete(c.timers, next)
		c.perform(c.core.Step(&protocol.Tick{Kind: next, Now: c.now}))
	}
}

// runs reports a kernel as RUNNING, after its row has said so.
func (c *clock) runs(i int) {
	c.perform(changed(c.core, i, backendai.Running, func(e *protocol.KernelChanged) { e.Now, e.Changed = c.now, c.now }))
}

func wishing(c *Core, opts string) *Core {
	for _, m := range c.Members {
		m.Row.ResourceOpts = json.RawMessage(opts)
	}
	return c
}

func TestATimeLimitCountsFromWhenTheLastKernelRuns(t *testing.T) {
	c := clocked(wishing(started(t, 2), `{"time_limit":"1h"}`))
	c.runs(0)
	c.until(noon.Add(10 * time.Minute))
	c.runs(1)
	c.until(noon.Add(70*time.Minute - 1))
	if len(c.ended) > 0 {
		t.Fatalf("ended at %s", c.when)
	}
	c.until(noon.Add(2 * time.Hour))
	if len(c.ended) != 2 || !c.when.Equal(noon.Add(70*time.Minute)) || c.ended[0].Reason != "time-limit" || c.ended[0].Forced || c.core.Phase != Ending {
		t.Errorf("%d kernels ended at %s: %+v", len(c.ended), c.when, c.ended)
	}
}

// The rows alone say when a session has to end; one whose time has come while nobody owned it ends at once.
func TestATimeLimitSurvivesATakeover(t *testing.T) {
	for after, end := range map[time.Duration]time.Duration{20 * time.Minute: time.Hour, 3 * time.Hour: 3 * time.Hour} {
		first := clocked(wishing(started(t, 1), `{"time_limit":3600}`))
		first.runs(0)
		rows := []record.Kernel{first.core.Members[0].Row}
		c := clocked(New(rows))
		c.now = noon.Add(after)
		c.perform(c.core.Step(&Recover{Now: c.now}))
		c.until(noon.Add(10 * time.Hour))
		if len(c.ended) != 1 || !c.when.Equal(noon.Add(end)) {
			t.Errorf("taken over after %s: ended %d times, at %s", after, len(c.ended), c.when)
		}
	}
}

func TestWithoutATimeLimitNothingEnds(t *testing.T) {
	c := clocked(started(t, 1))
	c.runs(0)
	c.until(noon.Add(1000 * time.Hour))
	if len(c.ended) > 0 || len(c.told) > 1 { // only Placed
		t.Errorf("ended %+v, told %+v", c.ended, c.told)
	}
}

// A kernel in ERROR can only be ended by force, which is its owner's to say; once it can be ended, it is.
func TestATimeLimitIsTriedAgain(t *testing.T) {
	c := clocked(wishing(started(t, 1), `{"time_limit":60}`))
	c.runs(0)
	changed(c.core, 0, backendai.Failed, nil)
	c.until(noon.Add(10 * time.Minute))
	if len(c.ended) > 0 {
		t.Fatal("ended by force")
	}
	c.core.Members[0].Row.Status = backendai.Running
	c.until(noon.Add(12 * time.Minute))
	if len(c.ended) != 1 {
		t.Error("not tried again")
	}
}

func TestTheSchedulerLearnsSinceWhenAKernelRuns(t *testing.T) {
	for opts, want := range map[string]bool{`{"time_limit":60}`: true, `{"preemptible":true}`: true, `{"priority":1}`: false} {
		c := clocked(wishing(started(t, 1), opts))
		c.now = noon.Add(time.Minute)
		c.runs(0)
		var got []time.Time
		for _, m := range c.told {
			if s, ok := m.(*protocol.Settle); ok {
				got = append(got, s.Since)
			}
		}
		if want != (len(got) == 1 && got[0].Equal(c.now)) {
			t.Errorf("%s: told %v", opts, got)
		}
	}
}

func TestPreempt(t *testing.T) {
	preempt := &protocol.Preempt{Now: noon.Add(time.Hour)}
	preemptible := `{"preemptible":true}`

	rows := started(t, 1).Members[0].Row
	rows.Status, rows.ResourceOpts = backendai.Pending, json.RawMessage(preemptible)
	waiting := New([]record.Kernel{rows})
	waiting.Step(&protocol.Create{})
	if effects := waiting.Step(preempt); len(effects) > 0 || waiting.Phase != Pending {
		t.Errorf("a pending session: %+v", effects)
	}
	starting := wishing(started(t, 1), preemptible)
	if effects := starting.Step(preempt); len(effects) > 0 || starting.Phase != Starting {
		t.Errorf("a starting session: %+v", effects)
	}
	protected := clocked(started(t, 1))
	protected.runs(0)
	if effects := protected.core.Step(preempt); len(effects) > 0 || protected.core.Phase != Running {
		t.Errorf("one that may not be preempted: %+v", effects)
	}
	c := clocked(wishing(started(t, 3), preemptible))
	for i := range 3 {
		c.runs(i)
	}
	for range 2 {
		c.perform(c.core.Step(preempt))
	}
	if len(c.ended) != 3 || c.ended[0].Reason != "preempted" || !c.ended[0].Now.Equal(preempt.Now) || c.core.Phase != Ending {
		t.Errorf("told %d kernels: %+v", len(c.ended), c.ended)
	}
	for i := range 3 {
		changed(c.core, i, backendai.Terminating, nil)
		changed(c.core, i, backendai.Terminated, freed)
	}
	if effects := c.core.Step(preempt); len(effects) > 0 || c.core.Phase != Gone {
		t.Errorf("one that has ended: %+v", effects)
	}
}

// Whoever owns a session when, it is ended once, and neither before its limit nor later than its owners could.
func TestTimeLimitAcrossOwners(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := time.Duration(rapid.IntRange(1, 7200).Draw(rt, "limit")) * time.Second
		c := clocked(wishing(started(t, 1), fmt.Sprintf(`{"time_limit":%d}`, limit/time.Second)))
		c.now = noon.Add(time.Duration(rapid.IntRange(0, 600).Draw(rt, "start")) * time.Second)
		c.runs(0)
		due, owned := c.now.Add(limit), true
		for range rapid.IntRange(0, 6).Draw(rt, "moves") {
			pause := time.Duration(rapid.IntRange(0, 3600).Draw(rt, "pause")) * time.Second
			if owned {
				c.until(c.now.Add(pause))
			} else {
				c.now = c.now.Add(pause)
			}
			if len(c.ended) > 0 {
				break
			}
			if owned = !owned; owned {
				c.timers = map[string]time.Time{}
				c.core = New([]record.Kernel{c.core.Members[0].Row})
				c.perform(c.core.Step(&Recover{Now: c.now}))
				due = later(due, c.now)
			}
		}
		if len(c.ended) == 0 && !owned {
			c.core = New([]record.Kernel{c.core.Members[0].Row})
			c.timers = map[string]time.Time{}
			c.perform(c.core.Step(&Recover{Now: c.now}))
			due = later(due, c.now)
		}
		c.until(c.now.Add(24 * time.Hour))
		if len(c.ended) != 1 || !c.when.Equal(due) {
			rt.Fatalf("ended %d times, at %s; due at %s", len(c.ended), c.when, due)
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
