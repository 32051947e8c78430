package scheduler

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol"
)

const (
	// followersAtMost bounds how many callers wait for another answer to why.
	followersAtMost = 1000
	// answersAtMost bounds how many of them are answered from one copy of the state.
	answersAtMost = 32
	// lookPause is the least time between two looks at what has changed: no caller hears more often.
	lookPause = 500 * time.Millisecond
	// lookTime is how long one look may take, and lookShare how much longer the pause after it is at least: watching never takes
	// more than a small part of the scheduler's time, however many watch.
	lookTime  = 20 * time.Millisecond
	lookShare = 10
)

// followers are the callers who wait for the answer to why to become another.
//
//	WhyAfter ─▶ differs from what is known? ─ yes ─▶ ready ─▶ one copy of the state for some at once, on a worker ─▶ Told
//	                                        └ no ──▶ waiting ─▶ looked at again after something has happened
type followers struct {
	waiting []*follower // in the order in which they are looked at next
	ready   []*follower
	timer   bool   // a lookDue is on its way
	busy    bool   // a worker answers
	looked  uint64 // changes of the core at the last whole look
	behind  bool   // the last look was cut short
	took    time.Duration
}

type follower struct {
	session uuid.UUID
	known   string
	until   time.Time
	reply   protocol.ReplyTo
	now     Explanation // when it is ready
	mark    string
}

type (
	// lookDue is the message by which the followers are looked at; answered says that a worker is done with some, and that the next may
	// have theirs.
	lookDue  struct{}
	answered struct{}
)

// markOf is equal for explanations that say the same, in kinds and numbers. How often and when it was tried is no change.
func markOf(e Explanation) string {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(e.Reasons) // plain values: never fails
	var position [8]byte
	binary.BigEndian.PutUint64(position[:], uint64(e.Position))
	h.Write(position[:])
	return hex.EncodeToString(h.Sum(nil))
}

func (a *Actor) follow(m *protocol.WhyAfter) {
	f := &a.followers
	if len(f.waiting)+len(f.ready) >= followersAtMost {
		a.dropExpired(time.Now())
	}
	if len(f.waiting)+len(f.ready) >= followersAtMost {
		ask.Reply(a.svc.System.Root, m.Reply, nil, backendai.Errorf(backendai.Overloaded, "Too many wait to hear of the queue of %s.", a.core.Group))
		return
	}
	now := time.Now()
	one := &follower{session: m.SessionID, known: m.Known, until: now.Add(m.Patience), reply: m.Reply}
	if a.lookAt(one, now) {
		f.waiting = append(f.waiting, one)
		a.lookLater()
	}
	a.answerReady(now)
}

// lookAt tells whether a follower still waits.
func (a *Actor) lookAt(one *follower, now time.Time) bool {
	var e Explanation
	var ok bool
	a.step(func() { e, ok = a.core.Explain(one.session, now) })
	if !ok {
		ask.Reply(a.svc.System.Root, one.reply, nil, nil)
		return false
	}
	mark := markOf(e)
	switch {
	case mark != one.known:
		one.now, one.mark = e, mark
		a.followers.ready = append(a.followers.ready, one)
		return false
	case !now.Before(one.until):
		ask.Reply(a.svc.System.Root, one.reply, &protocol.Told{Mark: mark, Unchanged: true}, nil)
		return false
	}
	return true
}

// lookLater has the followers looked at when something has happened. A tick is something: none waits in vain for long.
func (a *Actor) lookLater() {
	f := &a.followers
	if f.timer || len(f.waiting) == 0 || f.looked == a.core.changes && !f.behind {
		return
	}
	f.timer = true
	self, root := a.ctx.Self(), a.svc.System.Root
	time.AfterFunc(max(lookPause, lookShare*f.took), func() { root.Send(self, &lookDue{}) })
}

func (a *Actor) look() {
	f := &a.followers
	f.timer, f.behind = false, false
	begin := time.Now()
	changes := a.core.changes
	var still []*follower
	for i, one := range f.waiting {
		if time.Since(begin) > lookTime {
			f.behind = true
			still = append(slices.Clone(f.waiting[i:]), still...) // those that were left out come first
			break
		}
		if a.lookAt(one, begin) {
			still = append(still, one)
		}
	}
	f.waiting, f.looked = still, changes
	f.took = time.Since(begin)
	a.answerReady(begin)
	a.lookLater()
}

// dropExpired answers those whose patience has ended.
func (a *Actor) dropExpired(now time.Time) {
	f := &a.followers
	f.waiting = slices.DeleteFunc(f.waiting, func(one *follower) bool {
		if now.Before(one.until) {
			return false
		}
		ask.Reply(a.svc.System.Root, one.reply, &protocol.Told{Mark: one.known, Unchanged: true}, nil)
		return true
	})
}

// answerReady completes the answers of some followers, all from one copy of the state.
func (a *Actor) answerReady(now time.Time) {
	f := &a.followers
	if f.busy || len(f.ready) == 0 {
		return
	}
	n := min(len(f.ready), answersAtMost)
	some := slices.Clone(f.ready[:n])
	f.ready = slices.Delete(f.ready, 0, n)
	begin := time.Now()
	self, root := a.ctx.Self(), a.svc.System.Root
	var clone *Core
	a.step(func() { clone = a.core.Clone() })
	pause := lookShare * time.Since(begin) // as much time for other things as for copies
	f.busy = true
	if a.svc.Work.Go(func(context.Context) {
		defer time.AfterFunc(pause, func() { root.Send(self, &answered{}) })
		for _, one := range some {
			doc, err := clone.answerOf(one.now, now)
			ask.Reply(root, one.reply, &protocol.Told{Mark: one.mark, Answer: doc}, err)
		}
	}) {
		return
	}
	for _, one := range some {
		ask.Reply(root, one.reply, nil, errTooMuch)
	}
	time.AfterFunc(lookPause, func() { root.Send(self, &answered{}) })
}
