package kernel

import (
	"context"
	"encoding/json"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/redis/event"
)

// answerGrace is how much longer than its deadline a call's answer is awaited before the actor answers itself:
// the message may have been lost with its twin.
const answerGrace = 5 * time.Second

// Actor is the shell around a kernel's core.
type Actor struct {
	svc       *services.Services
	guard     journal.Guard
	core      *Core
	recovered bool
	box       *outbox.Outbox
	ctx       actor.Context
	start     *protocol.Start
	timers    map[string]*time.Timer
	draining  bool // the shard is being handed over
}

// Props makes the props of one kernel's actor. recovered says that its row was alive before this actor.
func Props(svc *services.Services, guard journal.Guard, row record.Kernel, recovered bool) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindKernel, ID: row.ID.String(), Shard: guard.Shard, Epoch: guard.Epoch}
	return svc.Inspector.Props(id, func() actor.Actor {
		return &Actor{svc: svc, guard: guard, core: New(row), recovered: recovered, timers: make(map[string]*time.Timer)}
	})
}

// Receive feeds the core and carries its effects out.
func (a *Actor) Receive(ctx actor.Context) {
	a.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.svc.Roster.Add(a.core.Row.ID, a.core.Row.SessionID)
		self, root := ctx.Self(), a.svc.System.Root
		a.box = outbox.New(a.svc.Journal, a.guard, func(m any) { root.Send(self, m) }, a.perform)
		if a.recovered {
			a.box.Add(a.core.Step(&Recover{Now: time.Now()}))
		}
	case *actor.Stopping:
		a.svc.Roster.Remove(a.core.Row.ID)
		for _, t := range a.timers {
			t.Stop()
		}
	case *outbox.Committed:
		if refused := a.box.Committed(msg); refused != nil {
			a.box.Add(a.core.Step(refused))
		}
		a.drained()
	case *protocol.Drain:
		a.draining = true
		a.drained()
	case actor.SystemMessage, actor.AutoReceiveMessage:
	default:
		if a.draining { // of everything else the next owner will ask the agent
			a.box.Add(a.core.Leave(msg))
			a.drained()
			return
		}
		if start, ok := msg.(*protocol.Start); ok {
			a.start = start
		}
		a.box.Add(a.core.Step(msg))
		if a.core.Stage == Running {
			a.start = nil // thousands of them would be kept
		}
	}
}

// drained tells the session when everything that has been committed is carried out, and no agent is at work on it.
func (a *Actor) drained() {
	if a.draining && a.box.Idle() && !a.core.Creating() {
		a.ctx.Send(a.ctx.Parent(), &protocol.Drained{ID: a.ctx.Self().Id})
	}
}

// Facts tells the kernel's stage and what is in flight.
func (a *Actor) Facts() map[string]any {
	c := a.core
	d := map[string]any{"status": c.Row.Status, "session": c.Row.SessionID, "role": c.Row.ClusterRole, "image": c.Row.Image}
	if c.Row.Agent != nil {
		d["agent"] = *c.Row.Agent
	}
	if c.Row.ContainerID != nil {
		d["container"] = *c.Row.ContainerID
	}
	if c.call.kind != "" {
		d["call"] = c.call.kind
	}
	if a.box != nil && a.box.Waiting() != "" {
		d["persisting"] = a.box.Waiting()
	}
	return d
}

// State is the kernel's stage.
func (a *Actor) State() string { return string(a.core.Stage) }

func (a *Actor) perform(effect outbox.Effect) {
	switch e := effect.(type) {
	case Tell:
		e.Changed.Now = time.Now()
		a.ctx.Send(a.ctx.Parent(), &e.Changed)
	case Call:
		a.call(e)
	case Publish:
		id := backendai.KernelID{UUID: a.core.Row.ID}
		if e.Name == "kernel_terminating" {
			a.svc.Bus.Publish(event.KernelTerminating{Kernel: id, Reason: e.Reason, ExitCode: -1}, "")
		} else {
			a.svc.Bus.Publish(event.KernelTerminated{Kernel: id, Reason: e.Reason, ExitCode: -1}, "")
		}
	case FetchStats:
		a.fetchStats(e)
	case SetTimer:
		a.timer(e.Kind, e.After, &protocol.Tick{Kind: e.Kind})
	case Deposed:
		a.ctx.Send(a.ctx.Parent(), &protocol.LostShard{})
	case Crash:
		panic(e.Reason)
	}
}

// timer replaces the timer of a kind.
func (a *Actor) timer(kind string, after time.Duration, msg any) {
	if t := a.timers[kind]; t != nil {
		t.Stop()
	}
	self, root := a.ctx.Self(), a.svc.System.Root
	a.timers[kind] = time.AfterFunc(after, func() {
		if tick, ok := msg.(*protocol.Tick); ok {
			tick.Now = time.Now()
		}
		root.Send(self, msg)
	})
}

func (a *Actor) call(e Call) {
	row := &a.core.Row
	if row.Agent == nil {
		return
	}
	var call callosum.Call
	switch e.Kind {
	case CallCreate:
		if a.start == nil {
			return
		}
		config := a.start.Config
		data := callosum.InternalData{}
		if config.InternalData != nil {
			data = *config.InternalData
		}
		data.Fence = a.fence()
		config.InternalData = &data
		call = callosum.CreateKernels{
			CreationID: string(backendai.NewCreationID()), SessionID: row.SessionID.String(), KernelIDs: []string{row.ID.String()},
			Configs: []callosum.KernelCreationConfig{config}, ClusterInfo: a.start.Cluster,
		}.Call()
	case CallDestroy:
		call = callosum.DestroyKernel{KernelID: row.ID.String(), Reason: e.Reason, SuppressEvents: e.Suppress}.Call()
	case CallRestart:
		call = callosum.RestartKernel{CreationID: string(backendai.NewCreationID()), SessionID: row.SessionID.String(), KernelID: row.ID.String()}.Call()
	case CallProbe:
		// Starting a service that cannot exist changes nothing and tells known kernels from unknown ones (KeyError).
		call = callosum.StartService{KernelID: row.ID.String(), Service: "backendai-probe"}.Call()
	}
	now := time.Now()
	deadline := now.Add(e.Timeout)
	msg := &protocol.Call{Call: call, At: now, Deadline: deadline, Token: e.Token, Fence: a.fence(),
		From: protocol.Ref{Address: a.ctx.Self().Address, ID: a.ctx.Self().Id}}
	lost := &protocol.CallResult{Token: e.Token, Now: deadline,
		Err: &callosum.LinkError{Cause: callosum.CauseDeadline, Agent: *row.Agent, Method: call.Method, Sent: true}}
	a.timer("call", e.Timeout+answerGrace, lost)
	if !a.svc.Router.Send(cluster.Agent(*row.Agent), msg) {
		a.ctx.Send(a.ctx.Self(), &protocol.CallResult{Token: e.Token, Now: time.Now(),
			Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Agent: *row.Agent, Method: call.Method}})
	}
}

func (a *Actor) fence() callosum.Fence {
	return callosum.Fence{Shard: uint32(a.guard.Shard), Epoch: uint64(a.guard.Epoch)}
}

func (a *Actor) fetchStats(e FetchStats) {
	self, root, id := a.ctx.Self(), a.svc.System.Root, a.core.Row.ID
	answer := func(stats json.RawMessage) { root.Send(self, &Stats{Token: e.Token, Stats: stats, Now: time.Now()}) }
	ok := a.svc.Work.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		stats, err := a.svc.Live.Statistics(ctx, id)
		if err != nil {
			a.svc.Log.Debug("no last statistics of a kernel", "kernel", id, "error", err)
		}
		answer(stats)
	})
	if !ok {
		answer(nil)
	}
}
