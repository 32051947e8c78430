package simulation

import (
	"encoding/json"
	"errors"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/kernel"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

var errNetwork = errors.New("the network could not be made")

const answerGrace = 5 * time.Second

// kernelActor mirrors actors/kernel's Actor.
type kernelActor struct {
	p         *process
	session   *sessionActor
	box       *mailbox
	core      *kernel.Core
	recovered bool
	out       *outbox.Outbox
	start     *protocol.Start
	timers    map[string]*timer
	draining  bool
}

func newKernelActor(s *sessionActor, r record.Kernel, recovered bool) *kernelActor {
	k := &kernelActor{p: s.p, session: s, core: kernel.New(r), recovered: recovered, timers: make(map[string]*timer)}
	k.box = s.p.spawn("kernel-"+s.p.w.name(r.ID), k.receive, k.stopping, func(reason string) {
		// The supervision escalates: the session goes with its kernel, whose mailbox stays suspended.
		k.box.stopped = true
		s.box.crashed(reason)
	})
	k.out = outbox.New(s.p, s.shard.guard, k.box.send, k.perform)
	k.box.send(started{})
	return k
}

func (k *kernelActor) stopping() {
	delete(k.p.roster, k.core.Row.ID)
	for _, t := range k.timers {
		t.stop()
	}
}

func (k *kernelActor) receive(msg any) {
	switch msg := msg.(type) {
	case started:
		k.p.roster[k.core.Row.ID] = k.core.Row.SessionID
		if k.recovered {
			k.out.Add(k.core.Step(&kernel.Recover{Now: k.p.w.time()}))
		}
	case *outbox.Committed:
		if refused := k.out.Committed(msg); refused != nil {
			k.p.w.log("%s %s: rows refused at %s: %v", k.p, k.box.id, refused.Label, refused.Err)
			k.out.Add(k.core.Step(refused))
		}
		k.drained()
	case *protocol.Drain:
		k.draining = true
		k.drained()
	default:
		if k.draining { // the next owner will ask the agent
			return
		}
		switch msg := msg.(type) {
		case *protocol.Start:
			k.start = msg
		case *protocol.CallResult:
			if w := k.p.w; w.trace != nil {
				w.log("%s %s gets its answer: %v", k.p, w.name(k.core.Row.ID), msg.Err)
			}
		}
		k.out.Add(k.core.Step(msg))
	}
}

func (k *kernelActor) drained() {
	if k.draining && k.out.Idle() {
		k.session.box.send(drained{k.box})
	}
}

func (k *kernelActor) perform(effect outbox.Effect) {
	w := k.p.w
	switch e := effect.(type) {
	case kernel.Tell:
		e.Changed.Now = w.time()
		k.session.box.send(&e.Changed)
	case kernel.Call:
		k.call(e)
	case kernel.FetchStats:
		var stats json.RawMessage
		k.p.work([]func() error{func() error { stats = json.RawMessage(`{"cpu_used":1}`); return nil }}, func(error) {
			k.box.send(&kernel.Stats{Token: e.Token, Stats: stats, Now: w.time()})
		})
	case kernel.SetTimer:
		k.timer(e.Kind, e.After, &protocol.Tick{Kind: e.Kind})
	case kernel.Deposed:
		k.session.box.send(&protocol.LostShard{})
	case kernel.Crash:
		panic(crash{e.Reason})
	case kernel.Publish:
		// managers do not listen to their own events
	}
}

func (k *kernelActor) timer(kind string, after time.Duration, msg any) {
	k.timers[kind].stop()
	k.timers[kind] = k.box.later(after, func() any {
		if t, ok := msg.(*protocol.Tick); ok {
			t.Now = k.p.w.time()
		}
		return msg
	})
}

func (k *kernelActor) call(e kernel.Call) {
	r, w, g := &k.core.Row, k.p.w, k.session.shard.guard
	if r.Agent == nil {
		return
	}
	q := request{Kernel: r.ID, Session: r.SessionID, Reason: e.Reason, Suppress: e.Suppress, Guard: g}
	switch e.Kind {
	case kernel.CallCreate:
		if k.start == nil {
			return
		}
		q.Kind, q.Slots, q.Batch = createKernels, r.OccupiedSlots, k.start.Config.SessionType == "batch"
	case kernel.CallDestroy:
		q.Kind = destroyKernel
	case kernel.CallRestart:
		q.Kind = restartKernel
	case kernel.CallProbe:
		q.Kind = probeKernel
	}
	w.log("%s %s calls %s on %s (epoch %d)", k.p, w.name(r.ID), e.Kind, *r.Agent, g.Epoch)
	deadline := w.time().Add(e.Timeout)
	msg := &protocol.Call{Call: q.wire(), Deadline: deadline, Token: e.Token, From: k.box.ref(),
		Fence: callosum.Fence{Shard: uint32(g.Shard), Epoch: uint64(g.Epoch)}}
	lost := &protocol.CallResult{Token: e.Token, Now: deadline,
		Err: &callosum.LinkError{Cause: callosum.CauseDeadline, Agent: *r.Agent, Method: q.Kind, Sent: true}}
	k.timer("call", e.Timeout+answerGrace, lost)
	if !k.p.route(cluster.Agent(*r.Agent), msg) {
		k.box.send(&protocol.CallResult{Token: e.Token, Now: w.time(),
			Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Agent: *r.Agent, Method: q.Kind}})
	}
}
