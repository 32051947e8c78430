package session

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/kernel"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/redis/event"
)

// Retire asks the shard to let a session that has ended go, after what is still in its mailbox.
type Retire struct{ SessionID uuid.UUID }

// Actor is the shell around a session's core.
type Actor struct {
	svc       *services.Services
	guard     journal.Guard
	core      *Core
	recovered bool
	box       *outbox.Outbox
	ctx       actor.Context
	kernels   map[uuid.UUID]*actor.PID
	timers    map[string]*time.Timer
	draining  map[string]bool // by PID id: kernels that have not answered Drain; nil while the shard stays here
	broken    bool            // it, or one of its kernels, has crashed: nothing is handled any more
}

// Props makes the props of one session's actor. recovered says that its rows were alive before this actor.
func Props(svc *services.Services, guard journal.Guard, rows []record.Kernel, recovered bool) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindSession, ID: rows[0].SessionID.String(), Shard: guard.Shard, Epoch: guard.Epoch}
	return svc.Inspector.Props(id, func() actor.Actor {
		core := New(rows)
		core.Debug = svc.Debug
		return &Actor{svc: svc, guard: guard, core: core, recovered: recovered,
			kernels: make(map[uuid.UUID]*actor.PID), timers: make(map[string]*time.Timer)}
	}, actor.WithSupervisor(escalate{}))
}

// escalate is the supervision of kernels: one that crashes takes its session with it, and both are rebuilt from the
// rows. A half-known session would be worse than a restarted one.
type escalate struct{}

func (escalate) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, _ *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	if ctx, ok := supervisor.(actor.Context); ok {
		if a, ok := ctx.Actor().(*Actor); ok {
			a.broken = true
		}
	}
	supervisor.EscalateFailure(reason, message)
}

// Receive feeds the core and carries its effects out. After a crash it gives every message back to the shard, which
// keeps them for the actor's next life.
func (a *Actor) Receive(ctx actor.Context) {
	a.ctx = ctx
	if a.broken {
		a.bounce(ctx.Message())
		return
	}
	finished := false
	defer func() { a.broken = !finished }()
	a.handle(ctx)
	finished = true
}

func (a *Actor) bounce(msg any) {
	switch msg.(type) {
	case *actor.Stopping:
		a.stopTimers()
	case actor.SystemMessage, actor.AutoReceiveMessage, *outbox.Committed, *protocol.KernelChanged, *protocol.Tick, *Prepared, *PendingLoaded:
		// of this life only: the next reads the rows
	default:
		from := protocol.Ref{Address: a.ctx.Self().Address, ID: a.ctx.Self().Id}
		a.ctx.Send(a.ctx.Parent(), &protocol.Bounced{From: from, Message: msg})
	}
}

func (a *Actor) stopTimers() {
	for _, t := range a.timers {
		t.Stop()
	}
}

func (a *Actor) handle(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		self, root := ctx.Self(), a.svc.System.Root
		a.box = outbox.New(a.svc.Journal, a.guard, func(m any) { root.Send(self, m) }, a.perform)
		if a.recovered {
			a.box.Add(a.core.Step(&Recover{Now: time.Now()}))
		}
	case *actor.Stopping:
		a.stopTimers()
	case *outbox.Committed:
		if refused := a.box.Committed(msg); refused != nil {
			a.box.Add(a.core.Step(refused))
		}
		a.drained("")
	case *protocol.Drain:
		a.drain()
	case *protocol.Drained:
		a.drained(msg.ID)
	case *protocol.Moved:
		for _, pid := range a.kernels {
			ctx.Send(pid, msg)
		}
		a.box.Add(a.core.Step(msg))
	case actor.SystemMessage, actor.AutoReceiveMessage:
	default:
		if a.draining == nil || len(a.draining) > 0 { // what comes after is found out by the next owner
			a.box.Add(a.core.Step(msg))
		} else if to := protocol.Caller(msg); to.Waits() {
			ask.Reply(ctx, to, &protocol.NotHere{}, nil)
		}
	}
}

// drain lets the kernels carry out what they have committed, and then the session itself.
func (a *Actor) drain() {
	if a.draining != nil {
		return
	}
	a.draining = make(map[string]bool, len(a.kernels))
	for _, pid := range a.kernels {
		a.draining[pid.Id] = true
		a.ctx.Send(pid, &protocol.Drain{})
	}
	a.drained("")
}

func (a *Actor) drained(kernel string) {
	if a.draining == nil {
		return
	}
	delete(a.draining, kernel)
	if len(a.draining) == 0 && a.box.Idle() {
		a.ctx.Send(a.ctx.Parent(), &protocol.Drained{ID: a.ctx.Self().Id})
	}
}

// Facts tells the session's phase and who it is.
func (a *Actor) Facts() map[string]any {
	m := &a.core.main().Row
	d := map[string]any{
		"name": m.SessionName, "status": m.Status, "access_key": m.AccessKey, "scaling_group": m.ScalingGroup,
		"image": m.Image, "kernels": len(a.core.Members), "created_at": m.CreatedAt,
		"waiters": len(a.core.startTo) + len(a.core.destroyTo) + len(a.core.restartTo),
	}
	if a.core.scheduler.Retries > 0 {
		d["scheduler"] = a.core.scheduler
	}
	if a.box != nil && a.box.Waiting() != "" {
		d["persisting"] = a.box.Waiting()
	}
	return d
}

// State is the session's phase.
func (a *Actor) State() string { return string(a.core.Phase) }

func (a *Actor) perform(effect outbox.Effect) {
	switch e := effect.(type) {
	case SpawnKernel:
		a.spawn(e)
	case TellKernel:
		if pid := a.kernels[e.KernelID]; pid != nil {
			if a.draining != nil { // it answers when that is done, too
				a.draining[pid.Id] = true
			}
			a.ctx.Send(pid, e.Message)
		}
	case ToScheduler:
		a.svc.Router.Send(cluster.Scheduler(e.ScalingGroup), e.Message)
	case ToAllSchedulers:
		a.toAllSchedulers(e.Message)
	case Publish:
		a.publish(e)
	case PublishKernel:
		a.svc.Bus.Publish(event.KernelCancelled{Kernel: backendai.KernelID{UUID: e.KernelID}, Reason: e.Reason}, "")
	case Hook:
		a.hook(e.Name)
	case Answer:
		ask.Reply(a.ctx, e.To, e.Value, e.Err)
	case LoadPending:
		a.loadPending()
	case Prepare:
		a.prepare(e)
	case RemoveNetwork:
		a.removeNetwork(e.Network)
	case Forward:
		msg := &protocol.Call{Call: e.Invoke.Call, At: time.Now(), Deadline: e.Invoke.Deadline, Reply: e.Invoke.Reply}
		if !a.svc.Router.Send(cluster.Agent(e.Agent), msg) {
			ask.Reply(a.ctx, e.Invoke.Reply, &protocol.NotHere{}, nil) // the agent's link is moving: nothing was sent, so it may be asked again
		}
	case SetTimer:
		a.timer(e)
	case Renamed:
		a.core.RenameCommitted()
	case Reprioritized:
		a.core.PriorityCommitted()
	case Stored:
		for _, to := range a.core.CreateCommitted() {
			ask.Reply(a.ctx, to, &protocol.Enqueued{SessionID: a.core.ID}, nil)
		}
	case Stop:
		a.ctx.Send(a.ctx.Parent(), &Retire{SessionID: a.core.ID})
	case Deposed:
		a.ctx.Send(a.ctx.Parent(), &protocol.LostShard{})
	case Crash:
		panic(e.Reason)
	}
}

func (a *Actor) spawn(e SpawnKernel) {
	if a.kernels[e.Row.ID] != nil {
		return
	}
	props := kernel.Props(a.svc, a.guard, e.Row, e.Recovered)
	pid, err := a.ctx.SpawnNamed(props, "kernel-"+e.Row.ID.String())
	if err != nil {
		panic(err)
	}
	a.kernels[e.Row.ID] = pid
}

func (a *Actor) timer(e SetTimer) {
	if t := a.timers[e.Kind]; t != nil {
		t.Stop()
	}
	self, root := a.ctx.Self(), a.svc.System.Root
	a.timers[e.Kind] = time.AfterFunc(e.After, func() { root.Send(self, &protocol.Tick{Kind: e.Kind, Now: time.Now()}) })
}

// publish puts a session event on the bus and calls the web hook.
func (a *Actor) publish(e Publish) {
	id, m := backendai.SessionID{UUID: a.core.ID}, &a.core.main().Row
	step := event.SessionEnqueued{Session: id, Creation: backendai.CreationID(m.CreationID), Reason: e.Reason}
	switch e.Name {
	case "session_enqueued":
		a.svc.Bus.Publish(step, "")
	case "session_scheduled":
		a.svc.Bus.Publish(event.SessionScheduled(step), "")
	case "session_preparing":
		a.svc.Bus.Publish(event.SessionPreparing(step), "")
	case "session_started":
		a.svc.Live.Accessed(a.core.ID, false)
		a.svc.Bus.Publish(event.SessionStarted(step), "")
	case "session_cancelled":
		a.svc.Bus.Publish(event.SessionCancelled(step), "")
	case "session_terminated":
		a.svc.Bus.Publish(event.SessionTerminated{Session: id, Reason: e.Reason}, "")
	}
	a.hook(e.Name)
}

func (a *Actor) hook(event string) {
	if url := a.core.main().Row.CallbackURL; url != nil && *url != "" {
		a.svc.Hooks.Session(*url, event, a.core.ID, time.Now())
	}
}

// work hands something that waits to the workers and sends its result back to the actor. Work for which there is no
// room is tried again after a moment.
func (a *Actor) work(f func(context.Context) any) {
	self, root := a.ctx.Self(), a.svc.System.Root
	var try func()
	try = func() {
		if !a.svc.Work.Go(func(ctx context.Context) {
			if msg := f(ctx); msg != nil {
				root.Send(self, msg)
			}
		}) {
			time.AfterFunc(50*time.Millisecond, try)
		}
	}
	try()
}

// toAllSchedulers sends a message to the schedulers of all scaling groups.
func (a *Actor) toAllSchedulers(msg any) {
	a.work(func(ctx context.Context) any {
		groups, err := a.svc.Store.ScalingGroups(ctx)
		if err != nil {
			a.svc.Log.Warn("the schedulers were not told how a batch session has ended; they will find out at their next look", "session", a.core.ID, "error", err)
		}
		for _, g := range groups {
			a.svc.Router.Send(cluster.Scheduler(g), msg)
		}
		return nil
	})
}

func (a *Actor) loadPending() {
	row, id := a.core.main().Row, a.core.ID
	a.work(func(ctx context.Context) any {
		limits, err := a.svc.Store.Limits(ctx, protocol.Owner{AccessKey: row.AccessKey, GroupID: row.GroupID, DomainName: row.DomainName})
		var depends []protocol.Dependency
		if err == nil {
			depends, err = a.svc.Store.Dependencies(ctx, id)
		}
		if err != nil {
			a.svc.Log.Warn("a pending session could not be lined up; trying again", "session", id, "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			return &protocol.Requeue{}
		}
		return &PendingLoaded{Limits: limits, DependsOn: depends}
	})
}

func (a *Actor) prepare(e Prepare) {
	rows := make([]record.Kernel, len(a.core.Members))
	for i, m := range a.core.Members {
		rows[i] = m.Row
	}
	a.work(func(ctx context.Context) any {
		p := &Prepared{Launch: e.Launch}
		if err := prepareLaunch(ctx, a.svc, rows, e, p); err != nil {
			p.Err = failureOf(err)
		}
		p.Now = time.Now()
		return p
	})
}

func failureOf(err error) *protocol.StartFailure {
	var known *backendai.Error
	if errors.As(err, &known) {
		return &protocol.StartFailure{Src: "other", Name: string(known.Code), Repr: known.Error()}
	}
	return &protocol.StartFailure{Src: "other", Name: "LaunchError", Repr: err.Error()}
}
