package scheduler

import (
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

func takenRows(now time.Time, kernels ...*protocol.Allocation) *protocol.SchedulerLoaded {
	known := backendai.NewKnownSlots()
	free, _ := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, known)
	head := protocol.PendingSession{ID: uuid.UUID{9}, CreatedAt: now, Wishes: protocol.Wishes{Priority: 5},
		Limits:  protocol.Limits{Keypair: free, Group: free, Domain: free, ScalingGroups: map[string][]backendai.SessionType{"g": {""}}},
		Kernels: []protocol.PendingKernel{{ID: uuid.UUID{9, 9}, Architecture: "x", Slots: backendai.SlotsOf("cpu", "2")}}}
	return &protocol.SchedulerLoaded{
		Policy: protocol.Policy{Name: policyFIFO, Options: protocol.Options{Preemption: true, Backfill: true}}, Known: known,
		Agents:      []protocol.AgentState{{ID: "a", ScalingGroup: "g", Architecture: "x", Alive: true, Schedulable: true, Available: backendai.SlotsOf("cpu", "4")}},
		Allocations: kernels, Pending: []protocol.PendingSession{head},
	}
}

func running(id byte, since time.Time) *protocol.Allocation {
	return &protocol.Allocation{SessionID: uuid.UUID{id}, KernelID: uuid.UUID{id, id}, Agent: "a", Slots: backendai.SlotsOf("cpu", "2"), Main: true, CountsForUser: true,
		Wishes: protocol.Wishes{Preemptible: true, TimeLimit: time.Hour}, Since: since}
}

func victims(effects []Effect) (list []uuid.UUID) {
	for _, e := range effects {
		if e, ok := e.(Preempt); ok {
			list = append(list, e.SessionID)
		}
	}
	return list
}

// A scheduler that takes over does not know whom the one before has told to go. Who has begun to is waited for; who has not is told again.
func TestATakeoverAmidstAPreemption(t *testing.T) {
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, begun := range []bool{true, false} {
		first, other := running(1, now.Add(-time.Minute)), running(2, now.Add(-time.Hour))
		first.CountsForUser = !begun
		c := NewCore("g", protocol.Policy{}, nil)
		c.Apply(takenRows(now, first, other), now)
		effects, err := c.Pass(now)
		if err != nil {
			t.Fatal(err)
		}
		if told := victims(effects); begun && len(told) > 0 || !begun && (len(told) != 1 || told[0] != first.SessionID) {
			t.Errorf("begun %v: told %v", begun, told)
		}
		if r := c.reservation; r == nil || !r.at.Equal(now) {
			t.Errorf("begun %v: reserved %+v", begun, r)
		}
		c.Apply(&protocol.Release{KernelIDs: []uuid.UUID{first.KernelID}}, now)
		if effects, _ = c.Pass(now); len(placedBy(effects)) != 1 || c.held != nil || c.reservation != nil {
			t.Errorf("begun %v: %v", begun, effects)
		}
	}
}

// A message that a kernel is RUNNING may be lost. The rows say it, too.
func TestSinceWhenAKernelRunsIsRead(t *testing.T) {
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	starting, other := running(1, time.Time{}), running(2, now.Add(-30*time.Minute))
	starting.Placed = now.Add(-10 * time.Minute)
	rows := takenRows(now, starting, other)
	rows.Policy.Options.Preemption = false
	c := NewCore("g", protocol.Policy{}, nil)
	c.Apply(rows, now)
	end := func() time.Time { return c.tenures[starting.SessionID].end }
	if !end().Equal(now.Add(50 * time.Minute)) {
		t.Errorf("ends at %s", end())
	}
	again := *starting
	again.Since = now.Add(-5 * time.Minute)
	c.Apply(&protocol.Reread{Rows: &protocol.SchedulerLoaded{Agents: rows.Agents, Allocations: []*protocol.Allocation{&again, other}, Pending: rows.Pending}}, now)
	if !end().Equal(now.Add(55*time.Minute)) || !c.Clone().tenures[starting.SessionID].end.Equal(end()) {
		t.Errorf("ends at %s", end())
	}
}

// Turned off at run time, nothing is kept; turned on, all is known.
func TestOptionsAtRunTime(t *testing.T) {
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	c := NewCore("g", protocol.Policy{}, nil)
	rows := takenRows(now, running(1, now), running(2, now.Add(-time.Minute)))
	c.Apply(rows, now)
	if _, err := c.Pass(now); err != nil || c.held == nil {
		t.Fatal("nobody was told", err)
	}
	c.Apply(&protocol.PolicyChanged{Policy: protocol.Policy{Name: policyFIFO}}, now)
	if c.held != nil || c.reservation != nil || c.tenures != nil || c.ends != nil || c.leaving != nil || c.dismissed != nil {
		t.Error("something is kept")
	}
	if effects, _ := c.Pass(now); len(victims(effects)) > 0 || c.reservation != nil {
		t.Errorf("%+v", effects)
	}
	c.Apply(&protocol.PolicyChanged{Policy: rows.Policy}, now)
	if effects, _ := c.Pass(now); len(victims(effects)) != 1 || c.reservation == nil {
		t.Errorf("%+v", effects)
	}
}

// That a kernel is RUNNING may be heard late, when the end of another of its session has been asked for, or its own: that is not forgotten.
func TestKernelRunsLate(t *testing.T) {
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	known := backendai.NewKnownSlots()
	policy := protocol.Policy{Name: "fifo", Options: protocol.Options{Preemption: true, Backfill: true}}
	c, scan := NewCore("g", policy, known), newNaive("g", policy, known)
	first, second, session := uuid.UUID{1}, uuid.UUID{2}, uuid.UUID{9}
	for _, kernel := range []uuid.UUID{first, second} {
		a := protocol.Allocation{SessionID: session, KernelID: kernel, Agent: "a", Slots: backendai.SlotsOf("cpu", "1"), CountsForUser: true,
			Wishes: protocol.Wishes{Preemptible: true, TimeLimit: time.Hour}, Placed: now}
		ours, theirs := a, a
		c.allocate(&ours)
		scan.allocate(&theirs)
	}
	do := func(event any) { c.Apply(event, now); scan.Apply(event, now) }
	asked := now
	do(&protocol.Ending{KernelIDs: []uuid.UUID{first}})
	now = now.Add(50 * time.Second)
	do(&protocol.Settle{KernelID: second, Slots: backendai.SlotsOf("cpu", "1"), Since: now})
	if !c.tenures[session].ending || !scan.parting[session] {
		t.Errorf("a session that ends may be chosen again: %v, %v", c.tenures[session].ending, scan.parting[session])
	}
	if end := c.tenures[session].end; !end.Equal(now.Add(time.Hour)) {
		t.Errorf("it ends at %v", end)
	}
	do(&protocol.Settle{KernelID: first, Slots: backendai.SlotsOf("cpu", "1"), Since: now})
	if at := c.leaving[first]; !at.Equal(asked) || !scan.leaving[first].Equal(asked) {
		t.Errorf("its end was asked for at %v, not %v (%v)", asked, at, scan.leaving[first])
	}
}
