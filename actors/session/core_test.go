package session

import (
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

var noon = time.Date(2022, 3, 1, 12, 0, 0, 0, time.UTC)

// started makes a session of n kernels that have been told to start.
func started(t *testing.T, n int) *Core {
	t.Helper()
	id := uuid.New()
	rows := make([]record.Kernel, n)
	for i := range rows {
		rows[i] = record.Kernel{ID: uuid.New(), SessionID: id, ClusterRole: "sub", ClusterSize: n, Status: backendai.Pending, ScalingGroup: "default", CreatedAt: noon}
	}
	rows[0].ID, rows[0].ClusterRole = id, backendai.MainRole
	c := New(rows)
	c.Step(&protocol.Create{})
	c.Step(placement(c, "a1", 1))
	if n > 1 {
		c.Step(&Prepared{Launch: &protocol.Launch{}, Now: noon})
	}
	if c.Phase != Starting {
		t.Fatalf("phase %s", c.Phase)
	}
	return c
}

func placement(c *Core, agent string, epoch int64) *protocol.Placement {
	p := &protocol.Placement{SessionID: c.ID, ScalingGroup: "default", Scheduler: journal.Guard{Epoch: epoch}, Now: noon}
	for _, m := range c.Members {
		p.Kernels = append(p.Kernels, protocol.KernelPlacement{KernelID: m.Row.ID, Agent: agent, Addr: "tcp://" + agent + ":6001"})
	}
	return p
}

func changed(c *Core, i int, status backendai.KernelStatus, more func(*protocol.KernelChanged)) []outbox.Effect {
	e := &protocol.KernelChanged{KernelID: c.Members[i].Row.ID, Status: status, Now: noon}
	if more != nil {
		more(e)
	}
	return c.Step(e)
}

func freed(e *protocol.KernelChanged) { e.Freed = true }

// toScheduler picks the messages to the scheduler of one type, and tells whether rows are written before the first.
func toScheduler[M any](effects []outbox.Effect) (found []M, after bool) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case *outbox.Persist:
			after = after || len(found) == 0
		case ToScheduler:
			if m, ok := e.Message.(M); ok {
				found = append(found, m)
			}
		}
	}
	return found, after
}

func ends(c *Core, effects []outbox.Effect) (n int) {
	for _, effect := range effects {
		if e, ok := effect.(TellKernel); ok {
			if _, ok := e.Message.(*protocol.End); ok {
				n++
			}
		}
	}
	return n
}

// A crash between the release of a kernel and the death of its row would give its slots to two.
func TestSlotsOfAFailedStartAreReleasedAfterItsRowsAreDead(t *testing.T) {
	c := started(t, 2)
	if n := ends(c, changed(c, 0, backendai.Preparing, func(e *protocol.KernelChanged) { e.Failure = &protocol.StartFailure{} })); n != 2 {
		t.Fatalf("%d kernels are aborted", n)
	}
	if r, _ := toScheduler[*protocol.Release](changed(c, 0, backendai.Preparing, freed)); len(r) > 0 {
		t.Error("released while its row is PREPARING")
	}
	r, after := toScheduler[*protocol.Release](changed(c, 1, backendai.Preparing, freed))
	if len(r) != 1 || len(r[0].KernelIDs) != 2 || !after {
		t.Errorf("release %+v, after the rows: %v", r, after)
	}
}

func TestAFailedStartDoesNotWaitForAnAgentButItsSlotsDo(t *testing.T) {
	c := started(t, 1)
	changed(c, 0, backendai.Preparing, func(e *protocol.KernelChanged) { e.Failure = &protocol.StartFailure{} })
	effects := changed(c, 0, backendai.Preparing, func(e *protocol.KernelChanged) { e.GaveUp = true })
	if r, after := toScheduler[*protocol.Ending](effects); len(r) != 1 || !after || c.Members[0].Row.Status != backendai.Cancelled {
		t.Errorf("row %s, ending %+v", c.Members[0].Row.Status, r)
	}
	if r, _ := toScheduler[*protocol.Release](effects); len(r) > 0 {
		t.Error("released although the agent has not answered")
	}
	effects = changed(c, 0, backendai.Preparing, freed)
	if r, _ := toScheduler[*protocol.Release](effects); len(r) != 1 || effects[len(effects)-1] != (Stop{}) || c.Members[0].Row.Status != backendai.Cancelled {
		t.Errorf("row %s, effects %+v", c.Members[0].Row.Status, effects)
	}
}

func TestQuotaIsFreedWhenTheRowSaysTerminating(t *testing.T) {
	c := started(t, 1)
	changed(c, 0, backendai.Running, nil)
	if r, _ := toScheduler[*protocol.Ending](c.Step(&protocol.Destroy{Now: noon})); len(r) > 0 {
		t.Error("freed before anything is written")
	}
	if r, _ := toScheduler[*protocol.Ending](changed(c, 0, backendai.Terminating, nil)); len(r) != 1 {
		t.Error("not freed")
	}
}

// The answer to a placement of a replaced scheduler would be taken by its successor for the answer to its own.
func TestAPlacementOfAReplacedSchedulerIsNotAnswered(t *testing.T) {
	c := started(t, 1)
	if effects := c.Step(placement(c, "a2", 0)); len(effects) > 0 {
		t.Errorf("answered with %+v", effects)
	}
	if r, _ := toScheduler[*protocol.Placed](c.Step(placement(c, "a1", 1))); len(r) != 1 || !r[0].Committed {
		t.Errorf("repeated: %+v", r)
	}
}

func TestAKernelThatDiesWhileOthersStartEndsTheStart(t *testing.T) {
	c := started(t, 3)
	changed(c, 1, backendai.Running, nil)
	if n := ends(c, changed(c, 1, backendai.Terminated, freed)); n != 2 || c.Phase != Aborting {
		t.Errorf("phase %s, %d kernels are aborted", c.Phase, n)
	}
}

// A kernel can't be ended while it pulls an image: it is told again when it runs.
func TestAKernelThatCouldNotEndIsToldAgain(t *testing.T) {
	c := started(t, 2)
	changed(c, 0, backendai.Running, nil)
	c.Step(&protocol.Destroy{Forced: true, Now: noon})
	changed(c, 1, backendai.Pulling, nil)
	if n := ends(c, changed(c, 1, backendai.Running, nil)); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestALostShardOfAKernelIsTheSessions(t *testing.T) {
	if effects := started(t, 1).Step(&protocol.LostShard{}); len(effects) != 1 || effects[0] != (Deposed{}) {
		t.Errorf("effects %+v", effects)
	}
}

// Whoever learns that the shard is another's tells it, whatever it wanted to write, and callers may try again elsewhere.
func TestRefusedByALaterEpoch(t *testing.T) {
	c := New([]record.Kernel{{ID: uuid.New(), ClusterRole: backendai.MainRole, ClusterSize: 1, Status: backendai.Pending, ScalingGroup: "default", CreatedAt: noon}})
	c.Step(&protocol.Create{Reply: protocol.ReplyTo{Address: "here", N: 1}})
	unavailable := func(what string, effects []outbox.Effect) {
		answered, deposed := false, false
		for _, effect := range effects {
			switch e := effect.(type) {
			case Answer:
				answered = backendai.CodeOf(e.Err) == backendai.ServiceUnavailable
			case Deposed:
				deposed = true
			}
		}
		if !answered || !deposed {
			t.Errorf("%s: effects %+v", what, effects)
		}
	}
	unavailable("create", c.Step(&outbox.Refused{Label: labelCreate, Err: journal.ErrDeposed}))
	c = started(t, 1)
	changed(c, 0, backendai.Running, nil)
	c.Step(&protocol.Rename{Name: "other", Reply: protocol.ReplyTo{Address: "here", N: 2}})
	unavailable("rename", c.Step(&outbox.Refused{Label: labelRename, Err: journal.ErrDeposed}))
}
