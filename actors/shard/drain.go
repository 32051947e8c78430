package shard

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
)

// drain lets every actor of the shard carry out what it has committed, and begin nothing new.
func (a *Actor) drain() {
	if a.draining != nil {
		return
	}
	a.draining = make(map[string]bool, len(a.children))
	for _, pid := range a.children {
		a.draining[pid.Id] = true
		a.ctx.Send(pid, &protocol.Drain{})
	}
	a.drained("")
}

// drained notes that an actor has nothing left to do, and tells the owner when none has.
func (a *Actor) drained(id string) {
	if a.draining == nil {
		return
	}
	delete(a.draining, id)
	if len(a.draining) == 0 {
		a.ctx.Send(a.ctx.Parent(), &protocol.Drained{ID: a.ctx.Self().Id})
	}
}

// NotHere tells whoever waits for a message's answer that its actor lives elsewhere and has not seen it.
func NotHere(svc *services.Services, msg any) {
	ask.Reply(svc.System.Root, protocol.Caller(msg), &protocol.NotHere{}, nil)
	if c, ok := msg.(*protocol.Call); ok && c.From.ID != "" {
		svc.System.Root.Send(actor.NewPID(c.From.Address, c.From.ID), &protocol.CallResult{Token: c.Token, Now: time.Now(),
			Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Method: c.Call.Method}})
	}
}
