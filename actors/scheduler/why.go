package scheduler

import (
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
	// Changes would each, alone, start the session now.
	Changes []ToldChange `json:"changes"`
}

// ToldChange is a change that says itself to people.
type ToldChange struct {
	Change
	Sentence string `json:"sentence"`
}

// why explains a session's wait. The changes are thought through on a copy, beside the scheduler's own work.
func (a *Actor) why(m *protocol.Why) {
	root := a.svc.System.Root
	if !a.loaded {
		ask.Reply(root, m.Reply, nil, backendai.Errorf(backendai.ServiceUnavailable, "The scheduler of %s is reading its rows; try again.", a.core.Group))
		return
	}
	now := time.Now()
	var e Explanation
	var ok bool
	var clone *Core
	a.step(func() {
		if e, ok = a.core.Explain(m.SessionID, now); ok {
			clone = a.core.Clone()
		}
	})
	if !ok {
		ask.Reply(root, m.Reply, []byte(`null`), nil)
		return
	}
	if !a.svc.Work.Go(func(context.Context) {
		answer := Answer{Explanation: e, Sentences: e.Sentences(), Changes: []ToldChange{}}
		if at, basis, ok := clone.Estimate(m.SessionID, now); ok {
			answer.Estimate = estimated(at, basis)
		}
		for _, ch := range clone.Counterfactual(m.SessionID, now) {
			answer.Changes = append(answer.Changes, ToldChange{ch, ch.Sentence()})
		}
		doc, err := json.Marshal(answer)
		ask.Reply(root, m.Reply, doc, err)
	}) {
		ask.Reply(root, m.Reply, nil, backendai.Errorf(backendai.ServiceUnavailable, "Too much work is waiting; try again."))
	}
}
