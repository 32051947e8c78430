package kernel

import (
	"testing"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// handedOver is a kernel whose row, as the last owner left it, is read by the next one, and which is started there.
func handedOver(row record.Kernel) []outbox.Effect {
	next := New(row)
	next.Step(&Recover{Now: noon})
	return next.Step(&protocol.Start{Agent: "a1", Addr: "tcp://a1:6001", ScalingGroup: "default", Now: noon})
}

func placed() *Core {
	id := uuid.New()
	return New(record.Kernel{ID: id, SessionID: id, ClusterSize: 1, Status: backendai.Preparing, Agent: text("a1"), AgentAddr: text("tcp://a1:6001"), CreatedAt: noon})
}

var start = &protocol.Start{Agent: "a1", Addr: "tcp://a1:6001", ScalingGroup: "default", Now: noon}

// What was surely not sent is sent by the next owner at once, but not before the word of it is taken back.
func TestHandedOverBeforeTheCreationWasSent(t *testing.T) {
	unreachable := &callosum.LinkError{Cause: callosum.CauseUnreachable, Method: "create_kernels"}
	for name, leave := range map[string]func(*Core) []outbox.Effect{
		"told to start too late": func(c *Core) []outbox.Effect { return c.Leave(start) },
		"its link had moved": func(c *Core) []outbox.Effect {
			c.Step(start)
			return c.Leave(&protocol.CallResult{Token: c.call.token, Err: unreachable, Now: noon})
		},
	} {
		c := placed()
		if word := pick[*outbox.Persist](leave(c)); len(word) != 1 || word[0].Kernels[0].Mask != record.FieldStatusInfo {
			t.Errorf("%s: %+v", name, word)
		}
		effects := handedOver(c.Row)
		if len(effects) != 2 {
			t.Fatalf("%s: the next owner does %+v", name, effects)
		}
		p, persists := effects[0].(*outbox.Persist)
		call, calls := effects[1].(Call)
		if !persists || *p.Kernels[0].Kernel.StatusInfo != "" || !calls || call.Kind != CallCreate {
			t.Errorf("%s: the next owner does %+v", name, effects)
		}
		// It dies just after: who comes then does not know whether it has sent.
		row := c.Row
		row.StatusInfo = text("")
		if calls := pick[Call](handedOver(row)); len(calls) != 1 || calls[0].Kind != CallProbe {
			t.Errorf("%s: the one after does %+v", name, calls)
		}
	}
}

// Where something may have been sent, no such word is left, and the agent is asked.
func TestHandedOverWhileTheCreationMayBeOnItsWay(t *testing.T) {
	lost := &callosum.LinkError{Cause: callosum.CauseDisconnected, Method: "create_kernels", Sent: true}
	for name, leave := range map[string]func(*Core) []outbox.Effect{
		"its answer is lost": func(c *Core) []outbox.Effect {
			c.Step(start)
			return c.Leave(&protocol.CallResult{Token: c.call.token, Err: lost, Now: noon})
		},
		"an earlier owner may have sent it": func(c *Core) []outbox.Effect {
			c.Step(&Recover{Now: noon})
			return c.Leave(start)
		},
		"it was sent again after a lost answer": func(c *Core) []outbox.Effect {
			c.Step(start)
			c.Step(&protocol.CallResult{Token: c.call.token, Err: lost, Repeatable: true, Now: noon})
			c.Step(&protocol.Tick{Kind: timerRetry, Now: noon})
			return c.Leave(&protocol.CallResult{Token: c.call.token, Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Method: "create_kernels"}, Now: noon})
		},
	} {
		c := placed()
		if effects := leave(c); len(effects) != 0 {
			t.Errorf("%s: %+v", name, effects)
		}
		if calls := pick[Call](handedOver(c.Row)); len(calls) != 1 || calls[0].Kind != CallProbe {
			t.Errorf("%s: the next owner does %+v", name, calls)
		}
	}
}

// Nothing else is begun, and the hand-over waits for the answer of a creation.
func TestLeavingWaitsForACreation(t *testing.T) {
	c := placed()
	c.Step(start)
	for _, event := range []any{start, &protocol.End{Now: noon}, &protocol.Tick{Kind: timerRetry, Now: noon}, &protocol.AgentEvent{Name: "kernel_terminated", KernelID: c.Row.ID, Now: noon}} {
		if effects := c.Leave(event); len(effects) != 0 || !c.Creating() {
			t.Errorf("%T: %+v", event, effects)
		}
	}
}
