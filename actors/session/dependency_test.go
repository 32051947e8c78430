package session

import (
	"testing"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
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
