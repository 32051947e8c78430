package simulation

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// node is a place where manager processes run, one after the other.
type node struct {
	w     *World
	name  string
	proc  *process
	lives int
}

// process is one manager process: all that is lost when it is killed.
type process struct {
	w        *World
	node     *node
	address  string
	dead     bool
	paused   bool
	pausedAt int64
	deferred []event // what came while it was paused

	boxes   map[string]*mailbox
	spawned int
	shards  map[int32]*shardActor // what cluster.Router knows of this node
	views   []*process            // by shard: where membership says it is
	writers []*writer
	roster  map[uuid.UUID]uuid.UUID // kernels of the sessions here, and those that were looked up
	owner   *shardOwner
	viewDue bool  // news of the members are under way
	missed  bool  // news that it could not hear
	cutOff  int64 // it cannot reach etcd until then
	desk    map[uint64]func(any, error)
	asked   uint64
	lastNet map[*process]int64 // when the last message to a process arrives: a connection keeps the order
}

func (n *node) start() {
	n.lives++
	w := n.w
	p := &process{w: w, node: n, address: fmt.Sprintf("%s.%d", n.name, n.lives), boxes: make(map[string]*mailbox), shards: make(map[int32]*shardActor),
		views: make([]*process, len(w.db.epochs)), roster: make(map[uuid.UUID]uuid.UUID), desk: make(map[uint64]func(any, error)), lastNet: make(map[*process]int64)}
	for i := range journalWriters {
		p.writers = append(p.writers, &writer{p: p, n: i})
	}
	p.owner = newShardOwner(p)
	n.proc = p
	w.procs[p.address] = p
	w.log("%s starts", p.address)
	w.after(w.between(0, 200*time.Millisecond), p, p.beMember)
}

func (p *process) String() string { return p.address }

// kill ends the process at once; nothing of its memory is left.
func (p *process) kill() {
	p.w.log("%s is killed", p)
	p.dead, p.deferred = true, nil
}

func (p *process) pause() {
	p.w.log("%s is paused", p)
	p.paused, p.pausedAt = true, p.w.now
}

func (p *process) resume() {
	if p.dead || !p.paused {
		return
	}
	p.w.log("%s goes on after %v", p, time.Duration(p.w.now-p.pausedAt))
	p.paused = false
	for i, e := range p.deferred {
		p.w.after(time.Duration(i)*10*time.Microsecond, p, e.run)
	}
	p.deferred = nil
}

// mailbox is an actor's: one message at a time, in the order in which they came.
type mailbox struct {
	p       *process
	id      string
	n       int
	queue   []any
	busy    bool
	stopped bool
	receive func(any)
	// stopping is called once when the actor ends.
	stopping func()
	// crashed is called when receive has panicked.
	crashed func(reason string)
}

// poison ends an actor after what is in its mailbox.
type poison struct{}

// started is every actor's first message.
type started struct{}

// crash is what the shells panic with when their core gives up.
type crash struct{ reason string }

func (p *process) spawn(name string, receive func(any), stopping func(), crashed func(string)) *mailbox {
	p.spawned++
	b := &mailbox{p: p, id: fmt.Sprintf("%s#%d", name, p.spawned), n: p.spawned, receive: receive, stopping: stopping, crashed: crashed}
	p.boxes[b.id] = b
	return b
}

func (b *mailbox) ref() protocol.Ref { return protocol.Ref{Address: b.p.address, ID: b.id} }

// send puts a message into the mailbox of an actor of the same process.
func (b *mailbox) send(msg any) {
	if b.stopped || b.p.dead {
		return
	}
	b.queue = append(b.queue, msg)
	b.next()
}

func (b *mailbox) next() {
	if b.busy || b.stopped || len(b.queue) == 0 {
		return
	}
	b.busy = true
	w := b.p.w
	d := time.Duration(w.rng.Int64N(int64(300 * time.Microsecond)))
	if w.chance(w.faults.hiccup) {
		d += w.between(0, 200*time.Millisecond)
	}
	w.after(d, b.p, func() {
		b.busy = false
		if b.stopped || len(b.queue) == 0 {
			return
		}
		msg := b.queue[0]
		b.queue[0] = nil
		b.queue = b.queue[1:]
		if _, ok := msg.(poison); ok {
			b.end()
			return
		}
		b.handle(msg)
		b.next()
	})
}

// handle takes a crash of the actor as protoactor's supervision does. A panic that no core asked for is a bug.
func (b *mailbox) handle(msg any) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case crash:
			b.p.w.stats.Crashes++
			b.p.w.log("%s %s crashes: %s", b.p, b.id, r.reason)
			b.crashed(r.reason)
		default:
			b.p.w.violate("panic", "%s at %T: %v\n%s", b.id, msg, r, debug.Stack())
		}
	}()
	b.receive(msg)
}

// stop ends an actor before what is still in its mailbox.
func (b *mailbox) stop() {
	b.p.w.after(time.Duration(b.p.w.rng.Int64N(int64(200*time.Microsecond))), b.p, b.end)
}

func (b *mailbox) end() {
	if b.stopped {
		return
	}
	b.stopped, b.queue = true, nil
	delete(b.p.boxes, b.id)
	if b.stopping != nil {
		b.stopping()
	}
}

// later sends an actor a message after a while, as time.AfterFunc with Root.Send does.
func (b *mailbox) later(d time.Duration, msg func() any) *timer {
	t := &timer{}
	b.p.w.after(d, b.p, func() {
		if !t.off {
			t.off = true
			b.send(msg())
		}
	})
	return t
}

type timer struct{ off bool }

func (t *timer) stop() {
	if t != nil {
		t.off = true
	}
}

// route is cluster.Router.Send, for several nodes: to the shard's actor here, or to the node where membership says that it is.
func (p *process) route(to cluster.Identity, msg any) bool {
	shard := p.w.db.shardOf(to)
	if s := p.shards[shard]; s != nil {
		s.box.send(&cluster.Envelope{To: to, Message: msg})
		return true
	}
	q := p.views[shard]
	if q == nil || q == p {
		p.w.stats.Unowned++
		return false
	}
	_, call := msg.(*protocol.Call) // a twin takes two for two: nothing may double it
	p.toProcess(q, !call, func() {
		if s := q.shards[shard]; s != nil {
			s.box.send(&cluster.Envelope{To: to, Message: msg})
			return
		}
		q.notHere(msg)
	})
	return true
}

// notHere mirrors actors/shard's NotHere.
func (p *process) notHere(msg any) {
	p.w.stats.Lost++
	p.reply(protocol.Caller(msg), &protocol.NotHere{}, nil)
	if c, ok := msg.(*protocol.Call); ok && c.From.ID != "" {
		p.sendRef(c.From, &protocol.CallResult{Token: c.Token, Now: p.w.time(), Err: &callosum.LinkError{Cause: callosum.CauseUnreachable, Method: c.Call.Method}})
	}
}

// sendRef sends to an actor wherever it lives.
func (p *process) sendRef(to protocol.Ref, msg any) {
	q := p.w.procs[to.Address]
	if q == p {
		if b := p.boxes[to.ID]; b != nil {
			b.send(msg)
		}
		return
	}
	p.toProcess(q, true, func() {
		if b := q.boxes[to.ID]; b != nil {
			b.send(msg)
		}
	})
}

// toProcess is the network between managers: at most once in earnest, and twice when a batch is repeated.
func (p *process) toProcess(q *process, mayDouble bool, deliver func()) {
	w := p.w
	if q.dead || w.chance(w.faults.netLost) {
		w.stats.Lost++
		return
	}
	at := w.now + int64(w.between(100*time.Microsecond, 3*time.Millisecond))
	if w.chance(w.faults.netLate) {
		at += int64(w.between(0, 5*time.Second))
	}
	if !w.chance(w.faults.netReorder) {
		at = max(at, p.lastNet[q]+1)
		p.lastNet[q] = at
	}
	w.after(time.Duration(at-w.now), q, deliver)
	if mayDouble && w.chance(w.faults.netTwice) {
		w.after(time.Duration(at-w.now)+w.between(0, time.Millisecond), q, deliver)
	}
}

// reply answers a caller at some node's desk.
func (p *process) reply(to protocol.ReplyTo, value any, err error) {
	if !to.Waits() {
		return
	}
	q := p.w.procs[to.Address]
	answer := func() {
		if f := q.desk[to.N]; f != nil {
			delete(q.desk, to.N)
			f(value, err)
		}
	}
	if q == p {
		p.w.after(50*time.Microsecond, p, answer)
		return
	}
	p.toProcess(q, true, answer)
}

var errAway = errors.New("the database is away")

// work is services.Workers: every step reads at a moment of its own, and the last result comes back later still.
func (p *process) work(steps []func() error, done func(error)) {
	w := p.w
	d := w.between(200*time.Microsecond, 4*time.Millisecond)
	if w.chance(w.faults.slowRead) {
		d += w.between(0, 3*time.Second)
	}
	w.after(d, p, func() {
		if w.db.away || w.chance(w.faults.readFails) {
			done(errAway)
			return
		}
		if len(steps) > 0 {
			if err := steps[0](); err != nil {
				done(err)
				return
			}
			if len(steps) > 1 {
				p.work(steps[1:], done)
				return
			}
		}
		w.after(w.between(0, time.Millisecond), p, func() { done(nil) })
	})
}
