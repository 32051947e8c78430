package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

const (
	// startsAtMost and waitsAtMost bound what is told of a what-if's sessions one by one.
	startsAtMost = 1000
	waitsAtMost  = 100
	// changesAtMost bounds the changes of one question.
	changesAtMost = 100
)

// KernelStart is where a container would run.
type KernelStart struct {
	KernelID uuid.UUID `json:"kernel_id"`
	Agent    string    `json:"agent"`
}

// Start is a session that would start.
type Start struct {
	SessionID uuid.UUID     `json:"session_id"`
	Name      string        `json:"name"`
	Kernels   []KernelStart `json:"kernels"`
}

// SessionPlan is what would come of a session if it were enqueued now: either its containers' places, or why it would wait and what
// would start it.
type SessionPlan struct {
	ScalingGroup string        `json:"scaling_group"`
	At           time.Time     `json:"at"`
	Starts       bool          `json:"starts"`
	Placements   []KernelStart `json:"placements"` // main first; empty when it would wait
	Reasons      []Reason      `json:"reasons"`
	Sentences    []string      `json:"sentences"`
	Changes      []ToldChange  `json:"changes"`
	Estimate     *Estimate     `json:"estimate,omitempty"` // when it would start, if it would wait and that is known
	Position     int           `json:"position,omitempty"` // if it would wait
	Waiting      int           `json:"waiting"`            // how many would wait after the pass
}

// PlanFor plans a session: the next pass, with all that wait already, is made on a copy in which it is enqueued. Nothing is changed.
// Errors: as Pass.
func (c *Core) PlanFor(s protocol.PendingSession, now time.Time) (SessionPlan, error) {
	asked := c.Clone()
	asked.alter(Change{Kind: SessionAsked, Request: &s}, now)
	plan, err := asked.WhatIf(now)
	answer := SessionPlan{ScalingGroup: c.Group, At: now, Starts: plan.Places(s.ID), Placements: []KernelStart{}, Reasons: []Reason{}, Sentences: []string{},
		Changes: []ToldChange{}, Waiting: plan.core.queue.Len()}
	if answer.Starts {
		at := slices.IndexFunc(plan.Placements, func(p protocol.Placement) bool { return p.SessionID == s.ID })
		answer.Placements = kernelStarts(plan.Placements[at])
		return answer, nil
	}
	if e, ok := plan.Explain(s.ID); ok {
		answer.Reasons, answer.Sentences, answer.Position = append(answer.Reasons, e.Reasons...), append(answer.Sentences, e.Sentences()...), e.Position
	}
	if err != nil { // an unknown policy, which the reasons name
		return answer, nil
	}
	if at, basis, ok := asked.Estimate(s.ID, now); ok {
		answer.Estimate = estimated(at, basis)
	}
	answer.Changes = told(asked.Counterfactual(s.ID, now))
	return answer, nil
}

func kernelStarts(p protocol.Placement) []KernelStart {
	list := make([]KernelStart, len(p.Kernels))
	for i, k := range p.Kernels {
		list[i] = KernelStart{k.KernelID, k.Agent}
	}
	return list
}

func told(changes []Change) []ToldChange {
	list := make([]ToldChange, len(changes))
	for i, ch := range changes {
		list[i] = ToldChange{ch, ch.Sentence()}
	}
	return list
}

// Difference compares the next pass, if some things were different, with the one that will be made.
type Difference struct {
	ScalingGroup string    `json:"scaling_group"`
	At           time.Time `json:"at"`
	Sentences    []string  `json:"sentences"` // what is thought to be different
	Starts       []Start   `json:"starts"`    // with the changes; the first thousand
	Starting     int       `json:"starting"`  // how many in all
	// StartsMore start with the changes and would not without them; StartsLess the other way round.
	StartsMore []uuid.UUID `json:"starts_more"`
	StartsLess []uuid.UUID `json:"starts_less"`
	// Waits are those that would wait, the oldest hundred; Waiting is how many in all.
	Waits   []Wait `json:"waits"`
	Waiting int    `json:"waiting"`
	// Drained are the agents that would take no more: what runs there stays.
	Drained []DrainedAgent `json:"drained"`
}

// Wait is a session that would wait, and why.
type Wait struct {
	SessionID uuid.UUID `json:"session_id"`
	Name      string    `json:"name"`
	Position  int       `json:"position"`
	Reasons   []Reason  `json:"reasons"`
	Sentences []string  `json:"sentences"`
}

// DrainedAgent is an agent that takes no more sessions, and the sessions on it.
type DrainedAgent struct {
	Agent    string      `json:"agent"`
	Sessions []uuid.UUID `json:"sessions"`
}

// Differ makes the next pass on two copies, with and without the changes. Nothing is changed. Errors: as Pass, of the changed state;
// InvalidArgument for an agent that the scaling group does not have.
func (c *Core) Differ(now time.Time, changes ...Change) (Difference, error) {
	d := Difference{ScalingGroup: c.Group, Sentences: []string{}, Starts: []Start{}, StartsMore: []uuid.UUID{}, StartsLess: []uuid.UUID{}, Waits: []Wait{}, Drained: []DrainedAgent{}}
	for i := range changes {
		ch := &changes[i]
		if ch.Kind == AccessGranted && ch.Scope == nil {
			ch.Scope = &Scope{"scaling-group", c.Group}
		}
		if ch.Agent != "" && c.agents[ch.Agent] == nil {
			return d, backendai.Errorf(backendai.InvalidArgument, "The scaling group %s has no agent %s.", c.Group, ch.Agent)
		}
		d.Sentences = append(d.Sentences, ch.Sentence())
		if ch.Kind == AgentDrained {
			stay := slices.DeleteFunc(c.sessionsOn(ch.Agent), func(id uuid.UUID) bool { return endsIn(changes, id) })
			d.Drained = append(d.Drained, DrainedAgent{ch.Agent, stay})
		}
	}
	before, _ := c.WhatIf(now) // under an unknown policy nothing starts
	after, err := c.WhatIf(now, changes...)
	if err != nil {
		return d, backendai.Errorf(backendai.InvalidArgument, "%v.", err)
	}
	d.At = after.At
	would := make(map[uuid.UUID]bool, len(before.Placements))
	for _, p := range before.Placements {
		would[p.SessionID] = true
	}
	for _, p := range after.Placements {
		d.Starting++
		if len(d.Starts) < startsAtMost {
			d.Starts = append(d.Starts, Start{p.SessionID, after.core.byID[p.SessionID].Name, kernelStarts(p)})
		}
		if !would[p.SessionID] {
			d.StartsMore = append(d.StartsMore, p.SessionID)
		}
		delete(would, p.SessionID)
	}
	for _, p := range before.Placements {
		if would[p.SessionID] {
			d.StartsLess = append(d.StartsLess, p.SessionID)
		}
	}
	d.Waiting = after.core.queue.Len()
	var first []*pending
	after.core.queue.Ascend(func(p *pending) bool {
		first = append(first, p)
		return len(first) < waitsAtMost
	})
	for _, p := range first {
		e, _ := after.Explain(p.ID)
		d.Waits = append(d.Waits, Wait{p.ID, p.Name, e.Position, append([]Reason{}, e.Reasons...), append([]string{}, e.Sentences()...)})
	}
	return d, nil
}

// endsIn tells whether a session ends by some changes.
func endsIn(changes []Change, id uuid.UUID) bool {
	return slices.ContainsFunc(changes, func(ch Change) bool { return ch.Kind == SessionEnds && slices.Contains(ch.Sessions, id) })
}

// sessionsOn lists the sessions with a container on an agent.
func (c *Core) sessionsOn(agent string) []uuid.UUID {
	on := make(map[uuid.UUID]bool)
	for _, a := range c.allocs {
		if a.Agent == agent {
			on[a.SessionID] = true
		}
	}
	return slices.AppendSeq([]uuid.UUID{}, sortedIDs(maps.Keys(on)))
}

// ChangeKinds are those that can be asked about.
var ChangeKinds = []ChangeKind{FewerSlots, OtherArchitecture, SessionEnds, OthersWithdrawn, QuotaRaised, AccessGranted, DependenciesSucceed, TimePasses,
	AgentSchedulable, AgentDrained, PolicyChosen, PriorityRaised}

// ParseChanges reads a list of changes as administrators write it, and checks that each says all that its kind needs.
// Errors: InvalidArgument.
func ParseChanges(raw []byte) ([]Change, error) {
	var list []Change
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "changes must be a list of objects with a kind, which is one of %s, and what it needs: %v.", kindNames(), err)
	}
	if len(list) > changesAtMost {
		return nil, backendai.Errorf(backendai.InvalidArgument, "At most %d changes can be thought of at a time.", changesAtMost)
	}
	for _, ch := range list {
		if err := ch.check(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func kindNames() string {
	var b []byte
	for i, k := range ChangeKinds {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, k...)
	}
	return string(b)
}

// check says what a change lacks.
func (ch Change) check() error {
	need := func(ok bool, what string) error {
		if ok {
			return nil
		}
		return backendai.Errorf(backendai.InvalidArgument, "A change of the kind %s needs %s.", ch.Kind, what)
	}
	scoped := func(kinds ...string) bool {
		return ch.Scope != nil && ch.Scope.Name != "" && slices.Contains(kinds, ch.Scope.Kind)
	}
	switch ch.Kind {
	case FewerSlots:
		return need(ch.Session != uuid.Nil && ch.Slot != "" && ch.From != nil && ch.To != nil && ch.To.IsFinite() && ch.To.Sign() >= 0, "session, slot, from and to")
	case OtherArchitecture:
		return need(ch.Session != uuid.Nil && ch.Architecture != "", "session and architecture")
	case SessionEnds, OthersWithdrawn, DependenciesSucceed:
		return need(len(ch.Sessions) > 0, "sessions")
	case QuotaRaised:
		return need(scoped("keypair", "group", "domain") && (ch.By != nil || ch.SessionsBy > 0 && ch.Scope.Kind == "keypair"),
			"scope (kind: keypair, group or domain; name) and by (slots), or, for a keypair, sessions_by")
	case AccessGranted:
		return need(ch.Session != uuid.Nil && ch.SessionType != "", "session and session_type")
	case TimePasses:
		return need(ch.Until != nil, "until (a time)")
	case AgentSchedulable, AgentDrained:
		return need(ch.Agent != "", "agent")
	case PolicyChosen:
		if ch.Policy != nil && !slices.Contains([]string{"", placeSpread, placePack}, ch.Policy.Options.Placement) {
			return need(false, "a policy whose placement is spread or pack")
		}
		return need(ch.Policy != nil && ch.Policy.Name != "", "policy (an object with a name)")
	case PriorityRaised:
		return need(ch.Session != uuid.Nil && ch.Priority != nil && *ch.Priority >= -protocol.MaxPriority && *ch.Priority <= protocol.MaxPriority,
			fmt.Sprintf("session and priority (from %d to %d)", -protocol.MaxPriority, protocol.MaxPriority))
	}
	return backendai.Errorf(backendai.InvalidArgument, "There is no change of the kind %s; the kinds are %s.", backendai.Repr(string(ch.Kind)), kindNames())
}
