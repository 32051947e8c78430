package kernel

import (
	"encoding/json"
	"errors"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

const terminatingData = `{"kernel":{"exit_code":null},"session":{"status":"terminating"}}`

// end takes the session's wish that the kernel go. The session has checked that the status allows it.
func (c *Core) end(e *protocol.End) []outbox.Effect {
	if e.Abort {
		return c.abort()
	}
	if c.Stage == Dead || c.Stage == Aborted {
		return nil
	}
	if c.Row.Status == backendai.Pending {
		// The session cancels a pending kernel itself: one that it ends is placed, as its rows say already, and still waits for its start.
		c.Row.Status = backendai.Preparing
	}
	next, err := backendai.Destroy(c.Row.Status, e.Forced)
	if err != nil {
		return nil // it has moved on since the session looked; what it became is reported
	}
	c.reason = e.Reason
	c.statToken++
	effects := []outbox.Effect{}
	switch next {
	case backendai.Terminating:
		c.moveTo(backendai.Terminating, text(e.Reason), e.Now)
		c.Row.StatusData = json.RawMessage(terminatingData)
		c.Stage = Ending
		effects = append(effects,
			c.patch("terminating", record.FieldStatus|record.FieldStatusInfo|record.FieldStatusData|record.FieldStatusChanged),
			Tell{c.changed()}, Publish{"kernel_terminating", e.Reason}, FetchStats{c.statToken})
		return append(effects, c.dispose()...)
	case backendai.Terminated: // by force: the row first, the agent when it can
		effects = append(effects, c.bury(string(backendai.InfoForceTerminated), nil, e.Now)...)
		effects = append(effects, Publish{"kernel_terminated", string(backendai.InfoForceTerminated)})
		if c.gone { // only its statistics were awaited
			return append(effects, c.freed()...)
		}
		return append(effects, c.dispose()...)
	}
	return nil
}

// abort removes the kernel of a session whose start has failed. Its row is the session's to write.
func (c *Core) abort() []outbox.Effect {
	switch c.Stage {
	case Aborting, Aborted, Dead:
		return nil
	case Idle: // never handed to an agent, as far as this actor knows
		if !c.uncertain {
			c.Stage = Aborted
			return c.freed()
		}
	}
	c.Stage = Aborting
	if c.gone { // it has ended by itself
		return c.disposed()
	}
	return c.dispose()
}

// dispose has the agent remove the kernel. While the agent is still creating it, a
// destroy could be answered "already terminated" and the creation go on, or never be
// answered at all (spec/agent-protocol §5.6): then the creation's end is awaited first.
func (c *Core) dispose() []outbox.Effect {
	c.recreate = false // a destroy that was to make room for a new creation is now for good
	if c.Row.Agent == nil {
		return c.disposed()
	}
	limit := SetTimer{timerAbort, abortTimeout}
	switch c.call.kind {
	case CallCreate, CallRestart:
		return []outbox.Effect{limit}
	case CallDestroy:
		return nil
	}
	c.attempts = 0
	return []outbox.Effect{c.destroyCall(c.Stage != Ending), limit}
}

func (c *Core) destroyCall(suppress bool) Call {
	call := c.send(CallDestroy, destroyTimeout)
	call.Suppress = suppress
	if call.Reason == "" {
		call.Reason = string(backendai.InfoFailedToStart)
	}
	return call
}

// destroyed takes the answer of destroy_kernel.
func (c *Core) destroyed(e *protocol.CallResult) []outbox.Effect {
	if c.recreate {
		if e.Err != nil && !isRemote(e.Err) {
			c.recreate = false
			return c.probeLater(e)
		}
		c.recreate, c.uncertain = false, false
		return []outbox.Effect{c.send(CallCreate, createTimeout)}
	}
	if e.Err != nil && !isRemote(e.Err) {
		c.attempts++
		return []outbox.Effect{SetTimer{timerRetry, backoff(c.attempts)}}
	}
	c.over = true
	if wait := c.lateUntil.Sub(e.Now); wait > 0 { // a create may come after this destroy
		return append(c.maybeBury(e.Now), SetTimer{timerRetry, wait})
	}
	// An exception is taken as an answer: whatever the agent stumbled over, asking again would not change it.
	return append(c.disposed(), c.maybeBury(e.Now)...)
}

// disposed notes that the agent no longer has the kernel.
func (c *Core) disposed() []outbox.Effect {
	if c.gone && c.Stage == Dead {
		return nil // said already
	}
	c.gone = true
	switch c.Stage {
	case Aborting:
		c.Stage = Aborted
		return c.freed()
	case Dead:
		return c.freed()
	}
	return nil
}

func (c *Core) freed() []outbox.Effect {
	ch := c.changed()
	ch.Freed, ch.Stats = true, c.stats
	return []outbox.Effect{Tell{ch}}
}

// statistics takes the last statistics of a kernel that ends.
func (c *Core) statistics(e *Stats) []outbox.Effect {
	if e.Token != c.statToken {
		return nil
	}
	c.stats, c.statsIn = e.Stats, true
	return c.maybeBury(e.Now)
}

// ended takes the news that the container has ended.
func (c *Core) ended(reason string, exit int, now time.Time) []outbox.Effect {
	c.over, c.goneExit = true, exit
	late := c.lateUntil.Sub(now)
	switch c.Stage {
	case Running:
		c.gone = late <= 0
		if c.Row.Status == backendai.Failed {
			c.reason = reason
		}
		c.Stage, c.reason = Ending, reason
		c.statToken++
		effects := []outbox.Effect{FetchStats{c.statToken}}
		if !c.gone {
			effects = append(effects, SetTimer{timerRetry, late})
		}
		return effects
	case Ending:
		c.gone = c.gone || late <= 0
		if c.reason == "" {
			c.reason = reason
		}
		return c.maybeBury(now)
	case Starting:
		if c.uncertain || c.recreate {
			return nil
		}
		c.call = inflight{} // its answer can only say the same, if it comes at all
		return c.startFails("other", "KernelTerminated", "the kernel has ended while it was being created ("+reason+")")
	case Aborting, Dead:
		if late <= 0 {
			c.call = inflight{}
			return c.disposed()
		}
	}
	return nil
}

// maybeBury writes the end when both the agent's word and the statistics are in.
func (c *Core) maybeBury(now time.Time) []outbox.Effect {
	if c.Stage != Ending || !c.over || !c.statsIn {
		return nil
	}
	exit := c.goneExit
	effects := c.bury(c.reason, &exit, now)
	if !c.gone {
		return effects
	}
	return append(effects, c.freed()...)
}

// bury writes the row's end. exit is nil when no agent has reported one.
func (c *Core) bury(reason string, exit *int, now time.Time) []outbox.Effect {
	if !c.moveTo(backendai.Terminated, text(reason), now) {
		return nil
	}
	c.Row.TerminatedAt = &now
	mask := record.FieldStatus | record.FieldStatusInfo | record.FieldStatusChanged | record.FieldTerminatedAt
	if doc := endData(c.Row.StatusData, exit, c.Alone); doc != nil {
		c.Row.StatusData = doc
		mask |= record.FieldStatusData
	}
	if c.stats != nil {
		c.Row.LastStat = c.stats
		mask |= record.FieldLastStat
	}
	c.Stage = Dead
	ch := c.changed()
	ch.Stats = c.stats
	return []outbox.Effect{c.patch("terminated", mask), Tell{ch}}
}

// endData merges the exit code, and for a lone kernel the session's end, into status_data (spec/scheduling-lifecycle §5.3).
func endData(old json.RawMessage, exit *int, alone bool) json.RawMessage {
	doc := make(map[string]map[string]any)
	if json.Unmarshal(old, &doc) != nil || doc == nil {
		doc = make(map[string]map[string]any)
	}
	set := func(section, key string, value any) {
		if doc[section] == nil {
			doc[section] = make(map[string]any)
		}
		doc[section][key] = value
	}
	if exit != nil {
		set("kernel", "exit_code", *exit)
	}
	if alone {
		set("session", "status", "terminated")
	}
	return toJSON(doc, `{}`)
}

func isRemote(err error) bool {
	var remote *callosum.RemoteError
	return errors.As(err, &remote)
}
