package simulation

import (
	"github.com/google/uuid"

	"backend.ai/manager/actors/agent"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// twinActor mirrors actors/agent's Actor.
type twinActor struct {
	p     *process
	shard *shardActor
	box   *mailbox
	core  *agent.Core
	known bool
	out   *outbox.Outbox
	timer *timer

	draining bool
}

func (a *twinActor) mail() *mailbox { return a.box }

func (a *shardActor) spawnTwin(core *agent.Core) child {
	t := &twinActor{p: a.p, shard: a, core: core, known: core.Known}
	t.box = a.p.spawn("twin-"+core.ID, t.receive, func() { t.timer.stop() }, nil)
	t.box.crashed = a.failed(t.box)
	t.out = outbox.New(a.p, a.guard, t.box.send, t.perform)
	return a.add(cluster.Agent(core.ID), t)
}

func (t *twinActor) receive(msg any) {
	switch msg := msg.(type) {
	case started:
		if t.known {
			t.out.Add(t.core.Step(&agent.Recover{Now: t.p.w.time()}))
		}
	case poke:
		panic(crash{"poked"})
	case *outbox.Committed:
		if refused := t.out.Committed(msg); refused != nil {
			t.out.Add(t.core.Step(refused))
		}
		t.drained()
	case *protocol.Drain:
		t.draining = true
		t.drained()
	case *protocol.Call:
		t.call(msg)
	default:
		if !t.draining { // the agent's next heartbeat goes to the next owner
			t.out.Add(t.core.Step(msg))
		}
	}
}

func (t *twinActor) drained() {
	if t.draining && t.out.Idle() {
		t.shard.box.send(drained{t.box})
	}
}

func (t *twinActor) call(c *protocol.Call) {
	p, repeatable := t.p, t.core.Repeatable()
	answer := func(value []byte, err error) {
		if c.From.ID != "" {
			p.sendRef(c.From, &protocol.CallResult{Token: c.Token, Value: value, Err: err, Repeatable: repeatable, Now: p.w.time()})
		}
	}
	if !t.core.Known {
		answer(nil, &callosum.LinkError{Cause: callosum.CauseUnreachable, Agent: t.core.ID, Method: c.Call.Method})
		return
	}
	fence := c.Fence
	if !t.core.Fenced() {
		fence = callosum.Fence{}
	}
	q := c.Call.Args[0].(request)
	q.Via = t.shard.guard
	p.w.rpc(p, t.core.ID, q.wire(), fence, c.Deadline, answer)
}

func (t *twinActor) perform(effect outbox.Effect) {
	w, id := t.p.w, t.core.ID
	switch e := effect.(type) {
	case agent.ToScheduler:
		state := e.State
		t.p.route(cluster.Scheduler(e.ScalingGroup), &state)
	case agent.Publish: // the bus brings it back, and not only to this node
		if e.Name == "agent_terminated" {
			w.publish(busEvent{name: e.Name, agent: id, reason: e.Reason})
		}
	case agent.Reconcile:
		var ids []uuid.UUID
		t.p.work([]func() error{func() error { ids = w.db.sessionsOn(id); return nil }}, func(error) {
			for _, s := range ids {
				t.p.route(cluster.Session(s), &protocol.Reconcile{})
			}
		})
	case agent.Answer:
		t.p.reply(e.To, nil, e.Err)
	case agent.SetTimer:
		t.timer.stop()
		t.timer = t.box.later(e.After, func() any { return &protocol.Tick{Now: w.time()} })
	case agent.Warn:
		w.log("%s %s warns: %s", t.p, id, e.Text)
	case agent.Deposed:
		t.shard.box.send(lostShard{})
	case agent.Seen, agent.Images, agent.Forget, agent.SlotTypes:
		// volatile, seen by nobody here
	}
}
