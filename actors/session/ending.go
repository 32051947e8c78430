package session

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// destroy ends the session as spec/scheduling-lifecycle §12.1 has it. All members'
// statuses are checked before anything is changed.
func (c *Core) destroy(e *protocol.Destroy) []outbox.Effect {
	if c.Phase == Gone || c.all((*Member).dead) {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.NewError(backendai.SessionNotFound)}}
	}
	if c.Phase == Aborting || c.Phase == Ending && e.Again { // it ends already
		if e.Reply.Waits() {
			c.destroyTo = append(c.destroyTo, e.Reply)
		}
		return []outbox.Effect{SetTimer{timerDestroy, destroyWait}}
	}
	if c.Phase == Pending {
		return c.cancelPending(reasonOf(e), reasonOf(e), e.Now, e.Reply)
	}
	for _, m := range c.Members {
		if _, err := backendai.Destroy(m.Row.Status, e.Forced); err != nil {
			return []outbox.Effect{Answer{To: e.Reply, Err: err}}
		}
	}
	if e.Reply.Waits() {
		c.destroyTo = append(c.destroyTo, e.Reply)
	}
	c.Phase, c.reason = Ending, reasonOf(e)
	effects := []outbox.Effect{SetTimer{timerDestroy, destroyWait}}
	for _, m := range c.Members {
		if next, _ := backendai.Destroy(m.Row.Status, e.Forced); next == m.Row.Status {
			continue // dead already
		}
		effects = append(effects, TellKernel{m.Row.ID, &protocol.End{Reason: c.reason, Forced: e.Forced, Now: e.Now}})
	}
	return effects
}

func reasonOf(e *protocol.Destroy) string {
	switch {
	case e.Forced:
		return string(backendai.InfoForceTerminated)
	case e.Reason == "":
		return string(backendai.InfoUserRequested)
	}
	return e.Reason
}

// cancelPending ends a session that no agent has heard of. The event's reason and
// the rows' may be spelled differently (the original's time-out).
func (c *Core) cancelPending(info, reason string, now time.Time, reply protocol.ReplyTo) []outbox.Effect {
	if now.IsZero() {
		now = c.latest()
	}
	for _, m := range c.Members {
		m.Row.Status, m.Row.StatusInfo = backendai.Cancelled, text(info)
		m.Row.StatusChanged, m.Row.TerminatedAt = &now, &now
	}
	c.Phase = Gone
	effects := []outbox.Effect{
		c.patchAll(labelCancel, record.FieldStatus|record.FieldStatusInfo|record.FieldStatusChanged|record.FieldTerminatedAt),
		ToScheduler{c.main().Row.ScalingGroup, &protocol.Withdraw{SessionID: c.ID}},
	}
	for _, m := range c.Members {
		effects = append(effects, PublishKernel{Name: "kernel_cancelled", KernelID: m.Row.ID, Reason: reason})
	}
	effects = append(effects, Publish{Name: "session_cancelled", Reason: reason})
	effects = append(effects, c.neverSuccess()...)
	effects = append(effects, c.answerStart()...)
	return append(effects, Answer{To: reply, Value: &protocol.Destroyed{}}, Stop{})
}

// endOthers ends the members that still live after the main kernel has gone.
func (c *Core) endOthers(reason string, now time.Time) (effects []outbox.Effect) {
	for _, m := range c.Members {
		if next, err := backendai.Destroy(m.Row.Status, false); err == nil && next == backendai.Terminating {
			effects = append(effects, TellKernel{m.Row.ID, &protocol.End{Reason: reason, Now: now}})
		} else if next, err := backendai.Destroy(m.Row.Status, true); err == nil && next == backendai.Terminated && m.Row.Status != backendai.Terminating && !m.dead() {
			effects = append(effects, TellKernel{m.Row.ID, &protocol.End{Reason: reason, Forced: true, Now: now}})
		}
	}
	return effects
}

// answerDestroy answers those who wait for the end.
func (c *Core) answerDestroy() (effects []outbox.Effect) {
	for _, to := range c.destroyTo {
		effects = append(effects, Answer{To: to, Value: &protocol.Destroyed{Stats: c.main().Stats}})
	}
	c.destroyTo = nil
	return effects
}

// latest is a time for changes whose event brought none: the last one the rows know.
func (c *Core) latest() time.Time {
	t := c.main().Row.CreatedAt
	if s := c.main().Row.StatusChanged; s != nil && s.After(t) {
		t = *s
	}
	return t
}

func list(id uuid.UUID) []uuid.UUID { return []uuid.UUID{id} }
