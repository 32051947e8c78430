package scheduler

import (
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
)

const (
	// backfilledAtMost bounds how many sessions behind the head one pass looks at.
	backfilledAtMost = 200
	// toldEvery is after how long a session behind the head that still can't start is told so again, as the original's timer would.
	toldEvery = 10 * time.Second
)

const textWouldDelay = "Starting it now would delay another session, for which resources are reserved."

// behind is what becomes of the others when the head of the queue fits nowhere: room is made for it by ending others, if it may, and
// those behind it start that can't delay it. Without the options, nothing.
func (c *Core) behind(policy policy, head *pending, now time.Time, lastTry string) (effects []Effect) {
	o := c.Policy.Options
	if o.Preemption {
		effects = c.preempt(policy, head, now)
	}
	if !o.Backfill {
		return effects
	}
	switch {
	case c.held == nil:
		c.reservation = c.reservationFor(policy, head, now, c.reservation)
	case c.held.head == head.ID:
		c.reservation = &reservation{head: head.ID, at: now, kernels: c.held.kernels, claims: c.heldClaims(), basis: c.held.basis(now)}
	default:
		c.reservation = nil // others are waited for: a minute at most
	}
	if c.reservation == nil {
		return effects
	}
	return append(effects, c.backfill(policy, head, now, lastTry)...)
}

// backfill starts sessions behind the head, in the policy's order, that fit now and can't delay it.
func (c *Core) backfill(policy policy, head *pending, now time.Time, lastTry string) (effects []Effect) {
	aside := []*pending{head}
	c.unready(head)
	for range backfilledAtMost {
		p := policy.pick(c)
		if p == nil {
			break
		}
		v := c.evaluate(p, now)
		if len(v.failed) > 0 {
			effects = append(effects, c.failed(p, v, now, lastTry))
			continue
		}
		placement, obstacle := c.beside(policy, head, p, now)
		if obstacle == nil {
			assign(policy, p)
			c.reserve(p, placement, now)
			c.reservation.passes(p, placement, now)
			c.backfilled++
			effects = append(effects, Place{SessionID: p.ID, Placement: placement})
			continue
		}
		if p.leads != nil {
			c.followUp(p)
		}
		again := p.found.at == 0 || !p.found.alike(finding{obstacle: obstacle}) || now.Sub(p.told.time()) >= toldEvery
		c.note(p, finding{at: momentOf(now), obstacle: obstacle})
		if again {
			p.told = momentOf(now)
			attempt := protocol.SchedulerData{LastTry: lastTry, Failed: v.failed, Passed: v.passed, Msg: obstacle.text}
			effects = append(effects, c.report(p, attempt, infoNoAgent, obstacle.kernel))
		}
		c.unready(p)
		aside = append(aside, p)
	}
	for _, p := range aside {
		c.ready(p)
	}
	return effects
}

// beside finds agents for a session behind the head such that the head is not delayed. Nothing is changed.
func (c *Core) beside(policy policy, head, p *pending, now time.Time) (*protocol.Placement, *obstacle) {
	policy = quiet{policy}
	r := c.reservation
	placement, obstacle := c.place(policy, p, now)
	switch {
	case obstacle != nil:
		return nil, obstacle
	case !c.leavesQuota(head, p):
	case r.outlasts(p, now), c.leaves(r.claims, p, placement.Kernels):
		return placement, nil
	default:
		c.besides(r.claims, func() { placement, obstacle = c.place(policy, p, now) })
		if obstacle == nil && c.leaves(r.claims, p, placement.Kernels) {
			return placement, nil
		}
	}
	return nil, delayOf(r.head, r.at)
}

// placeBehind is place for a session that is not necessarily first: it heeds what is held and reserved for others.
func (c *Core) placeBehind(policy policy, p *pending, now time.Time) (*protocol.Placement, *obstacle) {
	if h := c.holdsUp; c.blocked && c.reservation != nil && h != nil && h.ID != p.ID && h.ID == c.reservation.head {
		return c.beside(policy, h, p, now)
	}
	return c.placeUnheld(policy, p, now)
}

// reserved says what is reserved for a session, or whom it waits for.
func (c *Core) reserved(p *pending) (list []Reason) {
	if c.held != nil && c.held.head == p.ID {
		return []Reason{{Kind: WaitsForPreempted, Preempted: c.stillHere()}}
	}
	if r := c.reservation; r != nil && c.blocked && r.head == p.ID {
		list = append(list, Reason{Kind: HasReservation, Reserved: &Reserved{At: r.at, Agents: r.agents()}})
	}
	return list
}

// outlasts tells whether a session that starts now will have ended when the reservation is due.
func (r *reservation) outlasts(p *pending, now time.Time) bool {
	return p.Wishes.TimeLimit > 0 && !now.Add(p.Wishes.TimeLimit).After(r.at)
}

// passes takes note of a session that has started before the reservation's time: what it takes is free again by then, if it ends by then.
func (r *reservation) passes(p *pending, placement *protocol.Placement, now time.Time) {
	if !r.outlasts(p, now) {
		return
	}
	for id, share := range sharesOf(p, placement.Kernels) {
		if cl, ok := r.claims[id]; ok {
			cl.freed = cl.freed.Add(share)
			r.claims[id] = cl
		}
	}
}

// leavesQuota tells whether the head would still pass its quotas if a session started. Otherwise it would lose its turn, whenever that ends.
func (c *Core) leavesQuota(head, p *pending) bool {
	count := func(away bool) {
		sessions := 1
		if away {
			sessions = -1
		}
		add(c.keys, p.AccessKey, p.requested, sessions, away)
		add(c.groups, p.GroupID, p.requested, sessions, away)
		add(c.domains, p.DomainName, p.requested, sessions, away)
	}
	count(false)
	defer count(true)
	for kind := concurrencyScope; kind <= domainScope; kind++ {
		if !c.within(head, kind) {
			return false
		}
	}
	return true
}

// assign tells the policy that a session has got its agents.
func assign(policy policy, p *pending) {
	if p.together() {
		if p.Kernels[0].Agent == "" {
			policy.assigned(p, p.requested)
		}
		return
	}
	for _, k := range p.Kernels {
		if k.Agent == "" {
			policy.assigned(p, k.Slots)
		}
	}
}

// Delay is whom a session would delay.
type Delay struct {
	Head  uuid.UUID `json:"head,omitzero"` // only shown to super-administrators
	Until time.Time `json:"until"`         // when that one is to start
}

func delayOf(head uuid.UUID, until time.Time) *obstacle {
	return &obstacle{kind: WouldDelay, text: textWouldDelay, delay: &Delay{Head: head, Until: until}}
}
