package session

import (
	"testing"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// toAll picks what all schedulers are told.
func toAll(effects []outbox.Effect) (list []protocol.DependencyDone) {
	for _, e := range effects {
		if e, ok := e.(ToAllSchedulers); ok {
			list = append(list, *e.Message.(*protocol.DependencyDone))
		}
	}
	return list
}

// However a batch session ends, those who wait for its success hear of it once: that it has succeeded, or never will.
func TestThoseWhoDependHear(t *testing.T) {
	dead := func(c *Core) (effects []outbox.Effect) {
		for i := range c.Members {
			effects = append(effects, changed(c, i, backendai.Terminated, freed)...)
		}
		return effects
	}
	running := func(t *testing.T, kind backendai.SessionType, n int) *Core {
		c := started(t, n)
		c.main().Row.SessionType, c.main().Row.Result = kind, backendai.ResultUndefined
		for i := range n {
			changed(c, i, backendai.Running, nil)
		}
		return c
	}
	for name, c := range map[string]struct {
		effects func(*testing.T) []outbox.Effect
		failed  []bool
	}{
		"success": {func(t *testing.T) []outbox.Effect {
			c := running(t, backendai.Batch, 1)
			return append(c.Step(&protocol.AgentEvent{Name: "session_success", Now: noon}), dead(c)...)
		}, []bool{false}},
		"failure": {func(t *testing.T) []outbox.Effect {
			c := running(t, backendai.Batch, 1)
			return append(c.Step(&protocol.AgentEvent{Name: "session_failure", Now: noon}), dead(c)...)
		}, []bool{true}},
		"killed": {func(t *testing.T) []outbox.Effect { return dead(running(t, backendai.Batch, 2)) }, []bool{true}},
		"cancelled while it waits": {func(t *testing.T) []outbox.Effect {
			c := running(t, backendai.Batch, 1)
			c.Phase, c.main().Row.Status = Pending, backendai.Pending
			return c.Step(&protocol.Destroy{Now: noon})
		}, []bool{true}},
		"failed to start": {func(t *testing.T) []outbox.Effect {
			c := started(t, 1)
			c.main().Row.SessionType, c.main().Row.Result = backendai.Batch, backendai.ResultUndefined
			effects := changed(c, 0, backendai.Preparing, func(e *protocol.KernelChanged) { e.Failure = &protocol.StartFailure{} })
			return append(effects, changed(c, 0, backendai.Preparing, func(e *protocol.KernelChanged) { e.GaveUp, e.Freed = true, true })...)
		}, []bool{true}},
		"interactive": {func(t *testing.T) []outbox.Effect { return dead(running(t, backendai.Interactive, 1)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			told := toAll(c.effects(t))
			if len(told) != len(c.failed) || len(told) == 1 && told[0].Failed != c.failed[0] {
				t.Errorf("%+v", told)
			}
		})
	}
}

// A task may be done before its kernel is known to run, or while the manager is replaced: the session ends all the same.
func TestQuickTask(t *testing.T) {
	ends := func(effects []outbox.Effect) (n int) {
		for _, e := range effects {
			if tell, ok := e.(TellKernel); ok {
				if end, ok := tell.Message.(*protocol.End); ok && end.Reason == string(backendai.InfoTaskFinished) {
					n++
				}
			}
		}
		return n
	}
	c := started(t, 2)
	c.main().Row.SessionType, c.main().Row.Result = backendai.Batch, backendai.ResultUndefined
	for what, effects := range [][]outbox.Effect{
		c.Step(&protocol.AgentEvent{Name: "session_success", Now: noon}),
		changed(c, 0, backendai.Running, nil),
	} {
		if ends(effects) != 0 {
			t.Errorf("step %d: it ends before all runs: %+v", what, effects)
		}
	}
	if effects := changed(c, 1, backendai.Running, nil); ends(effects) != 2 || c.main().Row.Result != backendai.ResultSuccess {
		t.Errorf("it goes on although its task is done: %+v", effects)
	}
	rows := []record.Kernel{c.main().Row}
	rows[0].Status, rows[0].ClusterSize = backendai.Running, 1
	again := New(rows)
	if effects := again.Step(&Recover{Now: noon}); ends(effects) != 1 {
		t.Errorf("after a takeover: %+v", effects)
	}
}
