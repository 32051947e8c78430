package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// ChangeKind is a stable name of something that could be different.
type ChangeKind string

// What can be thought to be different. Each says which fields of Change tell more.
const (
	FewerSlots          ChangeKind = "fewer-slots"          // Session's containers each want To instead of From of Slot
	OtherArchitecture   ChangeKind = "other-architecture"   // Session's image is built for Architecture
	SessionEnds         ChangeKind = "session-ends"         // Sessions
	OthersWithdrawn     ChangeKind = "others-withdrawn"     // Sessions that wait and hold up others
	QuotaRaised         ChangeKind = "quota-raised"         // Scope, By; for concurrent sessions SessionsBy
	AccessGranted       ChangeKind = "access-granted"       // Scope (the scaling group), for Session; SessionType
	DependenciesSucceed ChangeKind = "dependencies-succeed" // Sessions
	TimePasses          ChangeKind = "time-passes"          // Until
	AgentSchedulable    ChangeKind = "agent-schedulable"    // Agent is alive and takes sessions
	AgentDrained        ChangeKind = "agent-drained"        // Agent takes no more sessions
	PolicyChosen        ChangeKind = "policy-chosen"        // Policy
	PriorityRaised      ChangeKind = "priority-raised"      // Session has Priority
	SessionAsked        ChangeKind = "session-asked"        // Request is enqueued
)

// Change is one thing that could be different.
type Change struct {
	Kind         ChangeKind               `json:"kind"`
	Session      uuid.UUID                `json:"session,omitzero"`
	Sessions     []uuid.UUID              `json:"sessions,omitempty"`
	Slot         backendai.SlotName       `json:"slot,omitempty"`
	From         *backendai.Decimal       `json:"from,omitempty"`
	To           *backendai.Decimal       `json:"to,omitempty"`
	Scope        *Scope                   `json:"scope,omitempty"`
	By           *backendai.ResourceSlots `json:"by,omitempty"`
	SessionsBy   int                      `json:"sessions_by,omitempty"`
	SessionType  backendai.SessionType    `json:"session_type,omitempty"`
	Architecture string                   `json:"architecture,omitempty"`
	Agent        string                   `json:"agent,omitempty"`
	Until        *time.Time               `json:"until,omitempty"`
	Policy       *protocol.Policy         `json:"policy,omitempty"`
	Priority     *int                     `json:"priority,omitempty"`
	Request      *protocol.PendingSession `json:"-"`
}

// Sentence says the change to people.
func (ch Change) Sentence() string {
	switch ch.Kind {
	case FewerSlots:
		return fmt.Sprintf("With %s=%s instead of %s per container.", ch.Slot, amountText(ch.Slot, *ch.To), amountText(ch.Slot, *ch.From))
	case OtherArchitecture:
		return fmt.Sprintf("With an image for %s.", ch.Architecture)
	case SessionEnds:
		return fmt.Sprintf("When session %s ends.", idList(ch.Sessions))
	case OthersWithdrawn:
		return fmt.Sprintf("When what holds it up is withdrawn: %s.", idList(ch.Sessions))
	case QuotaRaised:
		if ch.SessionsBy > 0 {
			return fmt.Sprintf("With %d more concurrent sessions for the %s %s.", ch.SessionsBy, ch.Scope.Kind, ch.Scope.Name)
		}
		var parts []string
		for name, amount := range ch.By.All() {
			parts = append(parts, fmt.Sprintf("%s=%s", name, amountText(name, amount)))
		}
		return fmt.Sprintf("With the quota of the %s %s raised by %s.", ch.Scope.Kind, ch.Scope.Name, strings.Join(parts, " "))
	case AccessGranted:
		return fmt.Sprintf("With access to the scaling group %s for sessions of type %s.", ch.Scope.Name, ch.SessionType)
	case DependenciesSucceed:
		return fmt.Sprintf("When this has succeeded: %s.", idList(ch.Sessions))
	case TimePasses:
		return fmt.Sprintf("At %s.", ch.Until.UTC().Format(time.RFC3339))
	case AgentSchedulable:
		return fmt.Sprintf("When agent %s is alive and schedulable.", ch.Agent)
	case AgentDrained:
		return fmt.Sprintf("When agent %s takes no more sessions.", ch.Agent)
	case PolicyChosen:
		return fmt.Sprintf("Under the policy %s.", ch.Policy.Name)
	case PriorityRaised:
		return fmt.Sprintf("With priority %d.", *ch.Priority)
	case SessionAsked:
		return fmt.Sprintf("When session %s is asked for.", ch.Request.ID)
	}
	return string(ch.Kind)
}

func idList(ids []uuid.UUID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, ", ")
}

// Plan is what a pass would make of a changed state.
type Plan struct {
	At         time.Time            `json:"at"`
	Placements []protocol.Placement `json:"placements"`
	core       *Core
}

// Places tells whether a session would start.
func (p Plan) Places(id uuid.UUID) bool {
	return slices.ContainsFunc(p.Placements, func(placement protocol.Placement) bool { return placement.SessionID == id })
}

// Explain tells why a session would still wait after the pass.
func (p Plan) Explain(id uuid.UUID) (Explanation, bool) { return p.core.Explain(id, p.At) }

// WhatIf thinks changes through: the placements that the next pass would make if all of them came true. It is
// the real decision on a copied state, and nothing comes of it. Errors: as Pass.
func (c *Core) WhatIf(now time.Time, changes ...Change) (Plan, error) {
	d := c.Clone()
	for _, ch := range changes {
		now = d.alter(ch, now)
	}
	effects, err := d.Pass(now)
	plan := Plan{At: now, Placements: []protocol.Placement{}, core: d}
	for _, e := range effects {
		if e, ok := e.(Place); ok {
			plan.Placements = append(plan.Placements, *e.Placement)
		}
	}
	return plan, err
}

// alter makes a change come true, by the events that would tell of it; it returns the time then.
func (c *Core) alter(ch Change, now time.Time) time.Time {
	switch ch.Kind {
	case FewerSlots, OtherArchitecture:
		p := c.byID[ch.Session]
		if p == nil || p.placing != nil {
			return now
		}
		s := changedRequest(p.PendingSession, ch)
		c.Apply(&protocol.Withdraw{SessionID: s.ID}, now)
		c.Apply(&protocol.Enqueue{Session: s}, now)
	case SessionEnds:
		var kernels []uuid.UUID
		for id, a := range c.allocs {
			if slices.Contains(ch.Sessions, a.SessionID) {
				kernels = append(kernels, id)
			}
		}
		c.Apply(&protocol.Ending{KernelIDs: kernels}, now)
		c.Apply(&protocol.Release{KernelIDs: kernels}, now)
	case OthersWithdrawn:
		for _, id := range ch.Sessions {
			c.Apply(&protocol.Withdraw{SessionID: id}, now)
		}
	case QuotaRaised, AccessGranted:
		c.alterLimits(ch, now)
	case DependenciesSucceed:
		for _, id := range ch.Sessions {
			c.Apply(&protocol.DependencyDone{SessionID: id}, now)
		}
	case TimePasses:
		now = *ch.Until
		c.Apply(&protocol.Tick{Now: now}, now)
	case AgentSchedulable, AgentDrained:
		if a := c.agents[ch.Agent]; a != nil {
			s := a.AgentState
			if s.Schedulable = ch.Kind == AgentSchedulable; s.Schedulable {
				s.Alive = true
			}
			c.Apply(&s, now)
		}
	case PolicyChosen:
		c.understood = false // what is asked about is tried as it is: a scheduler that does not exist is an error
		c.Apply(&protocol.PolicyChanged{Policy: *ch.Policy}, now)
	case PriorityRaised:
		if p := c.byID[ch.Session]; p != nil {
			wishes := p.Wishes
			wishes.Priority = *ch.Priority
			c.Apply(&protocol.WishesChanged{SessionID: ch.Session, Wishes: wishes}, now)
		}
	case SessionAsked:
		c.Apply(&protocol.Enqueue{Session: *ch.Request}, now)
	}
	return now
}

// changedRequest is a session that asks for something else.
func changedRequest(s protocol.PendingSession, ch Change) protocol.PendingSession {
	s.Kernels = slices.Clone(s.Kernels)
	for i := range s.Kernels {
		k := &s.Kernels[i]
		switch ch.Kind {
		case FewerSlots:
			if k.Slots.Get(ch.Slot).Equal(*ch.From) {
				k.Slots = k.Slots.With(ch.Slot, *ch.To)
			}
		case OtherArchitecture:
			k.Architecture = ch.Architecture
		}
	}
	return s
}

// alterLimits raises a quota for all who share it, or grants access to one.
func (c *Core) alterLimits(ch Change, now time.Time) {
	var list []*pending
	c.queue.Ascend(func(p *pending) bool {
		if ch.Kind == AccessGranted && p.ID == ch.Session || ch.Kind == QuotaRaised && ch.Scope.binds(p) {
			list = append(list, p)
		}
		return true
	})
	for _, p := range list {
		l := p.Limits
		switch {
		case ch.Kind == AccessGranted:
			l.ScalingGroups = maps.Clone(l.ScalingGroups)
			if l.ScalingGroups == nil {
				l.ScalingGroups = make(map[string][]backendai.SessionType)
			}
			l.ScalingGroups[c.Group] = append(slices.Clone(l.ScalingGroups[c.Group]), ch.SessionType)
		case ch.SessionsBy > 0:
			if l.MaxConcurrentSessions > 0 {
				l.MaxConcurrentSessions += ch.SessionsBy
			}
		case ch.Scope.Kind == "keypair":
			l.Keypair = l.Keypair.Add(*ch.By)
		case ch.Scope.Kind == "group":
			l.Group = l.Group.Add(*ch.By)
		case ch.Scope.Kind == "domain":
			l.Domain = l.Domain.Add(*ch.By)
		}
		c.Apply(&protocol.LimitsChanged{SessionID: p.ID, Limits: l}, now)
	}
}

// binds tells whether the limit of a scope is one of a session's.
func (s *Scope) binds(p *pending) bool {
	switch s.Kind {
	case "keypair":
		return p.AccessKey == s.Name
	case "group":
		return p.GroupID.String() == s.Name
	case "domain":
		return p.DomainName == s.Name
	}
	return false
}
