package kernel

import (
	"errors"
	"testing"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
)

var noon = time.Date(2022, 3, 1, 12, 0, 0, 0, time.UTC)

var cut = &callosum.LinkError{Cause: callosum.CauseDisconnected, Sent: true}

// answered answers the call that is out.
func answered(c *Core, at time.Time, err error) []outbox.Effect {
	return c.Step(&protocol.CallResult{Token: c.call.token, Err: err, Now: at, Value: []byte{0xc0}})
}

func pick[E any](effects []outbox.Effect) (found []E) {
	for _, effect := range effects {
		if e, ok := effect.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// A create whose answer was lost may reach the agent after a destroy: that is said again when it no longer can, and only then is the
// kernel freed.
func TestADestroyIsSaidAgainAfterALateCreate(t *testing.T) {
	c := New(newKernelRow())
	c.Step(&protocol.Start{Agent: "a", Now: noon})
	answered(c, noon, cut)
	c.Step(&protocol.End{Abort: true})
	effects := answered(c, noon.Add(time.Second), nil)
	if timers := pick[SetTimer](effects); len(pick[Tell](effects)) > 0 || len(timers) != 1 || timers[0] != (SetTimer{timerRetry, settleTime - time.Second}) {
		t.Fatalf("effects %+v", effects)
	}
	if calls := pick[Call](c.Step(&protocol.Tick{Kind: timerRetry})); len(calls) != 1 || calls[0].Kind != CallDestroy {
		t.Fatalf("calls %+v", calls)
	}
	if told := pick[Tell](answered(c, noon.Add(settleTime), nil)); len(told) != 1 || !told[0].Changed.Freed {
		t.Errorf("told %+v", told)
	}
}

// After a takeover a kernel_terminated may be of an incarnation that the owner before has replaced.
func TestALateEventOfAnEarlierIncarnationIsNotBelieved(t *testing.T) {
	row := newKernelRow()
	agent := "a"
	row.Status, row.Agent = "RUNNING", &agent
	c := New(row)
	c.Step(&Recover{Now: noon})
	answered(c, noon, nil)
	effects := c.Step(&protocol.AgentEvent{Name: "kernel_terminated", Reason: "failed-to-start", Now: noon})
	if calls := pick[Call](effects); len(effects) != 1 || len(calls) != 1 || calls[0].Kind != CallProbe {
		t.Fatalf("effects %+v", effects)
	}
	if answered(c, noon, nil); c.Stage != Running {
		t.Errorf("it lives, and is %s", c.Stage)
	}
}

func TestAnAgentThatDoesNotAnswerIsAskedOn(t *testing.T) {
	c := New(newKernelRow())
	c.Step(&protocol.Start{Agent: "a", Now: noon})
	answered(c, noon, callosum.Exception("RuntimeError", "no luck"))
	if told := pick[Tell](c.Step(&protocol.Tick{Kind: timerAbort})); len(told) != 1 || !told[0].Changed.GaveUp || told[0].Changed.Freed {
		t.Errorf("told %+v", told)
	}
	answered(c, noon.Add(time.Minute), cut)
	if calls := pick[Call](c.Step(&protocol.Tick{Kind: timerRetry})); len(calls) != 1 || calls[0].Kind != CallDestroy {
		t.Errorf("calls %+v", calls)
	}
}

func TestADeposedKernelDoesNotCrash(t *testing.T) {
	c := New(newKernelRow())
	if effects := c.Step(&outbox.Refused{Label: "running", Err: journal.ErrDeposed}); len(pick[Deposed](effects)) != 1 {
		t.Errorf("deposed: %+v", effects)
	}
	if effects := c.Step(&outbox.Refused{Label: "running", Err: errors.New("a broken row")}); len(pick[Crash](effects)) != 1 {
		t.Errorf("refused: %+v", effects)
	}
}

// A kernel that has ended by itself is freed when its session, of which another part has failed, is aborted.
func TestAKernelThatHasEndedIsFreedWhenItIsAborted(t *testing.T) {
	for _, end := range []*protocol.End{{Abort: true}, {Forced: true, Now: noon}} {
		row := newKernelRow()
		agent := "a"
		row.Status, row.Agent = "TERMINATING", &agent
		c := New(row)
		c.Stage, c.call = Ending, inflight{CallDestroy, 1}
		c.Step(&protocol.AgentEvent{Name: "kernel_terminated", Now: noon})
		freed := false
		for _, told := range pick[Tell](c.Step(end)) {
			freed = freed || told.Changed.Freed
		}
		if !freed {
			t.Errorf("%+v: not freed", end)
		}
	}
}
