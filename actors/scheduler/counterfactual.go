package scheduler

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

const (
	// triedAtMost bounds how many changed states are thought through for one question.
	triedAtMost = 100
	// triedEach bounds it for one kind of change.
	triedEach = 10
	// triedBehind bounds it where another comes first: then a change that helps is rare.
	triedBehind = 3
	// weighedAtMost bounds how many running sessions are looked at for one whose end would help.
	weighedAtMost = 5000
	// withdrawnAtMost is how many may have to be withdrawn for it still to be called a small change.
	withdrawnAtMost = 50
)

// Counterfactual lists the least changes of each kind of which any alone would start a waiting session in the next pass. Every one
// was tried: applied to a copy of the state, on which a pass then placed the session. Empty if there is none, or the session does not wait.
//
// It takes some copies of the state (Clone); where that is too long to hold up a scheduler, ask a Clone.
func (c *Core) Counterfactual(id uuid.UUID, now time.Time) []Change {
	p := c.byID[id]
	policy, err := c.policyOf(now)
	if p == nil || p.placing != nil || err != nil {
		return nil
	}
	s := &search{real: c, core: c.Clone(), now: now, left: triedAtMost}
	s.p = s.core.byID[id]
	s.policy = quiet{policy}
	reasons := s.core.evaluate(s.p, now).reasons
	for _, r := range reasons {
		s.liftPredicate(r)
	}
	if len(reasons) == 0 {
		s.first = s.p
		s.othersWithdrawn()
		s.priorityRaised()
	}
	s.fewerSlots()
	s.sessionEnds()
	if len(reasons) == 0 {
		s.agents()
		s.architectures()
	}
	return s.found
}

// search tries changes for one session.
type search struct {
	real   *Core // only copied
	core   *Core // a copy, in which this and that is changed for a moment
	p      *pending
	first  *pending // who has to fit first: whoever holds it up
	policy policy
	now    time.Time
	left   int
	found  []Change
}

// try keeps a change if the session starts by it.
func (s *search) try(ch Change) bool {
	if !s.starts(ch) {
		return false
	}
	s.found = append(s.found, ch)
	return true
}

// starts tells whether the session starts by a change.
func (s *search) starts(ch Change) bool {
	if s.left == 0 {
		return false
	}
	s.left--
	plan, err := s.real.WhatIf(s.now, ch)
	return err == nil && plan.Places(s.p.ID)
}

// fits tells whether a request passes the predicates and finds agents, as things are in the copy; a quick answer before a thorough one.
func (s *search) fits(p *pending) bool {
	clear(s.core.nowhere)
	if len(s.core.evaluate(p, s.now).reasons) > 0 {
		return false
	}
	_, obstacle := s.core.placeBehind(s.policy, p, s.now)
	return obstacle == nil
}

func (s *search) liftPredicate(r Reason) {
	switch r.Kind {
	case WaitsForStart:
		s.try(Change{Kind: TimePasses, Until: r.StartsAt})
	case WaitsForSlot:
		s.try(Change{Kind: QuotaRaised, Scope: r.Scope, SessionsBy: r.Sessions.Used + 1 - r.Sessions.Limit})
	case WaitsForDependency:
		if !r.Never {
			ch := Change{Kind: DependenciesSucceed}
			for _, d := range r.Dependencies {
				ch.Sessions = append(ch.Sessions, d.ID)
			}
			s.try(ch)
		}
	case WaitsForQuota:
		var by backendai.ResourceSlots
		for _, short := range r.Short {
			by = by.With(short.Slot, short.Missing)
		}
		s.try(Change{Kind: QuotaRaised, Scope: r.Scope, By: &by})
	case WaitsForAccess, WaitsForType:
		s.try(Change{Kind: AccessGranted, Session: s.p.ID, Scope: r.Scope, SessionType: s.p.Type})
	}
}

// othersWithdrawn finds those that, one after the other, hold the session up.
func (s *search) othersWithdrawn() {
	d := s.core.Clone()
	var gone []uuid.UUID
	for len(gone) <= withdrawnAtMost {
		if _, err := d.Pass(s.now); err != nil {
			return
		}
		if d.byID[s.p.ID] == nil {
			return // timed out
		}
		if d.byID[s.p.ID].placing != nil {
			break
		}
		if d.holdsUp == nil || !d.blocked || d.holdsUp.ID == s.p.ID {
			return
		}
		if len(gone) == 0 && !d.Policy.Options.Backfill { // with it, the others need not wait for the first
			s.first = s.core.byID[d.holdsUp.ID]
		}
		gone = append(gone, d.holdsUp.ID)
		d.withdraw(d.holdsUp.ID)
	}
	if len(gone) > 0 && len(gone) <= withdrawnAtMost {
		s.try(Change{Kind: OthersWithdrawn, Sessions: gone})
	}
}

// priorityRaised finds the least priority that would do. Only those matter that put it before somebody; the higher, the earlier it is
// looked at, and what finds a place earlier finds one now.
func (s *search) priorityRaised() {
	if !s.core.Policy.Options.Priority {
		return
	}
	list := s.core.priorities(s.p)
	change := func(i int) Change { return Change{Kind: PriorityRaised, Session: s.p.ID, Priority: &list[i]} }
	if len(list) == 0 || !s.starts(change(len(list)-1)) {
		return
	}
	least := sort.Search(len(list)-1, func(i int) bool { return s.starts(change(i)) })
	s.found = append(s.found, change(least))
}

// fewerSlots finds, for each slot, the largest amount with which it would start.
func (s *search) fewerSlots() {
	biggest := s.p.Kernels[0].Slots
	for _, k := range s.p.Kernels[1:] {
		biggest = larger(biggest, k.Slots)
	}
	for name, from := range biggest.All() {
		if from.Sign() <= 0 || !from.IsFinite() {
			continue
		}
		unit, steps, least := stepsOf(name, from)
		low, high := least-1, steps // low fits (or is none), high does not
		for high-low > 1 {
			middle := (low + high) / 2
			to := times(unit, middle)
			if s.fits(s.changed(Change{Kind: FewerSlots, Slot: name, From: &from, To: &to})) {
				low = middle
			} else {
				high = middle
			}
		}
		if low < least {
			continue
		}
		to := times(unit, low)
		s.try(Change{Kind: FewerSlots, Session: s.p.ID, Slot: name, From: &from, To: &to})
	}
}

// stepsOf is how an amount is made smaller: by whole ones, by thousandths if it is a fraction, sizes by MiB. steps is the first that is no
// less than the amount; least is the smallest that is worth anything (a container without processor or memory is not).
func stepsOf(name backendai.SlotName, amount backendai.Decimal) (unit backendai.Decimal, steps, least int64) {
	if name == backendai.CPU || name == backendai.Mem {
		least = 1
	}
	whole, _ := amount.Int64()
	switch {
	case backendai.GuessSlotType(name) == backendai.SlotBytes:
		const mib = 1 << 20
		return backendai.DecimalOf(mib), (whole + mib - 1) / mib, least
	case amount.Equal(backendai.DecimalOf(whole)):
		return backendai.DecimalOf(1), whole, least
	}
	v, _ := thousandths(amount)
	return backendai.DecimalScaled(1, 3), int64(v), least
}

// times is a whole multiple of a unit.
func times(unit backendai.Decimal, n int64) backendai.Decimal {
	return unit.Mul(backendai.DecimalOf(n)).Normalize()
}

// changed is the session as if it had asked for something else.
func (s *search) changed(ch Change) *pending {
	q := &pending{PendingSession: changedRequest(s.p.PendingSession, ch)}
	for _, k := range q.Kernels {
		q.requested = q.requested.Add(k.Slots)
	}
	return q
}

// sessionEnds finds the smallest running session whose end would do.
func (s *search) sessionEnds() {
	type candidate struct {
		id    uuid.UUID
		slots backendai.ResourceSlots
		share float64
	}
	byID := make(map[uuid.UUID]*candidate)
	var list []*candidate
	for _, a := range s.core.allocs {
		if s.core.byID[a.SessionID] != nil {
			continue // it has only just been placed
		}
		o := byID[a.SessionID]
		if o == nil {
			o = &candidate{id: a.SessionID}
			byID[a.SessionID] = o
			list = append(list, o)
		}
		o.slots = o.slots.Add(a.Slots)
	}
	total := s.core.index.capacity(s.core.agents, s.core.order)
	for _, o := range list {
		o.share = dominant(o.slots, total)
	}
	slices.SortFunc(list, func(a, b *candidate) int {
		if n := cmp.Compare(a.share, b.share); n != 0 {
			return n
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	who := s.waitsFor()
	kernels := make(map[uuid.UUID][]uuid.UUID)
	for i, o := range list {
		if i < weighedAtMost {
			kernels[o.id] = nil
		}
	}
	for id, a := range s.core.allocs {
		if list, ok := kernels[a.SessionID]; ok {
			kernels[a.SessionID] = append(list, id)
		}
	}
	tried := 0
	for _, o := range list[:min(len(list), weighedAtMost)] {
		if !s.fitsWithout(kernels[o.id], who) {
			continue
		}
		if s.try(Change{Kind: SessionEnds, Sessions: []uuid.UUID{o.id}}) {
			return
		}
		if tried++; tried == triedEach || tried == triedBehind && who != s.p {
			return
		}
	}
}

// fitsWithout tells whether a session would fit without some kernels. They are taken out of the copy for a moment.
func (s *search) fitsWithout(kernels []uuid.UUID, p *pending) bool {
	c := s.core
	for _, id := range kernels {
		a := c.allocs[id]
		if agent := c.agents[a.Agent]; agent != nil {
			c.occupy(agent, agent.Occupied.Sub(a.Slots))
		}
		if a.CountsForUser {
			s.count(id, true)
		}
	}
	fits := s.fits(p)
	for _, id := range kernels {
		a := c.allocs[id]
		if agent := c.agents[a.Agent]; agent != nil {
			c.occupy(agent, agent.Occupied.Add(a.Slots))
		}
		if a.CountsForUser {
			s.count(id, false)
		}
	}
	return fits
}

// count changes the usage of a kernel's owners without waking anybody.
func (s *search) count(kernel uuid.UUID, away bool) {
	c, a := s.core, s.core.allocs[kernel]
	sessions := 0
	if a.Main && away {
		sessions = -1
	} else if a.Main {
		sessions = 1
	}
	add(c.keys, a.AccessKey, a.Slots, sessions, away)
	add(c.groups, a.GroupID, a.Slots, sessions, away)
	add(c.domains, a.DomainName, a.Slots, sessions, away)
}

// agents finds one that would do if it could be used.
func (s *search) agents() {
	tried := 0
	for _, alive := range []bool{true, false} { // rather one that is only excluded than one that is gone
		for _, id := range s.core.order {
			a := s.core.agents[id]
			if a.candidate() || a.Alive != alive || !couldTake(a, s.waitsFor()) {
				continue
			}
			if s.try(Change{Kind: AgentSchedulable, Agent: id}) {
				return
			}
			if tried++; tried == triedEach {
				return
			}
		}
	}
}

// waitsFor is who has to fit first.
func (s *search) waitsFor() *pending {
	if s.first != nil {
		return s.first
	}
	return s.p
}

// couldTake tells whether an agent has room for a session, or for one of its containers where they may be spread.
func couldTake(a *Agent, p *pending) bool {
	if p.ClusterMode != backendai.MultiNode {
		return a.Architecture == p.Kernels[0].Architecture && p.requested.FitsIn(a.Available, a.Occupied)
	}
	return slices.ContainsFunc(p.Kernels, func(k protocol.PendingKernel) bool {
		return a.Architecture == k.Architecture && k.Slots.FitsIn(a.Available, a.Occupied)
	})
}

// architectures finds others for which the session would start.
func (s *search) architectures() {
	var others []string
	for arch, shelf := range s.core.index.archs {
		if shelf.candidates > 0 && arch != s.p.Kernels[0].Architecture {
			others = append(others, arch)
		}
	}
	slices.Sort(others)
	for _, arch := range others {
		s.try(Change{Kind: OtherArchitecture, Session: s.p.ID, Architecture: arch})
	}
}
