package node

import (
	"context"
	"fmt"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

const (
	// patience is how long a caller waits for a shard without an owner; a lease of a dead node runs out within that time.
	patience = 20 * time.Second
	// settle is how long it may take until a node hears that a shard has moved, after another has refused a message for it.
	settle = 500 * time.Millisecond
	// lastAnswer is how long an answer may still come after the shard has moved, when the question must not be asked twice.
	lastAnswer = 5 * time.Second
)

// Ask sends an actor a message that carries a place to answer to, and waits for the answer or the end of ctx. When the actor's shard
// moves meanwhile, a message that is repeatable is sent again to its new owner, so that callers do not notice. One that is not is only sent
// when those who will handle it have just been heard of: what is lost then was on its way in the very moment in which a node was lost.
// Errors: ServiceUnavailable when nobody owns the actor's shard for too long, DeadlineExceeded, the answer's own.
func (n *Node) Ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error) {
	value, err := n.ask(ctx, to, message)
	if err == context.DeadlineExceeded {
		return nil, backendai.NewError(backendai.DeadlineExceeded).WithCause(fmt.Errorf("%s did not answer", to))
	}
	return value, err
}

func (n *Node) ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error) {
	begin := time.Now()
	delicate := n.members != nil && !protocol.Repeatable(message(protocol.ReplyTo{}))
	for again := false; ; again = true {
		var by <-chan struct{} // the twin of the agent that will do it moves
		if delicate {
			agent, err := n.reach(ctx, to)
			if err != nil {
				return nil, err
			}
			if agent != "" {
				by = n.svc.Router.Changed(cluster.Agent(agent))
			}
		}
		changed := n.svc.Router.Changed(to)
		o := n.askOnce(ctx, to, message, again, changed, by)
		if o.done {
			return o.value, o.err
		}
		if time.Since(begin) > patience {
			return nil, errMoving
		}
		select {
		case <-changed: // already, or now
		case <-time.After(o.pause):
			if o.err != nil { // refused, and the shard has not moved
				return nil, o.err
			}
		case <-n.stopping:
			return nil, errMoving
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reach waits until an actor, and the twin of the agent to which it would pass a call on, answer. It returns the agent, if there is one.
func (n *Node) reach(ctx context.Context, to cluster.Identity) (agent string, err error) {
	ask := func(id cluster.Identity) (string, error) {
		v, err := n.ask(ctx, id, func(r protocol.ReplyTo) any { return &protocol.Reach{Reply: r} })
		if err != nil {
			return "", err
		}
		here, _ := v.(*protocol.Reached)
		if here == nil {
			return "", nil
		}
		return here.Agent, nil
	}
	if agent, err = ask(to); err != nil || agent == "" || to.Kind == cluster.KindAgent || n.svc.Router.Here(cluster.Agent(agent)) {
		return agent, err
	}
	return ask(cluster.Agent(agent))
}

// outcome of one question: done with a value or an error; or to be asked again after a change, at the latest after the pause.
// An error that is not done counts when nothing changes.
type outcome struct {
	done  bool
	value any
	err   error
	pause time.Duration
}

func (n *Node) askOnce(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any, again bool, changed, by <-chan struct{}) outcome {
	call := n.desk.Begin()
	defer call.End()
	msg := message(call.To)
	if again {
		protocol.SayAgain(msg)
	}
	if !n.svc.Router.Send(to, msg) {
		return outcome{pause: patience}
	}
	repeatable := protocol.Repeatable(msg)
	var late <-chan time.Time
	for {
		select {
		case a := <-call.Answer:
			if _, ok := a.Value.(*protocol.NotHere); ok {
				return outcome{pause: settle}
			}
			if repeatable && backendai.CodeOf(a.Err) == backendai.ServiceUnavailable {
				return outcome{err: a.Err, pause: settle} // a deposed owner says that as well
			}
			return outcome{done: true, value: a.Value, err: a.Err}
		case <-changed:
			if repeatable {
				return outcome{}
			}
			changed, by, late = nil, nil, time.After(lastAnswer)
		case <-by:
			if !repeatable { // its answer may be lost with the node that had the link
				changed, by, late = nil, nil, time.After(lastAnswer)
			}
			by = nil
		case <-late:
			return outcome{done: true, err: errMoving}
		case <-n.stopping:
			return outcome{done: true, err: errMoving}
		case <-ctx.Done():
			return outcome{done: true, err: ctx.Err()}
		}
	}
}

var errMoving = backendai.Errorf(backendai.ServiceUnavailable, "The session is moving to another node; try again.")
