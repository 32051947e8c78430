package session

import (
	"testing"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// answeredBy are the callers that effects answer.
func answeredBy(effects []outbox.Effect) map[uint64]Answer {
	list := make(map[uint64]Answer)
	for _, effect := range effects {
		if a, ok := effect.(Answer); ok {
			list[a.To.N] = a
		}
	}
	return list
}

func reply(n uint64) protocol.ReplyTo { return protocol.ReplyTo{Address: "here", N: n} }

// Who creates a session and waits for its start is answered once, at the start; who only creates it, when it is stored.
func TestCreateAndAwait(t *testing.T) {
	id := uuid.New()
	c := New([]record.Kernel{{ID: id, SessionID: id, ClusterRole: backendai.MainRole, ClusterSize: 1, Status: backendai.Pending, ScalingGroup: "default", CreatedAt: noon}})
	if got := answeredBy(c.Step(&protocol.Create{Await: true, Reply: reply(1)})); len(got) != 0 {
		t.Errorf("answered before it is stored: %v", got)
	}
	if got := answeredBy(c.Step(&protocol.Create{Reply: reply(2)})); len(got) != 0 {
		t.Errorf("answered before it is stored: %v", got)
	}
	if got := c.CreateCommitted(); len(got) != 1 || got[0] != reply(2) {
		t.Errorf("stored: %v", got)
	}
	if got := answeredBy(c.Step(&protocol.Create{Await: true, Reply: reply(3)})); len(got) != 0 {
		t.Errorf("asked again, answered before it starts: %v", got)
	}
	if got := answeredBy(c.Step(&protocol.Create{Reply: reply(4)})); len(got) != 1 || got[4].Err != nil {
		t.Errorf("asked again, it is stored: %v", got)
	}
	c.Step(placement(c, "a1", 1))
	got := answeredBy(changed(c, 0, backendai.Running, nil))
	for _, n := range []uint64{1, 3} {
		if outcome, ok := got[n].Value.(*protocol.Outcome); !ok || outcome.Status != backendai.Running {
			t.Errorf("caller %d: %+v", n, got[n])
		}
	}
	if len(got) != 2 {
		t.Errorf("answered at the start: %v", got)
	}
	if got := answeredBy(c.Step(&protocol.Create{Await: true, Reply: reply(5)})); len(got) != 1 || got[5].Value.(*protocol.Outcome).Status != backendai.Running {
		t.Errorf("asked again when it runs: %v", got)
	}
}

// A creation that fails is told to all who wait for it, for whatever.
func TestCreateAndAwaitRefused(t *testing.T) {
	for err, want := range map[error]backendai.Code{journal.ErrNameTaken: backendai.SessionAlreadyExists, journal.ErrRepeated: ""} {
		id := uuid.New()
		c := New([]record.Kernel{{ID: id, SessionID: id, ClusterRole: backendai.MainRole, ClusterSize: 1, Status: backendai.Pending, ScalingGroup: "default", CreatedAt: noon}})
		c.Step(&protocol.Create{Await: true, Reply: reply(1)})
		a, ok := answeredBy(c.Step(&outbox.Refused{Label: labelCreate, Err: err}))[1]
		if !ok || a.Err != nil && backendai.CodeOf(a.Err) != want {
			t.Errorf("%v: %+v", err, a)
		}
		if _, there := a.Value.(*protocol.Enqueued); there != (err == journal.ErrRepeated) {
			t.Errorf("%v: %+v", err, a)
		}
	}
}
