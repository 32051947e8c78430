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

// Send brings a message to an actor by its shard and reports whether someone owns
// the shard at the moment. It never blocks.
func (r *Router) Send(to Identity, msg any) bool {
	pid := r.shards[ShardOf(to, len(r.shards))].Load()
	if pid == nil {
		return false
	}
	r.system.Root.Send(pid, &Envelope{To: to, Message: msg})
	return true
}
