package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/session"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

const (
	// firstPause is the pause before a crashed actor's next life; it doubles up to maxPause.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	// quarantineAfter crashes within crashWindow move a session to ERROR.
	quarantineAfter = 5
	crashWindow     = 10 * time.Minute
	// maxStash bounds the messages kept for an actor between two lives.
	maxStash = 256
)

var errBusy = errors.New("too much work is waiting")

// crashes counts an actor's crashes within the window.
type crashes struct {
	n     int
	first time.Time
}

// crashed tells the shard that a child has panicked and was stopped.
type crashed struct {
	pid     *actor.PID
	reason  any
	message string
}

// departed tells the shard that everything a child had to give back has come.
type departed struct{ pid string }

// respawn is a step on the way to an actor's next life: the pause is over, or its rows are read.
type respawn struct {
	id   cluster.Identity
	rows []record.Kernel
	err  error
	read bool
}

// strategy tells the shard of a child that panics; the shard decides about its next life. The child's mailbox goes on:
// a session gives the messages in it back, so that nobody who waits for an answer is forgotten.
type strategy struct{ system *actor.ActorSystem }

// HandleFailure is called on the shard's goroutine.
func (s strategy) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	if shard, ok := supervisor.(actor.Context); ok {
		s.system.Root.Send(shard.Self(), &crashed{pid: child, reason: reason, message: inspector.TypeName(message)})
	}
	supervisor.ResumeChildren(child) // only now: what it gives back must come after the news of its crash
}

func (a *Actor) crashed(e *crashed) {
	id, ok := a.names[e.pid.Id]
	if !ok {
		return
	}
	a.svc.Log.Error("an actor has crashed", "actor", id, "shard", a.guard.Shard, "reason", e.reason, "message", e.message)
	if id.Kind == cluster.KindScheduler {
		a.ctx.Send(a.ctx.Parent(), &Reclaim{Shard: a.guard.Shard, Reason: fmt.Sprintf("the scheduler of %s has crashed", id.ID)})
		return
	}
	a.dying[e.pid.Id] = id
	a.forget(id)
	a.ctx.Poison(e.pid)
	now := time.Now()
	c := a.crashes[id]
	if c == nil || now.Sub(c.first) > crashWindow {
		c = &crashes{first: now}
		a.crashes[id] = c
	}
	c.n++
	a.stash[id] = []any{}
	if id.Kind == cluster.KindSession && c.n >= quarantineAfter {
		a.sick[id] = e // decided once its rows are read: it may be dead already
	}
	self, root := a.ctx.Self(), a.svc.System.Root
	time.AfterFunc(min(firstPause<<min(c.n-1, 10), maxPause), func() { root.Send(self, &respawn{id: id}) })
}

// bounced keeps a message that a crashed actor has given back.
func (a *Actor) bounced(b *protocol.Bounced) {
	if id, ok := a.dying[b.From.ID]; ok {
		a.deliver(id, b.Message)
	}
}

// respawn gives a crashed actor its next life, from its rows.
func (a *Actor) respawn(e *respawn) {
	if _, ok := a.stash[e.id]; !ok {
		return
	}
	switch {
	case e.id.Kind == cluster.KindAgent:
		// Its heartbeat brings back all there is to know within seconds.
		a.spawn(e.id, agent.Props(a.svc, a.guard, agent.New(e.id.ID, a.svc.HeartbeatTimeout)))
	case !e.read:
		if id, err := uuid.Parse(e.id.ID); err == nil {
			a.sessionRows(id)
		}
		return
	case e.err != nil:
		a.svc.Log.Warn("a crashed session's rows could not be read; trying again", "session", e.id.ID, "error", e.err)
		self, root := a.ctx.Self(), a.svc.System.Root
		time.AfterFunc(time.Second, func() { root.Send(self, &respawn{id: e.id}) })
		return
	case a.sick[e.id] != nil:
		sick := a.sick[e.id]
		delete(a.sick, e.id)
		if len(e.rows) > 0 && !e.rows[0].Status.IsDead() {
			a.quarantine(e.id, sick)
		}
		a.sessionRows(uuid.MustParse(e.id.ID)) // as they are then
		return
	case len(e.rows) > 0 && !allDead(e.rows):
		a.spawn(e.id, session.Props(a.svc, a.guard, e.rows, true))
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

// quarantine moves a session that crashes again and again to ERROR. Its next life only takes a destroy by force.
func (a *Actor) quarantine(id cluster.Identity, e *crashed) {
	sessionID, err := uuid.Parse(id.ID)
	if err != nil {
		return
	}
	reason := fmt.Sprintf("crashed %d times at %s", quarantineAfter, e.message)
	a.svc.Log.Error("a session is moved to ERROR", "session", id.ID, "reason", reason)
	doc, _ := json.Marshal(map[string]any{"error": map[string]any{"src": "other", "name": "ActorCrash", "repr": fmt.Sprint(e.reason)}})
	info, now := string(backendai.InfoOtherError(reason)), time.Now()
	patch := &record.KernelPatch{
		ID:   sessionID, // the main kernel's row stands for the session
		Mask: record.FieldStatus | record.FieldStatusInfo | record.FieldStatusData | record.FieldStatusChanged,
		Kernel: record.Kernel{
			Status: backendai.Failed, StatusInfo: &info, StatusData: doc, StatusChanged: &now,
		},
	}
	_ = a.svc.Journal.Submit(&journal.Entry{Guard: a.guard, Kernels: []*record.KernelPatch{patch}})
	delete(a.crashes, id)
}
