package kernel

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// world is a kernel's core with the agent, the journal and the session around it, all played by the test: answers are
// lost, late and doubled, the agent forgets kernels, the manager restarts from the row.
type world struct {
	*rapid.T
	core  *Core
	now   time.Time
	row   record.Kernel // as committed
	path  []backendai.KernelStatus
	calls []Call // whose answers are still to come
	// the agent's side
	has    bool
	live   int // incarnations that were created and not removed
	most   int
	timers map[string]bool
	freed  int
}

func newKernelRow() record.Kernel {
	id := uuid.New()
	return record.Kernel{ID: id, SessionID: id, ClusterRole: "main", ClusterSize: 1, Status: backendai.Pending, OccupiedSlots: backendai.SlotsOf("cpu", "1", "mem", "1g")}
}

func (w *world) step(event any) {
	w.now = w.now.Add(time.Second)
	for _, effect := range w.core.Step(event) {
		switch e := effect.(type) {
		case *outbox.Persist:
			for _, p := range e.Kernels {
				was := w.row.Status
				patch := record.KernelPatch{Kernel: w.row}
				patch.Merge(p)
				w.row = patch.Kernel
				if p.Mask&record.FieldStatus != 0 && w.row.Status != was {
					if !backendai.CanMove(was, w.row.Status) {
						w.Fatalf("the row moves from %s to %s on %T", was, w.row.Status, event)
					}
					w.path = append(w.path, w.row.Status)
				}
			}
		case Call:
			w.calls = append(w.calls, e)
			if len(w.core.call.kind) == 0 {
				w.Fatalf("a call that is not remembered: %+v", e)
			}
		case SetTimer:
			w.timers[e.Kind] = true
		case FetchStats:
			w.step(&Stats{Token: e.Token, Stats: json.RawMessage(`{}`), Now: w.now})
		case Tell:
			if e.Changed.Status != w.row.Status {
				w.Fatalf("the session is told %s while the row says %s", e.Changed.Status, w.row.Status)
			}
			if e.Changed.Freed {
				w.freed++
			}
			// What the session does in its turn: a failed start is aborted and, once freed, cancelled by the session's own patch.
			if e.Changed.Failure != nil && w.core.Stage == Aborting {
				continue
			}
		case Crash:
			w.Fatalf("crash: %s", e.Reason)
		}
	}
}

// carryOut plays what the agent does with a call; the answer is the caller's to deliver or lose.
func (w *world) carryOut(c Call) *protocol.CallResult {
	r := &protocol.CallResult{Token: c.Token, Now: w.now}
	unknown := callosum.Exception("KeyError", w.row.ID.String())
	switch c.Kind {
	case CallCreate:
		if w.has {
			r.Err = callosum.Exception("AgentError", "exists")
			w.Fatalf("a kernel that runs is created again")
		}
		if rapid.IntRange(0, 5).Draw(w.T, "create fails") == 0 {
			r.Err = callosum.Exception("RuntimeError", "no luck")
			return r
		}
		w.has = true
		w.live++
		w.most = max(w.most, w.live)
		r.Value, _ = callosum.Marshal([]callosum.KernelCreationResult{{ID: w.row.ID.String(), KernelHost: "h", ContainerID: uuid.NewString(),
			ResourceSpec: callosum.ResourceSpec{Allocations: map[string]map[string]map[string]string{"cpu": {"cpu": {"0": "1"}}}}}})
	case CallDestroy:
		if w.has {
			w.has = false
			w.live--
		}
		r.Value = []byte{0xc0}
	case CallRestart:
		if !w.has {
			r.Err = unknown
			return r
		}
		r.Value, _ = callosum.Marshal(callosum.RestartResult{ContainerID: uuid.NewString()})
	case CallProbe:
		if !w.has {
			r.Err = unknown
			return r
		}
		r.Value, _ = callosum.Marshal(callosum.ServiceResult{Status: "failed"})
	}
	return r
}

func (w *world) answer(c Call, how string) {
	link := func(cause callosum.Cause, sent bool) error {
		return &callosum.LinkError{Cause: cause, Agent: "a", Method: string(c.Kind), Sent: sent}
	}
	switch how {
	case "answered":
		w.step(w.carryOut(c))
	case "lost after":
		w.carryOut(c)
		w.step(&protocol.CallResult{Token: c.Token, Now: w.now, Err: link(callosum.CauseDisconnected, true)})
	case "never sent":
		w.step(&protocol.CallResult{Token: c.Token, Now: w.now, Err: link(callosum.CauseUnreachable, false)})
	case "lost before":
		w.step(&protocol.CallResult{Token: c.Token, Now: w.now, Err: link(callosum.CauseDisconnected, true)})
	}
}

// restart makes a new core from what was committed, as a takeover does.
func (w *world) restart() {
	if w.row.Status.IsDead() { // ended by force: the shard repeats the destroy of such rows when it is taken
		w.carryOut(Call{Kind: CallDestroy})
	}
	w.core = New(w.row)
	w.calls, w.timers = nil, map[string]bool{}
	w.step(&Recover{Now: w.now})
	w.start()
}

func (w *world) start() {
	switch w.row.Status {
	case backendai.Preparing, backendai.Pulling, backendai.Scheduled:
		w.step(&protocol.Start{Agent: "a", Addr: "tcp://a:1", ScalingGroup: "default", Now: w.now})
	}
}

func (w *world) takeCall(label string) (Call, bool) {
	if len(w.calls) == 0 {
		return Call{}, false
	}
	i := rapid.IntRange(0, len(w.calls)-1).Draw(w.T, label)
	c := w.calls[i]
	w.calls = append(w.calls[:i], w.calls[i+1:]...)
	return c, true
}

// TestEveryKernelEnds drives a kernel through anything that can happen, then heals the world and ends the kernel: it must come
// to a final status, the agent must hold nothing, and there never was a second incarnation.
func TestEveryKernelEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, now: time.Date(2022, 9, 1, 0, 0, 0, 0, time.UTC), timers: map[string]bool{}}
		w.row = newKernelRow()
		w.row.Status = backendai.Preparing // the session has committed the placement
		agent, addr := "a", "tcp://a:1"
		w.row.Agent, w.row.AgentAddr = &agent, &addr
		w.core = New(w.row)
		w.start()
		w.Repeat(map[string]func(*rapid.T){
			"answer a call": func(rt *rapid.T) {
				if c, ok := w.takeCall("call"); ok {
					w.answer(c, rapid.SampledFrom([]string{"answered", "answered", "answered", "lost after", "lost before", "never sent"}).Draw(rt, "how"))
				}
			},
			"a timer fires": func(rt *rapid.T) {
				for _, kind := range []string{timerRetry, timerProbe} {
					if w.timers[kind] {
						delete(w.timers, kind)
						w.now = w.now.Add(settleTime)
						w.step(&protocol.Tick{Kind: kind, Now: w.now})
						return
					}
				}
			},
			"an event of the bus": func(rt *rapid.T) {
				name := rapid.SampledFrom([]string{"kernel_pulling", "kernel_creating", "kernel_started"}).Draw(rt, "name")
				w.step(&protocol.AgentEvent{Name: name, KernelID: w.row.ID, Reason: "image", Now: w.now})
			},
			"the container dies": func(*rapid.T) {
				if w.has && w.core.Stage == Running {
					w.has = false
					w.live--
					if rapid.Bool().Draw(w.T, "told") {
						w.step(&protocol.AgentEvent{Name: "kernel_terminated", KernelID: w.row.ID, Reason: "self-terminated", ExitCode: -1, Now: w.now})
					}
				}
			},
			"destroy": func(rt *rapid.T) {
				forced := rapid.Bool().Draw(rt, "forced")
				if next, err := backendai.Destroy(w.row.Status, forced); err == nil && next != w.row.Status {
					w.step(&protocol.End{Reason: "user-requested", Forced: forced, Now: w.now})
				}
			},
			"restart": func(*rapid.T) { w.step(&protocol.RestartKernel{Now: w.now}) },
			"the manager is killed": func(*rapid.T) {
				if w.core.Stage == Aborting || w.core.Stage == Aborted {
					return // the session would have written CANCELLED; its part is not played here
				}
				for len(w.calls) > 0 { // what was sent may have reached the agent
					c, _ := w.takeCall("call")
					if rapid.Bool().Draw(w.T, "reached") {
						w.carryOut(c)
					}
				}
				w.restart()
			},
		})
		w.heal()
		if w.core.Stage != Dead && w.core.Stage != Aborted {
			rt.Fatalf("the kernel does not end: stage %s, status %s, call %+v", w.core.Stage, w.row.Status, w.core.call)
		}
		if w.has {
			rt.Fatalf("the agent still has the kernel (stage %s, path %v)", w.core.Stage, w.path)
		}
		if w.most > 1 {
			rt.Fatalf("%d incarnations at a time", w.most)
		}
	})
}

// heal lets every call be answered and every timer fire until nothing moves, and asks for the end with force.
func (w *world) heal() {
	for i := 0; i < 200; i++ {
		switch {
		case len(w.calls) > 0:
			c, _ := w.takeCall("healing")
			w.step(w.carryOut(c))
		case w.timers[timerRetry]:
			delete(w.timers, timerRetry)
			w.now = w.now.Add(settleTime)
			w.step(&protocol.Tick{Kind: timerRetry, Now: w.now})
		case w.core.Stage == Running || w.core.Stage == Restarting || w.core.Stage == Starting && i > 100:
			forced := w.row.Status != backendai.Running && w.row.Status != backendai.Restarting
			if _, err := backendai.Destroy(w.row.Status, forced); err != nil { // PULLING: it must start first
				w.step(&protocol.AgentEvent{Name: "kernel_creating", Now: w.now})
			}
			w.step(&protocol.End{Reason: "user-requested", Forced: forced, Now: w.now})
		case w.core.Stage == Idle:
			w.start()
		default:
			return
		}
	}
}

func TestAllocationsReplaceTheRequest(t *testing.T) {
	spec := callosum.ResourceSpec{Allocations: map[string]map[string]map[string]string{
		"cpu": {"cpu": {"0": "1", "1": "1"}}, "mem": {"mem": {"root": "1.46g"}}, "cuda": {"cuda.shares": {"0": "0.5"}}}}
	got, ok := allocated(spec)
	if want := backendai.SlotsOf("cpu", "2", "mem", "1567663063", "cuda.shares", "0.5"); !ok || !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	spec.Allocations["cpu"]["cpu"]["0"] = "nonsense"
	if _, ok := allocated(spec); ok {
		t.Error("nonsense was taken")
	}
}

func TestErrorsOfALink(t *testing.T) {
	if isRemote(errors.New("x")) || !isRemote(callosum.Exception("KeyError", "x")) {
		t.Error("isRemote")
	}
}
