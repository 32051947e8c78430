package cluster

import (
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// Envelope is what a shard actor gets for one of its actors.
type Envelope struct {
	To      Identity
	Message any
}

// Unroutable is asked of messages that carry a caller who waits: when no actor
// can take the message, the caller is told.
type Unroutable interface {
	NotDelivered(root *actor.RootContext)
}

// Router knows the shard actors of this node and brings messages to them.
type Router struct {
	system *actor.ActorSystem
	shards []atomic.Pointer[actor.PID]
}

// NewRouter makes a router for n shards that owns none yet.
func NewRouter(system *actor.ActorSystem, n int) *Router {
	return &Router{system: system, shards: make([]atomic.Pointer[actor.PID], n)}
}

// Shards is the number of shards.
func (r *Router) Shards() int { return len(r.shards) }

// Set tells the router which actor supervises a shard; nil when the shard is given up.
func (r *Router) Set(shard int32, pid *actor.PID) { r.shards[shard].Store(pid) }

// Send brings a message to an actor by its shard. It never blocks. A message for
// a shard that no one owns at the moment is refused to its caller.
func (r *Router) Send(to Identity, msg any) {
	pid := r.shards[ShardOf(to, len(r.shards))].Load()
	if pid == nil {
		if u, ok := msg.(Unroutable); ok {
			u.NotDelivered(r.system.Root)
		}
		return
	}
	r.system.Root.Send(pid, &Envelope{To: to, Message: msg})
}
