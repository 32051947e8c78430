package session

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

func waiting(n int) *Core {
	rows := make([]record.Kernel, n)
	for i := range rows {
		rows[i] = record.Kernel{ID: uuid.New(), SessionID: uuid.New(), ClusterRole: "sub", ClusterSize: n, Status: backendai.Pending, ScalingGroup: "default", CreatedAt: noon,
			ResourceOpts: json.RawMessage(`{"shmem":67108864,"priority":1,"time_limit":"2h"}`)}
	}
	rows[0].ClusterRole = backendai.MainRole
	c := New(rows)
	c.Step(&protocol.Create{})
	return c
}

var somebody = protocol.ReplyTo{Address: "here", N: 1}

func answers(effects []outbox.Effect) (list []error) {
	for _, effect := range effects {
		if e, ok := effect.(Answer); ok {
			list = append(list, e.Err)
		}
	}
	return list
}

// The rows say it before the scheduler and who asked hear of it, and all other options stay.
func TestPriorityIsWrittenThenTold(t *testing.T) {
	c := waiting(2)
	effects := c.Step(&protocol.Reprioritize{Priority: -7, Reply: somebody})
	p, ok := effects[0].(*outbox.Persist)
	if !ok || len(p.Kernels) != 2 || p.Kernels[0].Mask != record.FieldResourceOpts {
		t.Fatalf("effects %+v", effects)
	}
	for _, k := range p.Kernels {
		if got := string(k.Kernel.ResourceOpts); got != `{"priority":-7,"shmem":67108864,"time_limit":"2h"}` {
			t.Errorf("options %s", got)
		}
	}
	told, after := toScheduler[*protocol.WishesChanged](effects)
	want, _ := protocol.WishesOf(p.Kernels[0].Kernel.ResourceOpts)
	if len(told) != 1 || !after || told[0].SessionID != c.ID || told[0].Wishes != want || want.Priority != -7 || want.TimeLimit == 0 {
		t.Errorf("told %+v, after the rows: %v", told, after)
	}
	if list := answers(effects); len(list) != 1 || list[0] != nil {
		t.Errorf("answered %v", list)
	}
	if list := answers(c.Step(&protocol.Reprioritize{Priority: 1, Reply: somebody})); len(list) != 1 || !errors.Is(list[0], backendai.InvalidAPIParameters) {
		t.Errorf("while it is being written: %v", list)
	}
	c.PriorityCommitted()
	if list := answers(c.Step(&protocol.Reprioritize{Priority: 1, Reply: somebody})); len(list) != 1 || list[0] != nil {
		t.Errorf("afterwards: %v", list)
	}
}

func TestPriorityThatCannotBe(t *testing.T) {
	running := started(t, 1)
	changed(running, 0, backendai.Running, nil)
	ended := waiting(1)
	ended.Step(&protocol.Destroy{Now: noon})
	for name, c := range map[string]struct {
		core     *Core
		priority int
		code     backendai.Code
	}{
		"too high":    {waiting(1), protocol.MaxPriority + 1, backendai.InvalidAPIParameters},
		"too low":     {waiting(1), -protocol.MaxPriority - 1, backendai.InvalidAPIParameters},
		"it starts":   {started(t, 1), 1, backendai.InvalidAPIParameters},
		"it runs":     {running, 1, backendai.InvalidAPIParameters},
		"it is ended": {ended, 1, backendai.SessionNotFound},
	} {
		effects := c.core.Step(&protocol.Reprioritize{Priority: c.priority, Reply: somebody})
		if list := answers(effects); len(effects) != 1 || len(list) != 1 || !errors.Is(list[0], c.code) || list[0].(*backendai.Error).Code.HTTPStatus()/100 != 4 {
			t.Errorf("%s: %+v", name, effects)
		}
	}
}

// What was not written is not true: neither here nor, when it lines up again, for the scheduler.
func TestPriorityThatIsRefused(t *testing.T) {
	c := waiting(2)
	before := string(c.main().Row.ResourceOpts)
	c.Step(&protocol.Reprioritize{Priority: 9, Reply: somebody})
	effects := c.Step(&outbox.Refused{Label: labelWishes, Err: journal.ErrDeposed})
	if list := answers(effects); len(list) != 1 || !errors.Is(list[0], backendai.ServiceUnavailable) || effects[len(effects)-1] != (Deposed{}) {
		t.Errorf("effects %+v", effects)
	}
	if got := string(c.main().Row.ResourceOpts); got != before {
		t.Errorf("options %s", got)
	}
	c.Step(&protocol.Reprioritize{Priority: 9, Reply: somebody})
	if list := answers(c.Step(&outbox.Refused{Label: labelWishes, Err: errors.New("disk full")})); len(list) != 1 || !errors.Is(list[0], backendai.InternalServerError) {
		t.Errorf("answered %v", list)
	}
}
