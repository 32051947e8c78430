package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// triedInTime bounds how many moments are thought through to find when a cluster session fits.
const triedInTime = 1000

// reservation is the earliest time at which the head of the queue will fit, as far as ends are known, and where. It is no promise: what
// ends earlier brings it forward, what hangs puts it off. But nothing that starts behind the head does.
type reservation struct {
	head    uuid.UUID
	at      time.Time
	kernels []protocol.KernelPlacement
	claims  map[string]claim // by agent; not changed, but replaced
	basis   []EndsAt
}

// claim is what a reservation needs of one agent, and what will have been freed there by its time.
type claim struct{ share, freed backendai.ResourceSlots }

// EndsAt is a session that will be gone at a time.
type EndsAt struct {
	Session uuid.UUID `json:"session_id"`
	At      time.Time `json:"ends_at"`
}

func (r *reservation) clone() *reservation {
	if r == nil {
		return nil
	}
	n := *r
	n.claims = maps.Clone(r.claims)
	return &n
}

// agents are those on which something is reserved, in order of id.
func (r *reservation) agents() []string { return slices.Sorted(maps.Keys(r.claims)) }

// together tells whether all kernels of a session go to one agent.
func (p *pending) together() bool {
	return p.ClusterMode != backendai.MultiNode || len(p.Kernels) == 1
}

// reservationFor finds the earliest time at which a session that fits nowhere now will, if what ends ends as it is known to. nil if there
// is no such time. Nothing is changed. before is what was found for it earlier: where the policy's choice would come later than that, it stays.
func (c *Core) reservationFor(policy policy, p *pending, now time.Time, before *reservation) *reservation {
	if before != nil && before.head != p.ID {
		before = nil
	}
	policy = quiet{policy}
	if p.together() {
		return c.reserveTogether(policy, p, now)
	}
	return c.reserveEach(policy, p, now, before)
}

// reserveTogether is for sessions that go to one agent: only an agent on which something is freed needs to be looked at, and only then.
func (c *Core) reserveTogether(policy policy, p *pending, now time.Time) *reservation {
	arch := p.Kernels[0].Architecture
	if p.Kernels[0].Agent != "" || slices.ContainsFunc(p.Kernels, func(k protocol.PendingKernel) bool { return k.Architecture != arch }) {
		return nil // no time will help
	}
	type future struct {
		occupied backendai.ResourceSlots
		gone     []goneKernel
	}
	futures := make(map[*Agent]*future)
	for at, group := range c.moments(now) {
		var changed []*Agent
		for _, d := range group {
			for _, k := range d.kernels {
				a := c.agents[k.Agent]
				if a == nil || !a.candidate() || a.Architecture != arch {
					continue
				}
				f := futures[a]
				if f == nil {
					f = &future{occupied: a.Occupied}
					futures[a] = f
				}
				f.occupied = f.occupied.Sub(k.Slots)
				f.gone = append(f.gone, goneKernel{d.session, at, k})
				changed = append(changed, a)
			}
		}
		var agent *Agent
		c.pretend(func(occupy func(*Agent, backendai.ResourceSlots)) {
			some := false
			for _, a := range changed {
				if p.requested.FitsIn(a.Available, futures[a].occupied) {
					some = true
					occupy(a, futures[a].occupied)
				}
			}
			if some {
				agent = policy.choose(c.index, arch, p.requested)
			}
		})
		if agent == nil {
			continue
		}
		r := &reservation{head: p.ID, at: at, claims: make(map[string]claim, 1)}
		for _, k := range p.Kernels {
			r.kernels = append(r.kernels, protocol.KernelPlacement{KernelID: k.ID, Agent: agent.ID, Addr: agent.Addr})
		}
		r.claim(agent, p.requested, futures[agent].gone)
		return r
	}
	return nil
}

// reserveEach is for cluster sessions.
func (c *Core) reserveEach(policy policy, p *pending, now time.Time, before *reservation) (r *reservation) {
	tries := 0
	gone := make(map[*Agent][]goneKernel)
	c.pretend(func(occupy func(*Agent, backendai.ResourceSlots)) {
		for at, group := range c.moments(now) {
			could := false
			for _, d := range group {
				for _, k := range d.kernels {
					a := c.agents[k.Agent]
					if a == nil || !a.candidate() {
						continue
					}
					occupy(a, a.Occupied.Sub(k.Slots))
					gone[a] = append(gone[a], goneKernel{d.session, at, k})
					could = could || slices.ContainsFunc(p.Kernels, func(want protocol.PendingKernel) bool {
						return want.Architecture == a.Architecture && want.Slots.FitsIn(a.Available, a.Occupied)
					})
				}
			}
			if !could {
				continue
			}
			if tries++; tries > triedInTime {
				return
			}
			var kernels []protocol.KernelPlacement
			if placement, obstacle := c.place(policy, p, at); obstacle == nil {
				kernels = placement.Kernels
			} else if before != nil && c.fitsAs(p, before.kernels) {
				kernels = before.kernels
			} else {
				continue
			}
			r = &reservation{head: p.ID, at: at, kernels: kernels, claims: make(map[string]claim)}
			return
		}
	})
	if r != nil {
		for id, share := range sharesOf(p, r.kernels) {
			r.claim(c.agents[id], share, gone[c.agents[id]])
		}
		slices.SortFunc(r.basis, byTime)
		r.basis = slices.Compact(r.basis)
	}
	return r
}

// goneKernel is a kernel that will be gone at a time.
type goneKernel struct {
	session uuid.UUID
	at      time.Time
	*protocol.Allocation
}

// claim adds what is needed of an agent, and whose ends that rests on: the latest of those that would do.
func (r *reservation) claim(a *Agent, share backendai.ResourceSlots, gone []goneKernel) {
	var freed backendai.ResourceSlots
	for _, k := range gone {
		freed = freed.Add(k.Slots)
	}
	r.claims[a.ID] = claim{share: share, freed: freed}
	occupied := a.Occupied.Sub(freed)
	for _, k := range gone {
		if with := occupied.Add(k.Slots); share.FitsIn(a.Available, with) {
			occupied = with // it may as well stay
			continue
		}
		if e := (EndsAt{k.session, k.at}); !slices.Contains(r.basis, e) {
			r.basis = append(r.basis, e)
		}
	}
}

// sharesOf sums what a session takes on each agent.
func sharesOf(p *pending, kernels []protocol.KernelPlacement) map[string]backendai.ResourceSlots {
	shares := make(map[string]backendai.ResourceSlots)
	for i, k := range kernels {
		shares[k.Agent] = shares[k.Agent].Add(p.Kernels[i].Slots)
	}
	return shares
}

// fitsAs tells whether a session fits now where its kernels were thought to go.
func (c *Core) fitsAs(p *pending, kernels []protocol.KernelPlacement) bool {
	if len(kernels) != len(p.Kernels) {
		return false
	}
	for i, k := range p.Kernels {
		if a := c.agents[kernels[i].Agent]; a == nil || a.Architecture != k.Architecture && k.Agent == "" { // it may have changed
			return false
		}
	}
	for id, share := range sharesOf(p, kernels) {
		if a := c.agents[id]; !a.candidate() || !share.FitsIn(a.Available, a.Occupied) {
			return false
		}
	}
	return true
}

// redeem is the placement that was reserved for a session, if it fits now: a policy that puts kernels one after the other may find no way where there is one.
func (c *Core) redeem(p *pending, now time.Time) *protocol.Placement {
	r := c.reservation
	if r == nil || r.head != p.ID || p.together() || !c.fitsAs(p, r.kernels) {
		return nil
	}
	return &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now, Kernels: r.kernels}
}

// pretend lets f change what agents have occupied, and undoes it. What is known to fit nowhere now does not count meanwhile.
func (c *Core) pretend(f func(occupy func(*Agent, backendai.ResourceSlots))) {
	before, nowhere := make(map[*Agent]backendai.ResourceSlots), c.nowhere
	c.nowhere = make(map[string]bool)
	defer func() {
		for a, occupied := range before {
			c.occupy(a, occupied)
		}
		c.nowhere = nowhere
	}()
	f(func(a *Agent, occupied backendai.ResourceSlots) {
		if _, ok := before[a]; !ok {
			before[a] = a.Occupied
		}
		c.occupy(a, occupied)
	})
}

// besides calls f while what is claimed of agents looks taken, now and when it is due.
func (c *Core) besides(claims map[string]claim, f func()) {
	c.pretend(func(occupy func(*Agent, backendai.ResourceSlots)) {
		for id, cl := range claims {
			if a := c.agents[id]; a != nil {
				occupy(a, larger(a.Occupied, a.Occupied.Sub(cl.freed).Add(cl.share)))
			}
		}
		f()
	})
}

// leaves tells whether a placement takes nothing of what is claimed.
func (c *Core) leaves(claims map[string]claim, p *pending, kernels []protocol.KernelPlacement) bool {
	for id, share := range sharesOf(p, kernels) {
		cl, ok := claims[id]
		if a := c.agents[id]; ok && a != nil && !share.FitsIn(a.Available, a.Occupied.Sub(cl.freed).Add(cl.share)) {
			return false
		}
	}
	return true
}
