package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// Envelope is what a shard actor gets for one of its actors.
type Envelope struct {
	To      Identity
	Message any
}

// Forward hands an envelope to the node at an address, without waiting. It reports whether it could be sent at all.
type Forward func(address string, e *Envelope) bool

// Router knows where each shard's actors live and brings messages to them.
type Router struct {
	system  *actor.ActorSystem
	forward Forward

	mu     sync.Mutex // serialises changes
	routes []atomic.Pointer[route]
}

// route is where a shard lives: here, on another node, or nowhere at the moment.
type route struct {
	local   *actor.PID
	node    string        // address of the node that owns it, as far as this one knows; "" if nobody does
	changed chan struct{} // closed when another route takes its place
}

// NewRouter makes a router for n shards that nobody owns yet. forward may be nil when there are no other nodes.
func NewRouter(system *actor.ActorSystem, n int, forward Forward) *Router {
	r := &Router{system: system, forward: forward, routes: make([]atomic.Pointer[route], n)}
	for i := range r.routes {
		r.routes[i].Store(&route{changed: make(chan struct{})})
	}
	return r
}

// Shards is the number of shards.
func (r *Router) Shards() int { return len(r.routes) }

// Set tells the router which actor supervises a shard here; nil when the shard is given up.
func (r *Router) Set(shard int32, pid *actor.PID) {
	r.change(shard, func(n *route) { n.local = pid })
}

// SetNode tells the router which other node owns a shard, "" when none does. While the shard lives here that does not count.
func (r *Router) SetNode(shard int32, address string) {
	r.change(shard, func(n *route) { n.node = address })
}

// Renew has everyone who waits for a change of a shard's route behave as if there was one: what was on the way may be lost.
func (r *Router) Renew(shard int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.routes[shard].Load()
	next := *old
	next.changed = make(chan struct{})
	r.routes[shard].Store(&next)
	close(old.changed)
}

func (r *Router) change(shard int32, f func(*route)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.routes[shard].Load()
	next := *old
	f(&next)
	if next == *old {
		return
	}
	next.changed = make(chan struct{})
	r.routes[shard].Store(&next)
	close(old.changed)
}

// Changed is closed when the shard of an actor moves, or gets or loses its owner, after this call.
func (r *Router) Changed(to Identity) <-chan struct{} {
	return r.routes[ShardOf(to, len(r.routes))].Load().changed
}

// Local is the actor that supervises a shard here, nil if it does not live here.
func (r *Router) Local(shard int32) *actor.PID { return r.routes[shard].Load().local }

// Node is the address of the other node that owns a shard, as far as this one knows; "" if none does.
func (r *Router) Node(shard int32) string { return r.routes[shard].Load().node }

// Here reports whether the shard of an actor lives on this node.
func (r *Router) Here(to Identity) bool {
	return r.routes[ShardOf(to, len(r.routes))].Load().local != nil
}

// Send brings a message to an actor by its shard, here or on another node, and reports whether someone owns the shard, as far as
// this node knows. It never blocks. A message to another node can be lost.
func (r *Router) Send(to Identity, msg any) bool {
	n := r.routes[ShardOf(to, len(r.routes))].Load()
	switch {
	case n.local != nil:
		r.system.Root.Send(n.local, &Envelope{To: to, Message: msg})
		return true
	case n.node != "" && r.forward != nil:
		return r.forward(n.node, &Envelope{To: to, Message: msg})
	}
	return false
}

// Deliver brings an envelope that has come from another node to its actor if the shard lives here, and reports whether it does.
func (r *Router) Deliver(e *Envelope) bool {
	local := r.routes[ShardOf(e.To, len(r.routes))].Load().local
	if local == nil {
		return false
	}
	r.system.Root.Send(local, e)
	return true
}
