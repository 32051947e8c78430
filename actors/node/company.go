package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol/wire"
	"backend.ai/manager/actors/shard"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cluster/transport"
)

// Transport carries frames to the nodes at other addresses, each at most once; package cluster/transport does it.
type Transport interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	// Address is where other nodes reach this one.
	Address() string
	// Send never waits.
	Send(address string, frame []byte)
	// Stats tells what was sent to each node.
	Stats() []transport.PeerStats
}

// Members is this process's place among the nodes; *membership.Membership is one.
type Members interface {
	shard.Claims
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	SetDraining(ctx context.Context, draining bool) error
	View() membership.View
	Healthy() bool
	// Suspect tells that the connection to the member at an address has broken.
	Suspect(address string)
}

// Company is what a node needs to be one of several.
type Company struct {
	// Transport makes the transport; received frames go to receive, from any goroutine, and the addresses of nodes to which the
	// connection breaks to broken.
	Transport func(system *actor.ActorSystem, receive func(frame []byte), broken func(address string)) (Transport, error)
	// Members makes the membership of the node at an address.
	Members func(address string, onView func(membership.View), onExpired func()) Members
	// JoinDelay is how long a member must have been there before shards move to it.
	JoinDelay time.Duration
}

// What a frame is for.
const (
	greeting  byte = 0 // nothing: it keeps the connection open, whose end tells of the other's
	toProcess byte = 1 // an actor, by the id of its PID: answers
	toShard   byte = 2 // an actor, by its identity: kind and id

	interrupted byte = 3 // the sender's address: what was on the way between it and the receiver may be lost
	resumed     byte = 4 // the sender's address: the answer to that
)

var errFrame = errors.New("node: a frame that no node of this version sends")

// pack makes a frame of a message and its address, which has as many parts as the kind says.
func pack(kind byte, msg any, address ...string) ([]byte, error) {
	scratch := frames.Get().(*[]byte)
	defer frames.Put(scratch)
	frame := append((*scratch)[:0], kind)
	for _, part := range address {
		frame = binary.AppendUvarint(frame, uint64(len(part)))
		frame = append(frame, part...)
	}
	frame, err := wire.Append(frame, msg)
	if err != nil {
		return nil, err
	}
	if cap(frame) <= scratchBytes {
		*scratch = frame
	}
	return slices.Clone(frame), nil
}

// scratchBytes bounds what is kept to make frames in, which grow while they are made; most are far smaller.
const scratchBytes = 16 << 10

var frames = sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }}

func unpack(frame []byte) (kind byte, msg any, address []string, err error) {
	if len(frame) == 0 || frame[0] != toProcess && frame[0] != toShard {
		return 0, nil, nil, errFrame
	}
	kind, rest := frame[0], frame[1:]
	for range kind {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			return 0, nil, nil, errFrame
		}
		address = append(address, string(rest[size:size+int(n)]))
		rest = rest[size+int(n):]
	}
	msg, err = wire.Decode(rest)
	return kind, msg, address, err
}

// receive takes a frame of another node to the actor it is for.
func (n *Node) receive(frame []byte) {
	if len(frame) == 1 && frame[0] == greeting {
		return
	}
	if len(frame) > 0 && (frame[0] == interrupted || frame[0] == resumed) {
		n.signed(frame[0], string(frame[1:]))
		return
	}
	kind, msg, address, err := unpack(frame)
	if err != nil {
		n.cfg.Log.Warn("a message of another node cannot be read", "error", err)
		return
	}
	if kind == toProcess {
		n.svc.System.Root.Send(actor.NewPID(n.svc.System.Address(), address[0]), msg)
		return
	}
	e := &cluster.Envelope{To: cluster.Identity{Kind: cluster.Kind(address[0]), ID: address[1]}, Message: msg}
	if !n.svc.Router.Deliver(e) {
		shard.NotHere(n.svc, msg)
	}
}

func (n *Node) send(to string, kind byte, msg any, address ...string) bool {
	frame, err := pack(kind, msg, address...)
	if err != nil {
		n.cfg.Log.Error("a message cannot be sent to another node", "error", err)
		return false
	}
	n.transport.Send(to, frame)
	return true
}

// forward sends an envelope to the node at an address.
func (n *Node) forward(to string, e *cluster.Envelope) bool {
	return n.send(to, toShard, e.Message, string(e.To.Kind), e.To.ID)
}

// stranger is the process of an actor on another node: what is sent to it goes there.
type stranger struct{ node *Node }

func (s stranger) SendUserMessage(pid *actor.PID, message any) {
	msg := actor.UnwrapEnvelopeMessage(message)
	if s.node.send(pid.Address, toProcess, msg, pid.Id) {
		return
	}
	if a, ok := msg.(*ask.Answer); ok && a.Err == nil { // whoever waits shall not wait for nothing
		err := backendai.Internal(fmt.Errorf("the answer %T can't be sent to another node", a.Value))
		s.node.send(pid.Address, toProcess, &ask.Answer{N: a.N, Err: err}, pid.Id)
	}
}

// System messages (watch, stop) stay inside a node: every actor is supervised where it lives.
func (stranger) SendSystemMessage(*actor.PID, any) {}
func (stranger) Stop(*actor.PID)                   {}

// greet opens a connection to every other node.
func (n *Node) greet(v membership.View) {
	for _, m := range v.Members {
		if m.ID != v.Self {
			n.transport.Send(m.Address, []byte{greeting})
		}
	}
}

// Draining makes the node give its shards to the others, and take none, until it is told otherwise.
// Errors: ServiceUnavailable.
func (n *Node) Draining(ctx context.Context, draining bool) error {
	if n.members == nil {
		return nil
	}
	return n.members.SetDraining(ctx, draining)
}

// Drain hands all shards over to the other nodes and returns when that is done, or when there is no other node.
func (n *Node) Drain(ctx context.Context) error {
	if n.members == nil {
		return nil
	}
	if err := n.Draining(ctx, true); err != nil {
		return err
	}
	for {
		o, err := n.Ownership(ctx)
		if err != nil {
			return err
		}
		if len(o.Epochs) == 0 && o.Pending == 0 || len(n.members.View().Eligible(time.Now(), 0)) == 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// View is the cluster as this node sees it; empty for a node that is alone.
func (n *Node) View() membership.View {
	if n.members == nil {
		return membership.View{}
	}
	return n.members.View()
}

// Peers tells how it stands with the messages to other nodes.
func (n *Node) Peers() []transport.PeerStats {
	if n.transport == nil {
		return nil
	}
	return n.transport.Stats()
}

// Healthy reports whether the node is a member and sees the others.
func (n *Node) Healthy() bool { return n.members == nil || n.members.Healthy() }
