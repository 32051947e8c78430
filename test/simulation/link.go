package simulation

import (
	"time"

	"backend.ai/manager/actors/agent/callosum"
)

// rpc plays callosum.Client.Call over a link that can break: a call may never arrive, arrive late although its caller was told that the
// connection broke, or be carried out while its answer is lost. done is called once.
func (w *World) rpc(p *process, agentID string, call callosum.Call, fence callosum.Fence, deadline time.Time, done func([]byte, error)) {
	a := w.agentOf(agentID)
	q := call.Args[0].(request)
	answered := false
	finish := func(d time.Duration, value []byte, err error) {
		if answered {
			return
		}
		w.after(d, p, func() {
			if !answered {
				answered = true
				done(value, err)
			}
		})
	}
	fail := func(d time.Duration, cause callosum.Cause, sent bool) {
		finish(d, nil, &callosum.LinkError{Cause: cause, Agent: agentID, Method: q.Kind, Sent: sent})
	}
	fail(deadline.Sub(w.time()), callosum.CauseDeadline, true)
	if a.down || w.cut(p, a) {
		fail(w.between(time.Second, 5*time.Second), callosum.CauseUnreachable, false)
		return
	}
	if w.chance(w.faults.rpcOverload) {
		fail(0, callosum.CauseOverloaded, false)
		return
	}
	arrive, life, back := w.between(100*time.Microsecond, 3*time.Millisecond), a.life, true
	switch {
	case w.chance(w.faults.rpcNeverArrives):
		w.log("  link %s–%s breaks before %s of %s arrives", p, a.id, q.Kind, w.name(q.Kernel))
		fail(w.between(0, time.Second), callosum.CauseDisconnected, true)
		return
	case w.chance(w.faults.rpcSilence):
		return // the deadline will tell
	case w.chance(w.faults.rpcLate):
		arrive = w.between(0, 6*time.Second)
		fail(w.between(0, time.Second), callosum.CauseDisconnected, true)
	case w.chance(w.faults.rpcAnswerLost):
		back = false
	}
	w.after(arrive, nil, func() {
		if a.down || a.life != life {
			fail(0, callosum.CauseDisconnected, true)
			return
		}
		a.serve(q, fence, func(value []byte, err error) {
			if a.life != life || !back {
				w.log("  the answer of %s to %s of %s is lost", a.id, q.Kind, w.name(q.Kernel))
				fail(w.between(0, 100*time.Millisecond), callosum.CauseDisconnected, true)
				return
			}
			finish(w.between(100*time.Microsecond, 3*time.Millisecond), value, err)
		})
		a.hangUp(life, func() { fail(0, callosum.CauseDisconnected, true) })
	})
}

// cut reports whether a manager cannot reach an agent at the moment.
func (w *World) cut(p *process, a *fakeAgent) bool { return a.cutFrom[p.node.name] > w.now }

func (w *World) agentOf(id string) *fakeAgent {
	for _, a := range w.agents {
		if a.id == id {
			return a
		}
	}
	panic("no agent " + id)
}
