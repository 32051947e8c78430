package simulation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/session"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

const (
	firstPause       = 100 * time.Millisecond
	maxPause         = 10 * time.Second
	quarantineAfter  = 5
	crashWindow      = 10 * time.Minute
	maxStash         = 256
	heartbeatTimeout = 60 * time.Second
)

// shardActor mirrors actors/shard's Actor: it spawns, passes messages on, and gives crashed actors their next life.
type shardActor struct {
	p        *process
	guard    journal.Guard
	box      *mailbox
	children map[cluster.Identity]child
	crashes  map[cluster.Identity]*crashCount
	sick     map[cluster.Identity]string // sessions that crash again and again, and why, until their rows are read
	stash    map[cluster.Identity][]any
	dying    map[*mailbox]cluster.Identity
	gaveUp   bool
	draining map[*mailbox]bool // actors that have not answered Drain yet; nil while the shard is not handed over
}

// child is an actor that the shard supervises.
type child interface{ mail() *mailbox }

type crashCount struct {
	n     int
	first time.Time
}

type crashedChild struct {
	box    *mailbox
	reason string
}

type bounced struct {
	from *mailbox
	msg  any
}

type departed struct{ box *mailbox }

type respawn struct {
	id   cluster.Identity
	rows []record.Kernel
	err  error
	read bool
}

type lostShard struct{}

func newShardActor(p *process, g journal.Guard, sessions [][]record.Kernel, agents []record.Agent, groups []string) *shardActor {
	a := &shardActor{p: p, guard: g, children: make(map[cluster.Identity]child), crashes: make(map[cluster.Identity]*crashCount), sick: make(map[cluster.Identity]string),
		stash: make(map[cluster.Identity][]any), dying: make(map[*mailbox]cluster.Identity)}
	a.box = p.spawn(fmt.Sprintf("shard-%d", g.Shard), a.receive, a.stopping, func(reason string) { p.owner.reclaim(g.Shard, "its actor has crashed: "+reason) })
	a.box.queue = append(a.box.queue, func() {
		for _, row := range agents {
			a.spawnTwin(agent.NewKnown(row, heartbeatTimeout))
		}
		for _, rows := range sessions {
			a.spawnSession(rows, true)
		}
		for _, group := range groups {
			a.spawnScheduler(group)
		}
	})
	a.box.next()
	return a
}

func (a *shardActor) stopping() {
	for _, b := range a.sorted() {
		b.stop()
	}
}

// sorted are the mailboxes of the children in the order in which they were made, not in that of a map.
func (a *shardActor) sorted() (boxes []*mailbox) {
	for _, c := range a.children {
		boxes = append(boxes, c.mail())
	}
	return inOrder(boxes)
}

func inOrder(boxes []*mailbox) []*mailbox {
	slices.SortFunc(boxes, func(a, b *mailbox) int { return a.n - b.n })
	return boxes
}

func (a *shardActor) receive(msg any) {
	switch msg := msg.(type) {
	case func():
		msg()
	case *cluster.Envelope:
		if a.draining != nil {
			a.p.notHere(msg.Message)
			return
		}
		a.deliver(msg.To, msg.Message)
	case *protocol.Moved:
		for _, b := range a.sorted() {
			b.send(msg)
		}
	case *protocol.Drain:
		if a.draining == nil {
			a.draining = make(map[*mailbox]bool)
			for _, b := range a.sorted() {
				a.draining[b] = true
				b.send(msg)
			}
			a.drained(nil)
		}
	case drained:
		a.drained(msg.box)
	case *session.Retire:
		id := cluster.Session(msg.SessionID)
		if c := a.children[id]; c != nil {
			delete(a.children, id)
			c.mail().send(poison{})
		}
	case *crashedChild:
		a.crashed(msg)
	case *bounced:
		if id, ok := a.dying[msg.from]; ok {
			a.deliver(id, msg.msg)
		}
	case *departed:
		a.drained(msg.box)
		delete(a.dying, msg.box)
	case *respawn:
		a.respawn(msg)
	case lostShard:
		if !a.gaveUp {
			a.gaveUp = true
			a.p.w.after(50*time.Microsecond, a.p, func() { a.p.owner.gaveUp(a.guard.Shard) })
		}
	}
}

func (a *shardActor) deliver(to cluster.Identity, msg any) {
	if waiting, ok := a.stash[to]; ok {
		if len(waiting) < maxStash {
			a.stash[to] = append(waiting, msg)
		} else {
			a.refuse(msg, backendai.NewError(backendai.ServiceUnavailable))
		}
		return
	}
	c := a.children[to]
	if c == nil {
		c = a.create(to, msg)
	}
	if e, ok := msg.(*protocol.AgentEvent); ok && c == nil && e.Misled(to.ID) {
		a.p.seek(e)
		return
	}
	if c == nil {
		a.refuse(msg, backendai.NewError(backendai.SessionNotFound))
		return
	}
	c.mail().send(msg)
}

func (a *shardActor) create(to cluster.Identity, msg any) child {
	switch to.Kind {
	case cluster.KindSession:
		c, ok := msg.(*protocol.Create)
		if !ok {
			return nil
		}
		rows := make([]record.Kernel, len(c.Kernels))
		for i, k := range c.Kernels {
			rows[i] = *k
		}
		return a.spawnSession(rows, false)
	case cluster.KindAgent:
		if _, ok := msg.(*protocol.AgentLeft); ok {
			return nil
		}
		return a.spawnTwin(agent.New(to.ID, heartbeatTimeout))
	case cluster.KindScheduler:
		return a.spawnScheduler(to.ID)
	}
	return nil
}

func (a *shardActor) refuse(msg any, err error) {
	a.p.reply(protocol.Caller(msg), nil, err)
	if c, ok := msg.(*protocol.Call); ok && c.From.ID != "" {
		a.p.sendRef(c.From, &protocol.CallResult{Token: c.Token, Err: err, Now: a.p.w.time()})
	}
	if p, ok := msg.(*protocol.Placement); ok && len(p.Kernels) > 0 {
		a.p.route(cluster.Scheduler(p.ScalingGroup), &protocol.Placed{SessionID: p.SessionID})
	}
}

// drained answers Drain.
type drained struct{ box *mailbox }

func (a *shardActor) drained(box *mailbox) {
	if a.draining == nil {
		return
	}
	delete(a.draining, box)
	if len(a.draining) == 0 {
		a.p.w.after(50*time.Microsecond, a.p, func() { a.p.owner.drained(a) })
	}
}

func (a *shardActor) add(id cluster.Identity, c child) child {
	a.children[id] = c
	c.mail().send(started{})
	return c
}

// failed is the supervision's news of a child that has crashed.
func (a *shardActor) failed(box *mailbox) func(string) {
	return func(reason string) { a.box.send(&crashedChild{box, reason}) }
}

func (a *shardActor) crashed(e *crashedChild) {
	var id cluster.Identity
	found := false
	for i, c := range a.children {
		if c.mail() == e.box {
			id, found = i, true
		}
	}
	if !found {
		return
	}
	w := a.p.w
	if id.Kind == cluster.KindScheduler {
		w.after(50*time.Microsecond, a.p, func() { a.p.owner.reclaim(a.guard.Shard, "its scheduler has crashed: "+e.reason) })
		return
	}
	if id.Kind == cluster.KindSession {
		if s := w.db.sessions[uuid.MustParse(id.ID)]; s != nil {
			s.crashed = true
		}
	}
	a.dying[e.box] = id
	delete(a.children, id)
	e.box.send(poison{})
	now := w.time()
	c := a.crashes[id]
	if c == nil || now.Sub(c.first) > crashWindow {
		c = &crashCount{first: now}
		a.crashes[id] = c
	}
	c.n++
	a.stash[id] = []any{}
	if id.Kind == cluster.KindSession && c.n >= quarantineAfter {
		a.sick[id] = e.reason // decided once its rows are read: it may be dead already, or be ending
	}
	a.box.later(min(firstPause<<min(c.n-1, 10), maxPause), func() any { return &respawn{id: id} })
}

func (a *shardActor) respawn(e *respawn) {
	if _, ok := a.stash[e.id]; !ok {
		return
	}
	switch {
	case e.id.Kind == cluster.KindAgent:
		a.spawnTwin(agent.New(e.id.ID, heartbeatTimeout))
	case !e.read:
		a.sessionRows(e.id)
		return
	case e.err != nil:
		a.box.later(time.Second, func() any { return &respawn{id: e.id} })
		return
	case a.sick[e.id] != "":
		reason := a.sick[e.id]
		delete(a.sick, e.id)
		if len(e.rows) > 0 && !e.rows[0].Status.IsDead() {
			a.quarantine(e.id, reason)
		}
		a.sessionRows(e.id) // as they are then
		return
	case len(e.rows) > 0 && !allDead(e.rows):
		a.spawnSession(e.rows, true)
	}
	waiting := a.stash[e.id]
	delete(a.stash, e.id)
	for _, msg := range waiting {
		a.deliver(e.id, msg)
	}
}

func allDead(rows []record.Kernel) bool {
	for i := range rows {
		if !rows[i].Status.IsDead() {
			return false
		}
	}
	return true
}

// sessionRows reads a session's rows once everything that its last life has submitted is in them.
func (a *shardActor) sessionRows(id cluster.Identity) {
	sid := uuid.MustParse(id.ID)
	_ = a.p.Submit(&journal.Entry{Guard: a.guard, Done: func(error) {
		var rows []record.Kernel
		a.p.work([]func() error{func() error {
			if s := a.p.w.db.sessions[sid]; s != nil {
				rows = s.copy()
			}
			return nil
		}}, func(err error) { a.box.send(&respawn{id: id, rows: rows, err: err, read: true}) })
	}})
}

// quarantine moves a session that crashes again and again to ERROR.
func (a *shardActor) quarantine(id cluster.Identity, reason string) {
	a.p.w.stats.Quarantined++
	doc, _ := json.Marshal(map[string]any{"error": map[string]any{"src": "other", "name": "ActorCrash", "repr": reason}})
	info, now := string(backendai.InfoOtherError("crashed")), a.p.w.time()
	patch := &record.KernelPatch{
		ID:     uuid.MustParse(id.ID),
		Mask:   record.FieldStatus | record.FieldStatusInfo | record.FieldStatusData | record.FieldStatusChanged,
		Kernel: record.Kernel{Status: backendai.Failed, StatusInfo: &info, StatusData: doc, StatusChanged: &now},
	}
	_ = a.p.Submit(&journal.Entry{Guard: a.guard, Kernels: []*record.KernelPatch{patch}})
	delete(a.crashes, id)
}
