package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// naiveFuture is what the scan knows of reservations and preemption. Nothing is kept sorted or remembered as vain: all is found again from
// the allocations, each time.
type naiveFuture struct {
	at          time.Time
	leaving     map[uuid.UUID]time.Time
	parting     map[uuid.UUID]bool // sessions of which a part was asked to end
	told        map[uuid.UUID]time.Time
	reservation *naiveReservation
	held        *hold
}

type naiveReservation struct {
	head    uuid.UUID
	at      time.Time
	kernels []protocol.KernelPlacement
	claims  map[string]claim
}

type naiveQuiet struct{ naivePolicy }

func (naiveQuiet) assigned(*naivePending, backendai.ResourceSlots) {}

func (p *naivePending) together() bool {
	return p.ClusterMode != backendai.MultiNode || len(p.Kernels) == 1
}

func (c *naiveCore) options() bool {
	return c.Policy.Options.Backfill || c.Policy.Options.Preemption
}

func (c *naiveCore) leaves(a *protocol.Allocation) {
	if !c.options() {
		return
	}
	if c.leaving == nil {
		c.leaving, c.parting = map[uuid.UUID]time.Time{}, map[uuid.UUID]bool{}
	}
	c.leaving[a.KernelID] = c.at
	c.parting[a.SessionID] = true
}

func (c *naiveCore) forgetFuture() {
	c.leaving, c.parting, c.told = nil, nil, map[uuid.UUID]time.Time{}
	if !c.options() {
		c.reservation, c.held = nil, nil
		return
	}
	for _, a := range c.allocs {
		if !a.CountsForUser {
			c.leaves(a)
		}
	}
}

// sessions lists the kernels of each session that nobody has asked to end, in order of id.
func (c *naiveCore) sessions() map[uuid.UUID][]*protocol.Allocation {
	m := map[uuid.UUID][]*protocol.Allocation{}
	for _, a := range c.allocs {
		if a.CountsForUser && (a.Wishes.TimeLimit > 0 || a.Wishes.Preemptible) {
			m[a.SessionID] = append(m[a.SessionID], a)
		}
	}
	for _, list := range m {
		slices.SortFunc(list, func(a, b *protocol.Allocation) int { return compareIDs(a.KernelID, b.KernelID) })
	}
	return m
}

// ends are when the kernels will be gone of which that is known.
func (c *naiveCore) ends(now time.Time) map[uuid.UUID]time.Time {
	m, sessions := map[uuid.UUID]time.Time{}, c.sessions()
	for id, a := range c.allocs {
		if c.goesSoon(a, now) {
			m[id] = now
			continue
		}
		if since, ok := c.leaving[id]; ok && now.Sub(since) <= endsWithin {
			m[id] = now
		}
		if !a.CountsForUser || a.Wishes.TimeLimit <= 0 {
			continue
		}
		var at time.Time
		for _, k := range sessions[a.SessionID] {
			from := k.Since
			if from.IsZero() {
				from = k.Placed
			}
			if from.After(at) {
				at = from
			}
		}
		if at = at.Add(a.Wishes.TimeLimit); !at.Before(now) {
			m[id] = at
		} else if !at.Add(endsWithin).Before(now) {
			m[id] = now
		}
	}
	return m
}

func (c *naiveCore) goesSoon(a *protocol.Allocation, now time.Time) bool {
	told, ok := c.told[a.SessionID]
	return ok && a.CountsForUser && now.Sub(told) <= endsWithin
}

// with calls f while agents look as if they had something else occupied.
func (c *naiveCore) with(occupied map[string]backendai.ResourceSlots, f func()) {
	before := map[string]backendai.ResourceSlots{}
	for id, a := range c.agents {
		before[id] = a.Occupied
		if o, ok := occupied[id]; ok {
			a.Occupied = o
		}
	}
	f()
	for id, a := range c.agents {
		a.Occupied = before[id]
	}
}

// without is what agents have occupied when some kernels have gone.
func (c *naiveCore) without(gone func(*protocol.Allocation) bool) map[string]backendai.ResourceSlots {
	m := map[string]backendai.ResourceSlots{}
	for id, a := range c.agents {
		m[id] = a.Occupied
	}
	for _, a := range c.allocs {
		if _, ok := m[a.Agent]; ok && gone(a) {
			m[a.Agent] = m[a.Agent].Sub(a.Slots)
		}
	}
	return m
}

func naiveShares(p *naivePending, kernels []protocol.KernelPlacement) map[string]backendai.ResourceSlots {
	return sharesOf(&pending{PendingSession: p.PendingSession}, kernels)
}

func (c *naiveCore) fitsAs(p *naivePending, kernels []protocol.KernelPlacement) bool {
	for i, k := range kernels {
		if a := c.agents[k.Agent]; a == nil || a.Architecture != p.Kernels[i].Architecture && p.Kernels[i].Agent == "" {
			return false
		}
	}
	for id, share := range naiveShares(p, kernels) {
		if a := c.agents[id]; a == nil || !a.candidate() || !share.FitsIn(a.Available, a.Occupied) {
			return false
		}
	}
	return true
}

// reservationFor tries every time at which anything is known to end.
func (c *naiveCore) reservationFor(policy naivePolicy, p *naivePending, now time.Time) (r *naiveReservation) {
	if p.together() && p.Kernels[0].Agent != "" {
		return nil
	}
	before := c.reservation
	if before != nil && before.head != p.ID {
		before = nil
	}
	ends := c.ends(now)
	times := slices.Compact(slices.SortedFunc(maps.Values(ends), time.Time.Compare))
	for _, t := range times {
		later := c.without(func(a *protocol.Allocation) bool {
			at, ok := ends[a.KernelID]
			return ok && !at.After(t)
		})
		var kernels []protocol.KernelPlacement
		c.with(later, func() {
			if placement, obstacle := c.place(naiveQuiet{policy}, p, t); obstacle == nil {
				kernels = placement.Kernels
			} else if !p.together() && before != nil && c.fitsAs(p, before.kernels) {
				kernels = before.kernels
			}
		})
		if kernels == nil {
			continue
		}
		r = &naiveReservation{head: p.ID, at: t, kernels: kernels, claims: map[string]claim{}}
		for id, share := range naiveShares(p, kernels) {
			r.claims[id] = claim{share: share, freed: c.agents[id].Occupied.Sub(later[id])}
		}
		return r
	}
	return nil
}

func (c *naiveCore) claimed(claims map[string]claim) map[string]backendai.ResourceSlots {
	m := map[string]backendai.ResourceSlots{}
	for id, cl := range claims {
		if a := c.agents[id]; a != nil {
			m[id] = larger(a.Occupied, a.Occupied.Sub(cl.freed).Add(cl.share))
		}
	}
	return m
}

func (c *naiveCore) respects(claims map[string]claim, p *naivePending, kernels []protocol.KernelPlacement) bool {
	for id, share := range naiveShares(p, kernels) {
		if cl, ok := claims[id]; ok {
			if a := c.agents[id]; a != nil && !share.FitsIn(a.Available, a.Occupied.Sub(cl.freed).Add(cl.share)) {
				return false
			}
		}
	}
	return true
}

func (c *naiveCore) heldClaims() map[string]claim {
	claims := map[string]claim{}
	for id, share := range c.held.shares {
		cl := claim{share: share}
		for _, k := range c.held.leaving {
			if a := c.allocs[k]; a != nil && a.Agent == id {
				cl.freed = cl.freed.Add(a.Slots)
			}
		}
		claims[id] = cl
	}
	return claims
}

func (c *naiveCore) placeUnheld(policy naivePolicy, p *naivePending, now time.Time) (placement *protocol.Placement, o *obstacle) {
	if c.held == nil || c.held.head == p.ID {
		return c.place(policy, p, now)
	}
	c.with(c.claimed(c.heldClaims()), func() { placement, o = c.place(policy, p, now) })
	if o != nil {
		if _, without := c.place(naiveQuiet{policy}, p, now); without == nil {
			o = delayOf(c.held.head, now)
		}
	}
	return placement, o
}

func (c *naiveCore) behind(policy naivePolicy, head *naivePending, candidates []*naivePending, now time.Time) (effects []Effect) {
	if c.Policy.Options.Preemption && c.held == nil {
		effects = c.preempt(policy, head, now)
	}
	if !c.Policy.Options.Backfill {
		return effects
	}
	switch {
	case c.held == nil:
		c.reservation = c.reservationFor(policy, head, now)
	case c.held.head == head.ID:
		c.reservation = &naiveReservation{head: head.ID, at: now, kernels: c.held.kernels, claims: c.heldClaims()}
	default:
		c.reservation = nil
	}
	r := c.reservation
	if r == nil {
		return effects
	}
	for len(candidates) > 0 {
		at := policy.pick(candidates)
		p := candidates[at]
		candidates = append(candidates[:at], candidates[at+1:]...)
		if _, failed := c.evaluate(p, now); len(failed) > 0 {
			p.parked = true
			continue
		}
		placement, o := c.place(naiveQuiet{policy}, p, now)
		inTime := p.Wishes.TimeLimit > 0 && !now.Add(p.Wishes.TimeLimit).After(r.at)
		if o != nil || !c.leavesQuota(head, p, now) {
			continue
		}
		if !inTime && !c.respects(r.claims, p, placement.Kernels) {
			c.with(c.claimed(r.claims), func() { placement, o = c.place(naiveQuiet{policy}, p, now) })
			if o != nil || !c.respects(r.claims, p, placement.Kernels) {
				continue
			}
		}
		assignNaive(policy, p)
		c.reserve(p, placement, now)
		if inTime {
			for id, share := range naiveShares(p, placement.Kernels) {
				if cl, ok := r.claims[id]; ok {
					r.claims[id] = claim{cl.share, cl.freed.Add(share)}
				}
			}
		}
		effects = append(effects, Place{SessionID: p.ID, Placement: placement})
	}
	return effects
}

// leavesQuota lets the session have what it wants, and looks whether the head is still let through.
func (c *naiveCore) leavesQuota(head, p *naivePending, now time.Time) bool {
	one := &protocol.Allocation{Main: true, AccessKey: p.AccessKey, GroupID: p.GroupID, DomainName: p.DomainName}
	c.charge(one, p.requested, 1)
	_, failed := c.evaluate(head, now)
	c.charge(one, negative(p.requested), -1)
	return len(failed) == 0
}

func assignNaive(policy naivePolicy, p *naivePending) {
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

func (c *naiveCore) preempt(policy naivePolicy, p *naivePending, now time.Time) (effects []Effect) {
	soon := func(a *protocol.Allocation) bool {
		since, ok := c.leaving[a.KernelID]
		return ok && now.Sub(since) <= endsWithin || c.goesSoon(a, now)
	}
	placed := func(gone []*victim) (placement *protocol.Placement) {
		later := c.without(func(a *protocol.Allocation) bool {
			return soon(a) || slices.ContainsFunc(gone, func(v *victim) bool { return v.session == a.SessionID && a.CountsForUser })
		})
		c.with(later, func() {
			if found, o := c.place(naiveQuiet{policy}, p, now); o == nil {
				placement = found
			}
		})
		return placement
	}
	if placed(nil) != nil {
		return nil
	}
	var total backendai.ResourceSlots
	for _, a := range c.candidates() {
		total = total.Add(a.Available)
	}
	var all []*victim
	for id, kernels := range c.sessions() {
		w := kernels[0].Wishes
		var since time.Time
		running := true
		v := &victim{session: id, priority: w.Priority, kernels: kernels}
		var slots backendai.ResourceSlots
		for _, k := range kernels {
			running = running && !k.Since.IsZero()
			if k.Since.After(since) {
				since = k.Since
			}
			slots = slots.Add(k.Slots)
		}
		if !w.Preemptible || w.Priority >= p.Wishes.Priority || !running || c.parting[id] || !c.told[id].IsZero() || now.Sub(since) < c.Policy.Options.PreemptionMinRuntime {
			continue
		}
		v.size = dominant(slots, total)
		v.loss = v.size * max(0, now.Sub(since).Seconds())
		all = append(all, v)
	}
	slices.SortFunc(all, cheaper)
	var chosen *set
	if p.together() {
		if p.Kernels[0].Agent != "" {
			return nil
		}
		for _, a := range c.candidates() {
			if a.Architecture != p.Kernels[0].Architecture {
				continue
			}
			var there []*victim
			for _, v := range all {
				if slices.ContainsFunc(v.kernels, func(k *protocol.Allocation) bool { return k.Agent == a.ID }) {
					there = append(there, v)
				}
			}
			chosen = better(chosen, chooseVictims(there, func(v *victim) float64 { return dominant(v.on(a.ID), p.requested) }, func(gone []*victim) bool {
				left := c.without(func(k *protocol.Allocation) bool {
					return soon(k) || slices.ContainsFunc(gone, func(v *victim) bool { return v.session == k.SessionID && k.CountsForUser })
				})
				return p.requested.FitsIn(a.Available, left[a.ID])
			}))
		}
	} else {
		var on map[string]backendai.ResourceSlots
		fits := func(gone []*victim) bool {
			found := placed(gone)
			if found != nil {
				on = naiveShares(p, found.Kernels)
			}
			return found != nil
		}
		useful := slices.DeleteFunc(slices.Clone(all), func(v *victim) bool {
			return !slices.ContainsFunc(v.kernels, func(k *protocol.Allocation) bool { return c.agents[k.Agent] != nil && c.agents[k.Agent].candidate() })
		})
		if fits(useful) {
			near := slices.DeleteFunc(slices.Clone(useful), func(v *victim) bool {
				return !slices.ContainsFunc(v.kernels, func(k *protocol.Allocation) bool { _, ok := on[k.Agent]; return ok })
			})
			size := func(v *victim) float64 { return v.size }
			chosen = chooseVictims(useful, size, fits)
			if len(near) > 0 && fits(near) {
				chosen = better(chosen, chooseVictims(near, size, fits))
			}
		}
	}
	if chosen == nil {
		return nil
	}
	placement := placed(chosen.list)
	if placement == nil {
		return nil
	}
	h := &hold{head: p.ID, kernels: placement.Kernels, shares: naiveShares(p, placement.Kernels), since: now}
	for _, a := range c.allocs {
		if soon(a) {
			h.leaving = append(h.leaving, a.KernelID)
		}
	}
	for _, v := range chosen.list {
		h.victims = append(h.victims, v.session)
		if c.told == nil {
			c.told = map[uuid.UUID]time.Time{}
		}
		c.told[v.session] = now
		for _, k := range v.kernels {
			h.leaving = append(h.leaving, k.KernelID)
		}
		effects = append(effects, Preempt{SessionID: v.session, For: p.ID, Now: now})
	}
	c.held = h
	return effects
}

func (c *naiveCore) placeHeld(now time.Time) []Effect {
	h := c.held
	if h == nil {
		return nil
	}
	p := c.byID[h.head]
	over := p == nil || p.placing != nil
	for id := range h.shares {
		over = over || c.agents[id] == nil || !c.agents[id].candidate()
	}
	over = over || now.Sub(h.since) >= heldFor
	if over {
		c.held = nil
		return nil
	}
	policy, err := c.policyOf()
	if err != nil {
		return nil
	}
	if _, failed := c.evaluate(p, now); len(failed) > 0 {
		return nil
	}
	placement := &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now, Kernels: h.kernels}
	if !c.fitsAs(p, h.kernels) {
		var o *obstacle
		if placement, o = c.place(naiveQuiet{policy}, p, now); o != nil {
			return nil
		}
	}
	c.held = nil
	c.reserve(p, placement, now)
	return []Effect{Place{SessionID: p.ID, Placement: placement}}
}

// plans are what is kept for whom, to be compared.
func (c *naiveCore) plans() (list []string) {
	if r := c.reservation; r != nil {
		list = append(list, planned("reserved", r.head, r.at, r.kernels))
	}
	if h := c.held; h != nil {
		list = append(list, planned("held", h.head, h.since, h.kernels)+" "+idList(h.victims))
	}
	return list
}

func (c *Core) plans() (list []string) {
	if r := c.reservation; r != nil {
		list = append(list, planned("reserved", r.head, r.at, r.kernels))
	}
	if h := c.held; h != nil {
		list = append(list, planned("held", h.head, h.since, h.kernels)+" "+idList(h.victims))
	}
	return list
}

func planned(what string, head uuid.UUID, at time.Time, kernels []protocol.KernelPlacement) string {
	text := what + " " + head.String() + " " + at.String()
	for _, k := range kernels {
		text += " " + k.Agent
	}
	return text
}
