package ask

import (
	"errors"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
)

// ErrNobody is the answer when no actor could take the message.
var ErrNobody = errors.New("ask: no actor to answer")

// Answer is what comes back.
type Answer struct {
	N     uint64
	Value any
	Err   error
}

// deskName is the name of every node's desk.
const deskName = "answers"

// Sender is anything that can send a message: an actor's context or the root context.
type Sender interface {
	Send(pid *actor.PID, message any)
}

// Reply sends the answer to whoever waits, if someone does.
func Reply(from Sender, to protocol.ReplyTo, value any, err error) {
	if to.Waits() {
		from.Send(actor.NewPID(to.Address, deskName), &Answer{N: to.N, Value: value, Err: err})
	}
}

// Desk hands out places to wait at.
type Desk struct {
	pid *actor.PID

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *Answer
}

// NewDesk spawns the node's desk.
func NewDesk(system *actor.ActorSystem, in *inspector.Inspector) (*Desk, error) {
	d := &Desk{waiting: make(map[uint64]chan *Answer)}
	pid, err := system.Root.SpawnNamed(in.Props(
		inspector.Identity{Kind: inspector.KindNode, ID: "answers", Shard: -1},
		func() actor.Actor { return d },
	), deskName)
	d.pid = pid
	return d, err
}

// Receive takes an answer to whoever still waits for it.
func (d *Desk) Receive(ctx actor.Context) {
	a, ok := ctx.Message().(*Answer)
	if !ok {
		return
	}
	d.mu.Lock()
	ch := d.waiting[a.N]
	delete(d.waiting, a.N)
	d.mu.Unlock()
	if ch != nil {
		ch <- a // has room for exactly this one
	}
}

// Facts tells how many callers wait.
func (d *Desk) Facts() map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return map[string]any{"waiting": len(d.waiting)}
}

// Call is one question and the place where its answer arrives.
type Call struct {
	// To is where the answer goes; it travels with the message.
	To protocol.ReplyTo
	// Answer gets the one answer.
	Answer <-chan *Answer
	desk   *Desk
}

// Begin opens a place to wait at; End closes it.
func (d *Desk) Begin() *Call {
	ch := make(chan *Answer, 1)
	d.mu.Lock()
	d.next++
	n := d.next
	d.waiting[n] = ch
	d.mu.Unlock()
	return &Call{To: protocol.ReplyTo{Address: d.pid.Address, N: n}, Answer: ch, desk: d}
}

// End stops waiting; an answer that comes later is dropped.
func (c *Call) End() {
	c.desk.mu.Lock()
	delete(c.desk.waiting, c.To.N)
	c.desk.mu.Unlock()
}
