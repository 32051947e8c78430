package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// heldFor bounds how long what victims leave is kept for the session they have to go for. Then victims are chosen again.
const heldFor = endsWithin

// Preempt tells a session to go, for another.
type Preempt struct {
	SessionID uuid.UUID
	For       uuid.UUID
	Now       time.Time
}

func (Preempt) effect() {}

// hold keeps what is about to be freed for the session that others were told to make room for: nobody else gets it.
type hold struct {
	head    uuid.UUID
	victims []uuid.UUID
	leaving []uuid.UUID // the kernels that have to be gone: theirs, and what was leaving anyway
	kernels []protocol.KernelPlacement
	shares  map[string]backendai.ResourceSlots // by agent
	since   time.Time
	told    time.Time
}

func (h *hold) clone() *hold {
	if h == nil {
		return nil
	}
	n := *h // its lists never change
	return &n
}

// basis says of victims that they end now.
func (h *hold) basis(now time.Time) (list []EndsAt) {
	for _, id := range h.victims {
		list = append(list, EndsAt{id, now})
	}
	return list
}

// vain is a search for victims that has found none, and when it may be worth while again although nothing has changed.
type vain struct {
	head     uuid.UUID
	priority int
	bookings uint64
	again    time.Time
}

// preempt chooses who has to go for a session that fits nowhere, if anybody may have to. Not before those that were told last have gone, or
// have had their time; not when it is enough to wait for what ends anyway; and not when all who may be told would not be enough.
func (c *Core) preempt(policy policy, p *pending, now time.Time) (effects []Effect) {
	if c.held != nil {
		return nil
	}
	w := p.Wishes
	if v := c.vain; v.head == p.ID && v.priority == w.Priority && v.bookings == c.bookings && (v.again.IsZero() || now.Before(v.again)) {
		return nil
	}
	c.vain = vain{head: p.ID, priority: w.Priority, bookings: c.bookings}
	gone := make(map[string]backendai.ResourceSlots)
	var leaving []uuid.UUID
	for _, d := range c.leavingSoon(now) {
		for _, k := range d.kernels {
			gone[k.Agent] = gone[k.Agent].Add(k.Slots)
			leaving = append(leaving, k.KernelID)
		}
	}
	for _, since := range c.dismissed {
		if at := since.Add(endsWithin + 1); at.After(now) {
			c.vain.again = earliest(c.vain.again, at)
		}
	}
	for _, since := range c.leaving {
		if at := since.Add(endsWithin + 1); at.After(now) {
			c.vain.again = earliest(c.vain.again, at)
		}
	}
	if c.placeWithout(policy, p, nil, gone, now) != nil {
		return nil
	}
	candidates, again := c.victimsFor(w.Priority, now)
	c.vain.again = earliest(c.vain.again, again)
	var chosen *set
	if p.together() {
		if p.Kernels[0].Agent == "" {
			chosen = c.victimsTogether(p, candidates, gone)
		}
	} else {
		chosen = c.victimsEach(policy, p, candidates, gone, now)
	}
	if chosen == nil {
		return nil
	}
	placement := c.placeWithout(policy, p, chosen.list, gone, now)
	if placement == nil {
		return nil
	}
	h := &hold{head: p.ID, kernels: placement.Kernels, shares: sharesOf(p, placement.Kernels), leaving: leaving, since: now, told: now}
	for _, v := range chosen.list {
		h.victims = append(h.victims, v.session)
		c.dismissed[v.session] = now
		for _, k := range v.kernels {
			h.leaving = append(h.leaving, k.KernelID)
		}
		effects = append(effects, Preempt{SessionID: v.session, For: p.ID, Now: now})
	}
	c.held = h
	c.preempted += len(h.victims)
	return effects
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// heldClaims are what the hold needs of agents, beside what is still to be freed there.
func (c *Core) heldClaims() map[string]claim {
	claims := make(map[string]claim, len(c.held.shares))
	for id, share := range c.held.shares {
		claims[id] = claim{share: share}
	}
	for _, id := range c.held.leaving {
		a := c.allocs[id]
		if a == nil {
			continue
		}
		if cl, ok := claims[a.Agent]; ok {
			cl.freed = cl.freed.Add(a.Slots)
			claims[a.Agent] = cl
		}
	}
	return claims
}

// placeUnheld is place, but leaves alone what is held for another.
func (c *Core) placeUnheld(policy policy, p *pending, now time.Time) (placement *protocol.Placement, obstacle *obstacle) {
	if c.held == nil || c.held.head == p.ID {
		return c.place(policy, p, now)
	}
	c.besides(c.heldClaims(), func() { placement, obstacle = c.place(policy, p, now) })
	if obstacle == nil {
		return placement, nil
	}
	if _, without := c.place(quiet{policy}, p, now); without == nil {
		obstacle = delayOf(c.held.head, c.held.since.Add(heldFor))
	}
	return nil, obstacle
}

// release lets the hold go when it is over: the session it is for does not wait any more, its agents can't be used, or it has taken too
// long.
func (c *Core) release(now time.Time) {
	h := c.held
	p := c.byID[h.head]
	over := now.Sub(h.since) >= heldFor || p == nil || p.placing != nil
	for id := range h.shares {
		over = over || c.agents[id] == nil || !c.agents[id].candidate()
	}
	if over {
		c.held = nil
	}
}

// placeHeld places the session that others have made room for before anybody is looked at. It reports whether it did.
func (c *Core) placeHeld(now time.Time) (effects []Effect, err error) {
	if c.release(now); c.held == nil {
		return nil, nil
	}
	p := c.byID[c.held.head]
	policy, err := c.policyOf(now)
	if err != nil || len(c.evaluate(p, now).failed) > 0 {
		return nil, err
	}
	placement := &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now, Kernels: c.held.kernels}
	if !c.fitsAs(p, c.held.kernels) {
		var obstacle *obstacle
		if placement, obstacle = c.place(quiet{policy}, p, now); obstacle != nil {
			return nil, nil
		}
	}
	c.held = nil
	c.reserve(p, placement, now)
	return []Effect{Place{SessionID: p.ID, Placement: placement}}, nil
}

// tellAgain tells victims again that have not begun to go: messages can be lost. of picks whom.
func (c *Core) tellAgain(now time.Time, of func(uuid.UUID) bool) (effects []Effect) {
	h := c.held
	if h == nil {
		return nil
	}
	for _, id := range h.victims {
		if t := c.tenures[id]; t != nil && !t.ending && of(id) {
			effects = append(effects, Preempt{SessionID: id, For: h.head, Now: now})
		}
	}
	return effects
}

func (c *Core) preemptAgain(now time.Time) []Effect {
	if c.held == nil || now.Sub(c.held.told) < resendAfter || now.Sub(c.held.since) >= heldFor {
		return nil
	}
	h := c.held.clone()
	h.told = now
	c.held = h
	return c.tellAgain(now, func(uuid.UUID) bool { return true })
}

func (c *Core) preemptMoved(e *protocol.Moved, now time.Time) []Effect {
	return c.tellAgain(now, func(id uuid.UUID) bool { return e.Has(cluster.ShardOf(cluster.Session(id), e.Of)) })
}

// stillHere are the victims that have not gone yet.
func (c *Core) stillHere() (list []uuid.UUID) {
	left := make(map[uuid.UUID]bool)
	for _, id := range c.held.leaving {
		if a := c.allocs[id]; a != nil {
			left[a.SessionID] = true
		}
	}
	for _, id := range c.held.victims {
		if left[id] {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b uuid.UUID) int { return cmp.Compare(a.String(), b.String()) })
	return list
}
