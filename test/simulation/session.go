package simulation

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/session"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

// sessionActor mirrors actors/session's Actor.
type sessionActor struct {
	p         *process
	shard     *shardActor
	box       *mailbox
	core      *session.Core
	recovered bool
	out       *outbox.Outbox
	kernels   map[uuid.UUID]*kernelActor
	timers    map[string]*timer
	draining  map[*mailbox]bool // kernels that have not answered Drain; nil while the shard stays here
	broken    bool
}

func (a *sessionActor) mail() *mailbox { return a.box }

func (a *shardActor) spawnSession(rows []record.Kernel, recovered bool) child {
	s := &sessionActor{p: a.p, shard: a, core: session.New(rows), recovered: recovered,
		kernels: make(map[uuid.UUID]*kernelActor), timers: make(map[string]*timer)}
	s.box = a.p.spawn("session-"+a.p.w.name(rows[0].SessionID), s.receive, s.stopping, nil)
	failed := a.failed(s.box)
	s.box.crashed = func(reason string) {
		s.broken = true
		failed(reason)
	}
	s.out = outbox.New(a.p, a.guard, s.box.send, s.perform)
	return a.add(cluster.Session(rows[0].SessionID), s)
}

func (a *sessionActor) stopping() {
	for _, t := range a.timers {
		t.stop()
	}
	for _, b := range a.sorted() {
		b.stop()
	}
	a.shard.box.send(&departed{a.box})
}

func (a *sessionActor) sorted() (boxes []*mailbox) {
	for _, k := range a.kernels {
		boxes = append(boxes, k.box)
	}
	return inOrder(boxes)
}

func (a *sessionActor) receive(msg any) {
	if a.broken {
		switch msg.(type) {
		case started, *outbox.Committed, *protocol.KernelChanged, *protocol.Tick, *session.Prepared, *session.PendingLoaded:
		default:
			a.shard.box.send(&bounced{a.box, msg})
		}
		return
	}
	switch msg := msg.(type) {
	case started:
		if a.recovered {
			a.out.Add(a.core.Step(&session.Recover{Now: a.p.w.time()}))
		}
	case poke:
		panic(crash{"poked"})
	case *outbox.Committed:
		if refused := a.out.Committed(msg); refused != nil {
			a.p.w.log("%s %s: rows refused at %s: %v", a.p, a.box.id, refused.Label, refused.Err)
			a.out.Add(a.core.Step(refused))
		}
		a.drained(nil)
	case *protocol.Drain:
		if a.draining == nil {
			a.draining = make(map[*mailbox]bool)
			for _, b := range a.sorted() {
				a.draining[b] = true
				b.send(msg)
			}
			a.drained(nil)
		}
	case drained:
		a.drained(msg.box)
	case *protocol.Moved:
		for _, b := range a.sorted() {
			b.send(msg)
		}
		a.out.Add(a.core.Step(msg))
	default:
		if a.draining == nil || len(a.draining) > 0 { // what comes after is found out by the next owner
			a.out.Add(a.core.Step(msg))
		}
	}
}

func (a *sessionActor) drained(kernel *mailbox) {
	if a.draining == nil {
		return
	}
	delete(a.draining, kernel)
	if len(a.draining) == 0 && a.out.Idle() {
		a.shard.box.send(drained{a.box})
	}
}

// poke makes an actor crash, as a bug of its own would.
type poke struct{}

func (a *sessionActor) perform(effect outbox.Effect) {
	w := a.p.w
	switch e := effect.(type) {
	case session.SpawnKernel:
		a.spawn(e)
	case session.TellKernel:
		if k := a.kernels[e.KernelID]; k != nil {
			k.box.send(e.Message)
		}
	case session.ToScheduler:
		if w.trace != nil {
			w.log("%s %s tells scheduler %s %T", a.p, w.name(a.core.ID), e.ScalingGroup, e.Message)
		}
		a.p.route(cluster.Scheduler(e.ScalingGroup), e.Message)
	case session.ToAllSchedulers:
		a.p.work(nil, func(error) {
			for _, g := range w.db.groups {
				a.p.route(cluster.Scheduler(g), e.Message)
			}
		})
	case session.Answer:
		a.p.reply(e.To, e.Value, e.Err)
	case session.LoadPending:
		a.loadPending()
	case session.Prepare:
		a.prepare(e)
	case session.SetTimer:
		a.timers[e.Kind].stop()
		a.timers[e.Kind] = a.box.later(e.After, func() any { return &protocol.Tick{Kind: e.Kind, Now: w.time()} })
	case session.Renamed:
		a.core.RenameCommitted()
	case session.Stored:
		for _, to := range a.core.CreateCommitted() {
			a.p.reply(to, &protocol.Enqueued{SessionID: a.core.ID}, nil)
		}
	case session.Stop:
		a.shard.box.send(&session.Retire{SessionID: a.core.ID})
	case session.Deposed:
		a.shard.box.send(lostShard{})
	case session.Crash:
		panic(crash{e.Reason})
	case session.Forward:
		a.p.reply(e.Invoke.Reply, nil, backendai.NewError(backendai.ServiceUnavailable)) // nobody here asks for it
	case session.Publish, session.PublishKernel, session.Hook, session.RemoveNetwork:
		// seen by nobody here
	}
}

func (a *sessionActor) spawn(e session.SpawnKernel) {
	if a.kernels[e.Row.ID] == nil {
		a.kernels[e.Row.ID] = newKernelActor(a, e.Row, e.Recovered)
	}
}

func (a *sessionActor) loadPending() {
	db, key, id := a.p.w.db, a.core.Members[0].Row.AccessKey, a.core.ID
	loaded := &session.PendingLoaded{}
	a.p.work([]func() error{
		func() error { loaded.Limits = db.limits[key]; return nil },
		func() error { loaded.DependsOn = db.dependencies(id); return nil },
	}, func(err error) {
		if err != nil {
			a.box.later(time.Second, func() any { return &protocol.Requeue{} })
			return
		}
		a.box.send(loaded)
	})
}

// prepare reads the launch and makes a network; either may fail.
func (a *sessionActor) prepare(e session.Prepare) {
	w := a.p.w
	p := &session.Prepared{Launch: e.Launch}
	failed := func(text string) {
		p.Err = &protocol.StartFailure{Src: "other", Name: "LaunchError", Repr: text}
	}
	steps := []func() error{func() error {
		if p.Launch == nil {
			p.Launch = &protocol.Launch{}
		}
		return nil
	}}
	if e.Network != nil {
		steps = append(steps, func() error {
			if w.chance(w.faults.networkFails) {
				return errNetwork
			}
			p.Network = e.Network.Name
			return nil
		})
	}
	a.p.work(steps, func(err error) {
		if err != nil {
			failed(err.Error())
		}
		p.Now = w.time()
		a.box.send(p)
	})
}
