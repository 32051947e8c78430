package session

import (
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
)

// limitAgain is when a session that could not be ended at its time limit (one of its kernels is in ERROR) is tried again.
const limitAgain = time.Minute

// wishes are what the session has asked of schedulers; what an older manager has let through says nothing.
func (c *Core) wishes() protocol.Wishes {
	w, _ := protocol.WishesOf(c.main().Row.ResourceOpts)
	return w
}

// settle tells the scheduler what a kernel that has become RUNNING really has, and since when it runs where that matters.
func (c *Core) settle(m *Member, e *protocol.KernelChanged) []outbox.Effect {
	if !e.Changed.IsZero() {
		since := e.Changed
		m.Row.StatusChanged = &since
	}
	msg := &protocol.Settle{KernelID: m.Row.ID, Slots: e.Occupied}
	if w := c.wishes(); m.Row.StatusChanged != nil && (w.TimeLimit > 0 || w.Preemptible) {
		msg.Since = *m.Row.StatusChanged
	}
	if m.Row.OccupiedSlots.Equal(e.Occupied) && msg.Since.IsZero() {
		return nil
	}
	m.Row.OccupiedSlots = e.Occupied
	return []outbox.Effect{ToScheduler{m.Row.ScalingGroup, msg}}
}

// runningSince is when the last of its kernels has become RUNNING, as their rows say; zero when none runs.
func (c *Core) runningSince() (since time.Time) {
	for _, m := range c.Members {
		switch m.Row.Status {
		case backendai.Running, backendai.Restarting:
			if t := m.Row.StatusChanged; t != nil && t.After(since) {
				since = *t
			}
		}
	}
	return since
}

// timeLimit sets the timer of a running session that has asked for a limit.
func (c *Core) timeLimit(now time.Time) []outbox.Effect {
	limit, since := c.wishes().TimeLimit, c.runningSince()
	if limit <= 0 || since.IsZero() {
		return nil
	}
	return []outbox.Effect{SetTimer{timerLimit, max(0, since.Add(limit).Sub(now))}}
}

// overLimit ends the session when it has run as long as it may.
func (c *Core) overLimit(now time.Time) []outbox.Effect {
	limit, since := c.wishes().TimeLimit, c.runningSince()
	if c.Phase != Running || limit <= 0 {
		return nil
	}
	if !since.IsZero() && now.Before(since.Add(limit)) { // the timer's clock is not the rows'
		return c.timeLimit(now)
	}
	effects := c.destroy(&protocol.Destroy{Reason: string(backendai.InfoTimeLimit), Now: now})
	if c.Phase == Running {
		return append(effects, SetTimer{timerLimit, limitAgain})
	}
	return effects
}

// preempt ends the session for one of a higher priority.
func (c *Core) preempt(e *protocol.Preempt) []outbox.Effect {
	if c.Phase != Running || !c.wishes().Preemptible {
		return nil
	}
	return c.destroy(&protocol.Destroy{Reason: string(backendai.InfoPreempted), Now: e.Now})
}
