package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

// client is one user who wants one session: creates it, perhaps waits, renames or restarts it, and ends it.
type client struct {
	w        *World
	n        int
	key      string
	group    string
	name     string
	kernels  int
	mode     backendai.ClusterMode
	kind     backendai.SessionType
	slots    backendai.ResourceSlots
	after    *client // a batch session that must have succeeded first
	session  uuid.UUID
	accepted bool
	tries    int
	forced   bool
	hold     time.Duration
}

var errTimeout = errors.New("no answer in time")

// ask sends a request through some process and calls then with its answer, or with an error when there is none in time.
func (w *World) ask(to cluster.Identity, message func(protocol.ReplyTo) any, then func(any, error)) {
	var alive []*process
	for _, n := range w.nodes {
		if !n.proc.dead {
			alive = append(alive, n.proc)
		}
	}
	done := false
	once := func(v any, err error) {
		if !done {
			done = true
			w.after(time.Millisecond, nil, func() { then(v, err) })
		}
	}
	w.after(callerPatience, nil, func() { once(nil, errTimeout) })
	if len(alive) == 0 {
		once(nil, errMoving)
		return
	}
	p := pick(w, alive)
	w.after(time.Millisecond, p, func() { p.ask(to, message, w.now, func() bool { return done }, once) })
}

const (
	callerPatience = 40 * time.Second
	askPatience    = 20 * time.Second
	askSettle      = 500 * time.Millisecond
	lastAnswer     = 5 * time.Second
)

var errMoving = backendai.NewError(backendai.ServiceUnavailable)

// ask mirrors actors/node's Ask: a repeatable message is sent again when its actor's shard moves. It looks every now and then whether it
// has, where the original is woken.
func (p *process) ask(to cluster.Identity, message func(protocol.ReplyTo) any, begin int64, over func() bool, then func(any, error)) {
	w := p.w
	shard := w.db.shardOf(to)
	here, there := p.shards[shard], p.views[shard]
	changed := func() bool { return p.shards[shard] != here || p.views[shard] != there }
	again := func(pause time.Duration, err error) {
		if time.Duration(w.now-begin) > askPatience {
			then(nil, errMoving)
			return
		}
		waited := time.Duration(0)
		var look func()
		look = func() {
			switch {
			case over():
			case changed():
				p.ask(to, message, begin, over, then)
			case waited >= pause && err != nil:
				then(nil, err)
			case waited >= pause:
				p.ask(to, message, begin, over, then)
			default:
				waited += 100 * time.Millisecond
				w.after(100*time.Millisecond, p, look)
			}
		}
		look()
	}
	p.asked++
	reply := protocol.ReplyTo{Address: p.address, N: p.asked}
	msg := message(reply)
	repeatable, answered := protocol.Repeatable(msg), false
	p.desk[reply.N] = func(v any, err error) {
		answered = true
		_, notHere := v.(*protocol.NotHere)
		switch {
		case notHere:
			again(askSettle, nil)
		case repeatable && err != nil && backendai.CodeOf(err) == backendai.ServiceUnavailable:
			again(askSettle, err)
		default:
			then(v, err)
		}
	}
	if !p.route(to, msg) {
		delete(p.desk, reply.N)
		again(askPatience, nil)
		return
	}
	var look func()
	look = func() {
		switch {
		case answered || over():
			delete(p.desk, reply.N)
		case changed() && repeatable:
			delete(p.desk, reply.N)
			again(0, nil)
		case changed():
			w.after(lastAnswer, p, func() {
				if !answered {
					delete(p.desk, reply.N)
					then(nil, errMoving)
				}
			})
		default:
			w.after(100*time.Millisecond, p, look)
		}
	}
	w.after(100*time.Millisecond, p, look)
}

func (c *client) start() {
	w := c.w
	if c.after != nil && !c.after.accepted {
		c.after = nil
	}
	c.tries++
	id := w.newID()
	c.session = id
	w.names[id] = fmt.Sprintf("s%d", c.n)
	if c.tries > 1 {
		w.names[id] = fmt.Sprintf("s%d.%d", c.n, c.tries)
	}
	now := w.time()
	var rows []*record.Kernel
	for i := range c.kernels {
		k := &record.Kernel{ID: id, SessionID: id, CreationID: "c", SessionName: c.name, SessionType: c.kind, ClusterMode: c.mode, ClusterSize: c.kernels,
			ClusterRole: backendai.MainRole, ClusterIdx: 1, ClusterHostname: "main1", ScalingGroup: c.group, DomainName: "default", AccessKey: c.key,
			Image: "img", Architecture: "x86_64", OccupiedSlots: c.slots, CreatedAt: now, Status: backendai.Pending}
		if i > 0 {
			k.ID, k.ClusterRole, k.ClusterIdx, k.ClusterHostname = w.newID(), "sub", i, fmt.Sprintf("sub%d", i)
			w.names[k.ID] = fmt.Sprintf("%s/%d", w.names[id], i)
		}
		rows = append(rows, k)
	}
	create := &protocol.Create{Kernels: rows, Launch: protocol.Launch{}, Scheduling: w.db.limits[c.key], Await: c.n%2 == 1}
	if c.after != nil {
		create.Dependencies = []protocol.Dependency{{ID: c.after.session, Name: c.after.name}}
	}
	w.log("client %d asks for %s", c.n, w.name(id))
	w.ask(cluster.Session(id), func(r protocol.ReplyTo) any {
		again := *create
		again.Reply = r
		return &again
	}, c.created)
}

func (c *client) created(v any, err error) {
	w := c.w
	switch {
	case err == nil:
		w.log("client %d: %s is accepted", c.n, w.name(c.session))
		c.accepted = true
		if w.db.sessions[c.session] == nil {
			w.violate("I4", "%s was accepted and has no rows", w.name(c.session))
		}
		c.live()
	case backendai.CodeOf(err) == backendai.SessionAlreadyExists && c.tries == 1:
		// somebody else has the name; that is all
	case backendai.CodeOf(err) == backendai.SessionAlreadyExists:
		if s := w.db.holder(c.key, c.name); s != nil { // an earlier try went through although its answer was lost
			c.session, c.accepted = s.id, true
			c.live()
		}
	case c.tries < 5 && !w.healed:
		w.after(w.between(100*time.Millisecond, 5*time.Second), nil, c.start)
	}
}

// live does something with the session, and ends it some time.
func (c *client) live() {
	w := c.w
	if w.rng.IntN(2) == 0 {
		w.ask(cluster.Session(c.session), func(r protocol.ReplyTo) any { return &protocol.AwaitStart{Reply: r} }, func(any, error) {})
	}
	if w.rng.IntN(3) == 0 {
		w.after(w.between(0, c.hold), nil, func() {
			name := fmt.Sprintf("renamed-%d", w.rng.IntN(4))
			w.ask(cluster.Session(c.session), func(r protocol.ReplyTo) any { return &protocol.Rename{Name: name, Reply: r} }, func(any, error) {})
		})
	}
	if w.rng.IntN(4) == 0 {
		w.after(w.between(0, c.hold), nil, func() {
			w.ask(cluster.Session(c.session), func(r protocol.ReplyTo) any { return &protocol.Restart{Now: w.time(), Reply: r} }, func(any, error) {})
		})
	}
	if w.rng.IntN(4) > 0 {
		w.after(c.hold, nil, c.end)
	}
}

// end destroys the session, again and again until there is none.
func (c *client) end() {
	w := c.w
	if w.healed {
		return // the last sweep does it
	}
	w.log("client %d destroys %s (forced: %v)", c.n, w.name(c.session), c.forced)
	w.destroy(c.session, c.forced, func(err error) {
		if err != nil && backendai.CodeOf(err) == backendai.SessionNotFound {
			return
		}
		w.after(w.between(time.Second, 20*time.Second), nil, c.end)
	})
}

func (w *World) destroy(session uuid.UUID, forced bool, then func(error)) {
	w.ask(cluster.Session(session), func(r protocol.ReplyTo) any {
		return &protocol.Destroy{Reason: "user-requested", Forced: forced, Now: w.time(), Reply: r}
	}, func(_ any, err error) { then(err) })
}
