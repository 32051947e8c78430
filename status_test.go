package backendai

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStatusSets(t *testing.T) { // spec/scheduling §1.1
	if d := AgentResourceOccupying.Not(); d != Statuses(Pending, Terminated, Cancelled) {
		t.Error(d.List())
	}
	if UserResourceOccupying != AgentResourceOccupying&^Statuses(Terminating) {
		t.Error(UserResourceOccupying.List())
	}
	for _, s := range KernelStatuses {
		back, err := ParseKernelStatus(string(s))
		if err != nil || back != s || !s.Valid() || s.IsDead() != Dead.Has(s) {
			t.Error(s, err)
		}
	}
	for _, bad := range []string{"", "pending", "FAILED"} {
		if _, err := ParseKernelStatus(bad); !errors.Is(err, InvalidArgument) || KernelStatus(bad).Valid() {
			t.Error(bad, err)
		}
	}
	names := make([]string, 0)
	for _, s := range Dead.Not().Not().List() {
		names = append(names, string(s))
	}
	if !slices.Equal(names, []string{"TERMINATED", "CANCELLED"}) {
		t.Error(names)
	}
}

func TestSessionStatus(t *testing.T) {
	kernels := []RoleStatus{{SubRole, Running}, {MainRole, Terminated}}
	if s, ok := SessionStatus(kernels); !ok || s != Terminated {
		t.Error(s, ok)
	}
	if AllDead(kernels) || AllDead(nil) || !AllDead([]RoleStatus{{MainRole, Cancelled}}) {
		t.Error("AllDead")
	}
	if _, ok := SessionStatus(kernels[:1]); ok {
		t.Error("no main kernel")
	}
}

func TestLateEventsMoveNothingBack(t *testing.T) {
	for _, from := range []KernelStatus{Running, Restarting, Terminating, Terminated, Cancelled, Failed} {
		if CanMove(from, Pulling) || CanMove(from, Preparing) || CanMove(from, Scheduled) || CanMove(from, Pending) {
			t.Errorf("%s can move back", from)
		}
	}
	for _, from := range Dead.List() {
		for _, to := range KernelStatuses {
			if CanMove(from, to) {
				t.Errorf("dead %s can move to %s", from, to)
			}
		}
	}
	if CanMove(Restarting, Terminated) || CanMove(Pending, Running) || CanMove("", Running) || !CanMove("", Pending) || CanMove("BOGUS", Pending) {
		t.Error("moves that are no edges")
	}
	if CanTrigger(TriggerEnded, Running, Restarting) || !CanTrigger(TriggerRestart, Running, Restarting) {
		t.Error("CanTrigger")
	}
}

// Besides the two pairs that go back and forth, the graph has no cycle; and each status that is produced leads to a dead one.
func TestGraphHasNoOtherCycles(t *testing.T) {
	class := func(s KernelStatus) KernelStatus {
		switch s {
		case Pulling:
			return Preparing
		case Restarting:
			return Running
		}
		return s
	}
	const visiting, done = 1, 2
	seen := map[KernelStatus]int{}
	var visit func(s KernelStatus) bool
	visit = func(s KernelStatus) (reachesDeath bool) {
		seen[s] = visiting
		reachesDeath = s.IsDead()
		for _, e := range Transitions {
			from, to := class(e.From), class(e.To)
			if from != s || to == s {
				continue
			}
			if seen[to] == visiting {
				t.Fatalf("cycle through %s → %s", s, to)
			}
			if seen[to] == done || visit(to) {
				reachesDeath = true
			}
		}
		seen[s] = done
		if !reachesDeath {
			t.Errorf("%s never ends", s)
		}
		return reachesDeath
	}
	for _, s := range KernelStatuses {
		if seen[class(s)] == 0 {
			visit(class(s))
		}
	}
}

func TestDestroy(t *testing.T) { // spec/scheduling §12.1
	for _, s := range KernelStatuses {
		for _, forced := range []bool{false, true} {
			to, err := Destroy(s, forced)
			switch {
			case err != nil:
				if !errors.Is(err, GenericForbidden) || (forced && s != Pulling) {
					t.Errorf("%s forced=%v: %v", s, forced, err)
				}
			case s.IsDead():
				if to != s {
					t.Errorf("dead %s became %s", s, to)
				}
			case !CanMove(s, to):
				t.Errorf("%s → %s is no edge", s, to)
			}
		}
	}
	if _, err := Destroy(Pulling, true); *AsError(err).Message != "Cannot destroy kernels in pulling status" {
		t.Error(err)
	}
	if to, _ := Destroy(Failed, true); to != Terminated {
		t.Error(to)
	}
}

func TestHistoryIsAPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h StatusHistory
		now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			to := rapid.SampledFrom(KernelStatuses[:]).Draw(t, "to")
			now = now.Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "seconds")) * time.Second)
			before, length := h.Current(), len(h)
			next, err := h.Append(to, now, InfoNone)
			if (err == nil) != CanMove(before, to) || (err != nil && !errors.Is(err, InvalidTransition)) {
				t.Fatalf("%s → %s: %v", before, to, err)
			}
			if len(h) != length || h.Current() != before {
				t.Fatal("Append changed its receiver")
			}
			h = next
		}
		if !h.IsPath() {
			t.Fatalf("%v is no path", h)
		}
	})
	h := StatusHistory{{Status: Running}}
	if h.IsPath() {
		t.Error("a history must begin with PENDING")
	}
	if InfoOperationTimeout(OperationDestroy) != "operation-timeout (destroy_session)" || InfoAgentError("E('x')") != "agent-error (E('x'))" {
		t.Error("infos")
	}
}
