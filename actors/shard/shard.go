package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/actors/session"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// GaveUp tells the owner that a shard has another owner now.
type GaveUp struct{ Shard int32 }

// Reclaim asks the owner to take a shard again, under a new epoch.
type Reclaim struct {
	Shard  int32
	Reason string
}

// Actor supervises one shard.
type Actor struct {
	svc      *services.Services
	guard    journal.Guard
	rows     [][]record.Kernel // of live sessions, as they were read
	agents   []record.Agent
	groups   []string
	council  *scheduler.Council
	ctx      actor.Context
	children map[cluster.Identity]*actor.PID
	names    map[string]cluster.Identity // by PID id
	crashes  map[cluster.Identity]*crashes
	sick     map[cluster.Identity]*crashed // sessions that crash again and again, until their rows are read
	stash    map[cluster.Identity][]any    // for actors that are being respawned
	dying    map[string]cluster.Identity   // by PID id: crashed, and giving back what is in their mailboxes
	lives    int
	gaveUp   bool
	draining map[string]bool // by PID id: actors that have not answered Drain yet; nil while the shard is not handed over
}

// Props makes the props of a shard that was taken under the guard's epoch.
func Props(svc *services.Services, guard journal.Guard, rows *services.ShardRows) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindShard, ID: fmt.Sprint(guard.Shard), Shard: guard.Shard, Epoch: guard.Epoch}
	return svc.Inspector.Props(id, func() actor.Actor {
		return &Actor{svc: svc, guard: guard, rows: rows.Sessions[guard.Shard], agents: rows.Agents[guard.Shard], groups: rows.ScalingGroups[guard.Shard],
			council:  scheduler.NewCouncil(rows.ScalingGroups[guard.Shard]),
			children: make(map[cluster.Identity]*actor.PID), names: make(map[string]cluster.Identity),
			crashes: make(map[cluster.Identity]*crashes), sick: make(map[cluster.Identity]*crashed), stash: make(map[cluster.Identity][]any), dying: make(map[string]cluster.Identity)}
	}, actor.WithSupervisor(strategy{svc.System}))
}

// Receive passes messages to the actors of the shard and looks after their lives.
func (a *Actor) Receive(ctx actor.Context) {
	a.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.start()
	case *cluster.Envelope:
		if a.draining != nil {
			NotHere(a.svc, msg.Message)
			return
		}
		a.deliver(msg.To, msg.Message)
	case *protocol.Moved:
		for _, pid := range a.children {
			ctx.Send(pid, msg)
		}
	case *protocol.Drain:
		a.drain()
	case *protocol.Drained:
		a.drained(msg.ID)
	case *session.Retire:
		a.retire(cluster.Session(msg.SessionID))
	case *crashed:
		a.crashed(msg)
	case *protocol.Bounced:
		a.bounced(msg)
	case *actor.Terminated:
		a.drained(msg.Who.Id)
		// A system message overtakes what the actor has given back before it ended: forget it behind that.
		ctx.Send(ctx.Self(), &departed{msg.Who.Id})
	case *departed:
		delete(a.dying, msg.pid)
	case *respawn:
		a.respawn(msg)
	case *verified:
		a.verified(msg)
	case *protocol.LostShard:
		a.lost()
	}
}

// Facts tells what lives in the shard.
func (a *Actor) Facts() map[string]any {
	n := make(map[cluster.Kind]int)
	for id := range a.children {
		n[id.Kind]++
	}
	return map[string]any{"children": len(a.children), "kinds": n, "respawning": len(a.stash)}
}

// State tells how the shard stands.
func (a *Actor) State() string {
	switch {
	case a.gaveUp:
		return "deposed"
	case a.draining != nil:
		return "handing over"
	}
	return "owned"
}

func (a *Actor) start() {
	for _, row := range a.agents {
		a.spawn(cluster.Agent(row.ID), agent.Props(a.svc, a.guard, agent.NewKnown(row, a.svc.HeartbeatTimeout)))
	}
	for _, rows := range a.rows {
		a.spawn(cluster.Session(rows[0].SessionID), session.Props(a.svc, a.guard, rows, true))
	}
	// A scheduler is there before anyone asks for it: sessions may be waiting in its rows.
	for _, g := range a.groups {
		a.spawn(cluster.Scheduler(g), scheduler.Props(a.svc, a.guard, a.council, g))
	}
	a.rows, a.agents, a.groups = nil, nil, nil
}

// deliver passes a message to its actor, making it when that is what the message is for.
func (a *Actor) deliver(to cluster.Identity, msg any) {
	if log, ok := msg.(*protocol.KernelLog); ok {
		a.keepLog(log)
		return
	}
	if waiting, ok := a.stash[to]; ok {
		if len(waiting) < maxStash {
			a.stash[to] = append(waiting, msg)
		} else {
			a.refuse(msg, backendai.Errorf(backendai.ServiceUnavailable, "The session is being restored; try again."))
		}
		return
	}
	pid := a.children[to]
	if pid == nil {
		pid = a.create(to, msg)
	}
	if pid == nil {
		a.absent(to, msg)
		return
	}
	a.ctx.Send(pid, msg)
}

// verified tells whether the shard was still this node's after a message had come for an actor that it does not know.
type verified struct {
	to  cluster.Identity
	msg any
	err error
}

// absent refuses a message for an actor that is not there. Somebody who waits for an answer may ask for an actor of the shard's next
// owner, of which a deposed one knows nothing: "there is none" is only said when the epoch still stands.
func (a *Actor) absent(to cluster.Identity, msg any) {
	if e, ok := msg.(*protocol.AgentEvent); ok && e.Misled(to.ID) {
		a.svc.Seek(e)
		return
	}
	if !protocol.Caller(msg).Waits() {
		a.refuse(msg, backendai.NewError(backendai.SessionNotFound))
		return
	}
	self, root := a.ctx.Self(), a.svc.System.Root
	done := func(err error) { root.Send(self, &verified{to, msg, err}) }
	if err := a.svc.Journal.Submit(&journal.Entry{Guard: a.guard, Sure: true, Done: done}); err != nil {
		done(err)
	}
}

func (a *Actor) verified(v *verified) {
	switch pid := a.children[v.to]; {
	case errors.Is(v.err, journal.ErrDeposed):
		NotHere(a.svc, v.msg)
		a.lost()
	case v.err != nil:
		a.refuse(v.msg, backendai.Errorf(backendai.ServiceUnavailable, "It is not known now whether there is such a session; try again.").WithCause(v.err))
	case pid != nil: // it was made meanwhile
		a.ctx.Send(pid, v.msg)
	default:
		a.refuse(v.msg, backendai.NewError(backendai.SessionNotFound))
	}
}

// lost tells the owner that the shard is another's.
func (a *Actor) lost() {
	if !a.gaveUp {
		a.gaveUp = true
		a.ctx.Send(a.ctx.Parent(), &GaveUp{Shard: a.guard.Shard})
	}
}

// keepLog writes a container's log to its kernel's row: it comes when the kernel, and often the session, has ended.
func (a *Actor) keepLog(e *protocol.KernelLog) {
	patch := &record.KernelPatch{ID: e.KernelID, Mask: record.FieldContainerLog, ContainerLog: e.Log}
	root := a.svc.System.Root
	done := func(err error) { ask.Reply(root, e.Reply, nil, err) }
	if err := a.svc.Journal.Submit(&journal.Entry{Guard: a.guard, Kernels: []*record.KernelPatch{patch}, Done: done}); err != nil {
		done(err)
	}
}

// create makes the actor for a message that may come before it: a new session, an agent heard of for the first time, a
// scaling group's first session.
func (a *Actor) create(to cluster.Identity, msg any) *actor.PID {
	switch to.Kind {
	case cluster.KindSession:
		c, ok := msg.(*protocol.Create)
		if !ok {
			return nil
		}
		rows := make([]record.Kernel, len(c.Kernels))
		for i, k := range c.Kernels {
			rows[i] = *k
		}
		return a.spawn(to, session.Props(a.svc, a.guard, rows, false))
	case cluster.KindAgent:
		if _, ok := msg.(*protocol.AgentLeft); ok {
			return nil
		}
		return a.spawn(to, agent.Props(a.svc, a.guard, agent.New(to.ID, a.svc.HeartbeatTimeout)))
	case cluster.KindScheduler:
		return a.spawn(to, scheduler.Props(a.svc, a.guard, a.council, to.ID))
	}
	return nil
}

// refuse answers a caller whose message no actor will take.
func (a *Actor) refuse(msg any, err error) {
	ask.Reply(a.ctx, protocol.Caller(msg), nil, err)
	if c, ok := msg.(*protocol.Call); ok && c.From.ID != "" {
		a.ctx.Send(actor.NewPID(c.From.Address, c.From.ID), &protocol.CallResult{Token: c.Token, Err: err, Now: time.Now()})
	}
	if p, ok := msg.(*protocol.Placement); ok && len(p.Kernels) > 0 {
		// The session ended while its placement was on the way: its slots are free.
		a.svc.Router.Send(cluster.Scheduler(p.ScalingGroup), &protocol.Placed{SessionID: p.SessionID})
	}
}

func (a *Actor) spawn(id cluster.Identity, props *actor.Props) *actor.PID {
	a.lives++
	pid, err := a.ctx.SpawnNamed(props, fmt.Sprintf("%s-%s-%d", id.Kind, id.ID, a.lives))
	if err != nil {
		a.svc.Log.Error("an actor could not be made", "actor", id, "error", err)
		return nil
	}
	a.ctx.Watch(pid)
	a.children[id] = pid
	a.names[pid.Id] = id
	return pid
}

// retire lets an actor go after what is still in its mailbox.
func (a *Actor) retire(id cluster.Identity) {
	if pid := a.children[id]; pid != nil {
		a.forget(id)
		a.ctx.Poison(pid)
	}
}

func (a *Actor) forget(id cluster.Identity) {
	if pid := a.children[id]; pid != nil {
		delete(a.names, pid.Id)
	}
	delete(a.children, id)
}

// sessionRows reads a session's rows once everything that its last life has submitted is in them, and sends them to the shard.
func (a *Actor) sessionRows(id uuid.UUID) {
	self, root := a.ctx.Self(), a.svc.System.Root
	read := func(error) {
		if !a.svc.Work.Go(func(ctx context.Context) {
			rows, err := a.svc.Store.Session(ctx, id)
			root.Send(self, &respawn{id: cluster.Session(id), rows: rows, err: err, read: true})
		}) {
			root.Send(self, &respawn{id: cluster.Session(id), err: errBusy, read: true})
		}
	}
	// An entry without rows: it commits after those before it.
	if err := a.svc.Journal.Submit(&journal.Entry{Guard: a.guard, Done: read}); err != nil {
		root.Send(self, &respawn{id: cluster.Session(id), err: err, read: true})
	}
}
