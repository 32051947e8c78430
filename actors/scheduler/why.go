package scheduler

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol"
)

// Answer is what a question after a session's wait is answered with, as JSON.
type Answer struct {
	Explanation
	// Sentences say the reasons to people.
	Sentences []string `json:"sentences"`
	// Note tells that the scaling group's options are not those that were written; absent otherwise.
	Note string `json:"note,omitempty"`
	// Changes would each, alone, start the session now.
	Changes []ToldChange `json:"changes"`
}

// ToldChange is a change that says itself to people.
type ToldChange struct {
	Change
	Sentence string `json:"sentence"`
}

// answerOf completes an explanation with what would start the session now. c is a copy that nobody else uses.
func (c *Core) answerOf(e Explanation, now time.Time) ([]byte, error) {
	if at, basis, ok := c.Estimate(e.SessionID, now); ok {
		e.Estimate = estimated(at, basis)
	}
	return c.answer(e, told(c.Counterfactual(e.SessionID, now)))
}

// answer writes an explanation; lists that are empty are lists all the same.
func (c *Core) answer(e Explanation, changes []ToldChange) ([]byte, error) {
	e.Reasons = append([]Reason{}, e.Reasons...)
	return json.Marshal(Answer{Explanation: e, Sentences: append([]string{}, e.Sentences()...), Note: c.policyNote(), Changes: changes})
}

// why explains a session's wait. The changes are thought through on a copy, beside the scheduler's own work.
func (a *Actor) why(m *protocol.Why) {
	now := time.Now()
	var e Explanation
	var ok bool
	a.step(func() { e, ok = a.core.Explain(m.SessionID, now) })
	if !ok {
		ask.Reply(a.svc.System.Root, m.Reply, []byte(`null`), nil)
		return
	}
	if m.Brief {
		doc, err := a.core.answer(e, []ToldChange{})
		ask.Reply(a.svc.System.Root, m.Reply, doc, err)
		return
	}
	a.think(m.Reply, func(clone *Core) (any, error) { return clone.answerOf(e, now) })
}

// planSession thinks through what would come of a session that nobody has asked for yet.
func (a *Actor) planSession(m *protocol.PlanSession) {
	now := time.Now()
	a.think(m.Reply, func(clone *Core) (any, error) {
		plan, err := clone.PlanFor(m.Session, now)
		if err != nil {
			return nil, err
		}
		return asJSON(plan)
	})
}

// whatIf thinks changes through.
func (a *Actor) whatIf(m *protocol.WhatIf) {
	changes, err := ParseChanges(m.Changes)
	if err != nil {
		ask.Reply(a.svc.System.Root, m.Reply, nil, err)
		return
	}
	now := time.Now()
	a.think(m.Reply, func(clone *Core) (any, error) {
		d, err := clone.Differ(now, changes...)
		if err != nil {
			return nil, err
		}
		return asJSON(d)
	})
}

func asJSON(v any) (any, error) {
	doc, err := json.Marshal(v)
	return doc, err
}

// think answers with what a function makes of a copy of the state, on a worker.
func (a *Actor) think(to protocol.ReplyTo, about func(clone *Core) (any, error)) {
	root := a.svc.System.Root
	var clone *Core
	a.step(func() { clone = a.core.Clone() })
	if !a.svc.Work.Go(func(context.Context) {
		value, err := about(clone)
		ask.Reply(root, to, value, err)
	}) {
		ask.Reply(root, to, nil, errTooMuch)
	}
}

// question answers those messages that only want to know something; false if it is none. Nothing is kept for later while the rows are
// being read: whoever waits asks again.
func (a *Actor) question(msg any) bool {
	switch msg.(type) {
	case *protocol.Why, *protocol.WhyAfter, *protocol.PlanSession, *protocol.WhatIf, *protocol.SchedulerRecord:
	default:
		return false
	}
	if !a.loaded {
		ask.Reply(a.svc.System.Root, protocol.Caller(msg), nil, backendai.Errorf(backendai.ServiceUnavailable, "The scheduler of %s is reading its rows; try again.", a.core.Group))
		return true
	}
	switch m := msg.(type) {
	case *protocol.Why:
		a.why(m)
	case *protocol.WhyAfter:
		a.follow(m)
	case *protocol.PlanSession:
		a.planSession(m)
	case *protocol.WhatIf:
		a.whatIf(m)
	case *protocol.SchedulerRecord:
		a.sendRecord(m)
	}
	return true
}

var errTooMuch = backendai.Errorf(backendai.ServiceUnavailable, "Too much work is waiting; try again.")

// sendRecord sends the record of the last steps. It is written beside the scheduler's own work.
func (a *Actor) sendRecord(m *protocol.SchedulerRecord) {
	root := a.svc.System.Root
	if a.core.record == nil {
		ask.Reply(root, m.Reply, nil, backendai.Errorf(backendai.ObjectNotFound, "The schedulers keep no record; set scheduler-record in the table [actors] of manager.toml to a number of steps."))
		return
	}
	var recording Recording
	a.step(func() { recording = a.core.record.Recording() })
	if !a.svc.Work.Go(func(context.Context) {
		var doc bytes.Buffer
		packed := gzip.NewWriter(&doc)
		err := recording.Write(packed)
		if err == nil {
			err = packed.Close()
		}
		ask.Reply(root, m.Reply, doc.Bytes(), err)
	}) {
		ask.Reply(root, m.Reply, nil, errTooMuch)
	}
}
