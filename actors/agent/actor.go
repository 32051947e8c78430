package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/redis/event"
)

// Actor is the shell around a twin's core.
type Actor struct {
	svc       *services.Services
	guard     journal.Guard
	core      *Core
	recovered bool
	box       *outbox.Outbox
	ctx       actor.Context
	timer     *time.Timer
	calls     int64
	draining  bool // the shard is being handed over
}

// Props makes the props of one twin.
func Props(svc *services.Services, guard journal.Guard, core *Core) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindAgent, ID: core.ID, Shard: guard.Shard, Epoch: guard.Epoch}
	return svc.Inspector.Props(id, func() actor.Actor {
		return &Actor{svc: svc, guard: guard, core: core, recovered: core.Known}
	})
}

// Receive feeds the core, passes calls on, and carries effects out.
func (a *Actor) Receive(ctx actor.Context) {
	a.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		self, root := ctx.Self(), a.svc.System.Root
		a.box = outbox.New(a.svc.Journal, a.guard, func(m any) { root.Send(self, m) }, a.perform)
		if a.recovered {
			a.box.Add(a.core.Step(&Recover{Now: time.Now()}))
		}
	case *actor.Stopping:
		if a.timer != nil {
			a.timer.Stop()
		}
	case *outbox.Committed:
		if refused := a.box.Committed(msg); refused != nil {
			a.box.Add(a.core.Step(refused))
		}
		a.drained()
	case *protocol.Drain:
		a.draining = true
		a.drained()
	case *protocol.Call:
		a.call(msg)
	case *protocol.Reach:
		ask.Reply(ctx, msg.Reply, &protocol.Reached{Agent: a.core.ID}, nil)
	case actor.SystemMessage, actor.AutoReceiveMessage:
	default:
		if !a.draining { // the agent's next heartbeat goes to the next owner
			a.box.Add(a.core.Step(msg))
		}
	}
}

// drained tells the shard when everything that has been committed is carried out.
func (a *Actor) drained() {
	if a.draining && a.box.Idle() {
		a.ctx.Send(a.ctx.Parent(), &protocol.Drained{ID: a.ctx.Self().Id})
	}
}

// Facts tells the agent's state and that of the link.
func (a *Actor) Facts() map[string]any {
	c := a.core
	d := map[string]any{"calls": a.calls}
	if !c.Known {
		return d
	}
	d["scaling_group"], d["addr"], d["version"] = c.Row.ScalingGroup, c.Row.Addr, c.Row.Version
	d["schedulable"], d["available_slots"], d["last_seen"] = c.Row.Schedulable, c.Row.AvailableSlots, c.seen
	maps.Copy(d, link(a.svc.Agents, a.peer()))
	return d
}

// State is the agent's status.
func (a *Actor) State() string {
	if !a.core.Known {
		return "unknown"
	}
	return string(a.core.Row.Status)
}

// link tells of the connection to an agent, if there is one.
func link(links *callosum.Client, peer callosum.Peer) map[string]any {
	if links == nil {
		return nil
	}
	l, ok := links.Link(peer)
	if !ok {
		return nil
	}
	return map[string]any{"link": map[string]any{
		"state": l.State.String(), "since": l.Since, "waiting": l.Waiting, "in_flight": l.InFlight, "sent": l.Sent, "received": l.Received,
		"timed_out": l.TimedOut, "failed": l.Failed, "connects": l.Connects, "last_error": l.LastError,
		"round_trip_ms": float64(l.RoundTrip.Microseconds()) / 1000, "breaker": l.Breaker.String(),
	}}
}

func (a *Actor) peer() callosum.Peer {
	return callosum.Peer{AgentID: a.core.ID, Address: a.core.Row.Addr}
}

// call hands an RPC to the link; its answer goes straight to whoever asked.
func (a *Actor) call(c *protocol.Call) {
	a.calls++
	root, repeatable := a.svc.System.Root, a.core.Repeatable()
	answer := func(o callosum.Outcome) {
		failpoint.Hit(failpoint.AfterCall)
		if c.From.ID != "" {
			root.Send(actor.NewPID(c.From.Address, c.From.ID), &protocol.CallResult{
				Token: c.Token, Value: o.Payload, Err: o.Err, Repeatable: repeatable, Now: time.Now(),
			})
			return
		}
		ask.Reply(root, c.Reply, o.Payload, o.Err)
	}
	if !a.core.Known {
		answer(callosum.Outcome{Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Agent: a.core.ID, Method: c.Call.Method}})
		return
	}
	late := time.Since(c.At.Round(0))
	switch {
	case late <= protocol.CallTimeout:
	case c.From.ID == "": // whoever asks may ask again, if he is still there
		ask.Reply(root, c.Reply, &protocol.NotHere{}, nil)
		return
	default:
		answer(callosum.Outcome{Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Agent: a.core.ID, Method: c.Call.Method,
			Err: fmt.Errorf("it was asked for %s ago", late.Truncate(time.Millisecond))}})
		return
	}
	fence := c.Fence
	if !a.core.Fenced() {
		fence = callosum.Fence{} // official agents get frames exactly as the original sends them
	}
	a.svc.Agents.Call(a.peer(), c.Call, fence, c.Deadline, answer)
	failpoint.Hit(failpoint.AfterSend)
}

func (a *Actor) perform(effect outbox.Effect) {
	id := a.core.ID
	switch e := effect.(type) {
	case ToScheduler:
		state := e.State
		a.svc.Router.Send(cluster.Scheduler(e.ScalingGroup), &state)
	case Seen:
		a.svc.Live.Seen(id, e.At)
	case Images:
		a.svc.Live.Images(id, e.Images)
	case Forget:
		a.svc.Live.Forget(id)
	case Publish:
		if e.Name == "agent_started" {
			a.svc.Bus.Publish(event.AgentStarted{Reason: e.Reason}, id)
		} else {
			a.svc.Bus.Publish(event.AgentTerminated{Reason: e.Reason}, id)
		}
	case SlotTypes:
		a.work(func(ctx context.Context) error { return a.svc.Store.SlotTypes(ctx, e.Slots) }, "the agent's slot types were not stored")
	case Reconcile:
		a.work(a.reconcile, "the sessions of an agent that has come back were not asked about")
	case Answer:
		ask.Reply(a.ctx, e.To, nil, e.Err)
	case SetTimer:
		if a.timer != nil {
			a.timer.Stop()
		}
		self, root := a.ctx.Self(), a.svc.System.Root
		a.timer = time.AfterFunc(e.After, func() { root.Send(self, &protocol.Tick{Now: time.Now()}) })
	case Warn:
		a.svc.Log.Warn(e.Text, "agent", id)
	case Deposed:
		a.ctx.Send(a.ctx.Parent(), &protocol.LostShard{})
	}
}

func (a *Actor) work(f func(context.Context) error, failure string) {
	id := a.core.ID
	if !a.svc.Work.Go(func(ctx context.Context) {
		if err := f(ctx); err != nil {
			a.svc.Log.Warn(failure, "agent", id, "error", err)
		}
	}) {
		a.svc.Log.Warn(failure, "agent", id, "error", "too much work is waiting")
	}
}

func (a *Actor) reconcile(ctx context.Context) error {
	ids, err := a.svc.Store.SessionsOn(ctx, a.core.ID)
	for _, id := range ids {
		a.svc.Router.Send(cluster.Session(id), &protocol.Reconcile{})
	}
	return err
}

func isDeposed(err error) bool {
	return errors.Is(err, journal.ErrDeposed) || errors.Is(err, journal.ErrStopped)
}
