package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// victim is a session that may be ended for another.
type victim struct {
	session  uuid.UUID
	priority int
	// loss is the share of the scaling group that it has had, times the seconds that it has run: what is lost with it.
	loss    float64
	size    float64 // that share
	kernels []*protocol.Allocation
}

// cheaper orders victims: lower priorities first, then what loses less.
func cheaper(a, b *victim) int {
	return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.loss, b.loss), compareIDs(a.session, b.session))
}

// set is a choice of victims with what it costs. The priority of the most important one counts first, then how many they are, then the loss.
type set struct {
	list     []*victim
	priority int
	loss     float64
}

func setOf(list []*victim) *set {
	s := &set{list: slices.Clone(list), priority: -protocol.MaxPriority - 1}
	slices.SortFunc(s.list, cheaper)
	for _, v := range s.list {
		s.priority, s.loss = max(s.priority, v.priority), s.loss+v.loss
	}
	return s
}

// better returns the set that costs less; the first of equals.
func better(a, b *set) *set {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(len(b.list), len(a.list)), cmp.Compare(b.loss, a.loss)) < 0:
		return b
	}
	return a
}

// chooseVictims finds the cheapest set it can, in order of the candidates (cheaper first), without which something fits; nil if there is none. No
// member of it can be spared. fits must be true of more if it is of fewer.
func chooseVictims(candidates []*victim, contribution func(*victim) float64, fits func(gone []*victim) bool) *set {
	// No higher priority than has to be.
	n := 0
	for {
		if n == len(candidates) {
			return nil
		}
		for level := candidates[n].priority; n < len(candidates) && candidates[n].priority == level; {
			n++
		}
		if fits(candidates[:n]) {
			break
		}
	}
	candidates = candidates[:n]
	for _, v := range candidates {
		if fits([]*victim{v}) {
			return setOf([]*victim{v})
		}
	}
	bySize := slices.Clone(candidates)
	slices.SortStableFunc(bySize, func(a, b *victim) int { return cmp.Compare(contribution(b), contribution(a)) })
	var best *set
	for _, order := range [][]*victim{candidates, bySize} {
		best = better(best, setOf(spare(order[:enough(order, fits)], fits)))
	}
	return best
}

// enough is how many of a list, from its beginning, it takes.
func enough(list []*victim, fits func([]*victim) bool) int {
	low, high := 0, len(list) // high is enough, low is not
	for high-low > 1 {
		if middle := (low + high) / 2; fits(list[:middle]) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// spare leaves out of a set what it can do without, the dearest first.
func spare(list []*victim, fits func([]*victim) bool) []*victim {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *victim) int { return cheaper(b, a) })
	for again := true; again; { // where fits is not quite true of more if it is of fewer, once is not enough
		again = false
		for i := 0; i < len(list); {
			rest := slices.Delete(slices.Clone(list), i, i+1)
			if fits(rest) {
				list, again = rest, true
				continue
			}
			i++
		}
	}
	return list
}

// victimsFor are the sessions that may be ended for one of a priority, the cheapest first, and when others will be old enough (zero: none).
func (c *Core) victimsFor(priority int, now time.Time) (list []*victim, again time.Time) {
	total := c.index.capacity(c.agents, c.order)
	for _, t := range c.tenures {
		if _, told := c.dismissed[t.session]; told || !t.wishes.Preemptible || t.wishes.Priority >= priority || t.ending {
			continue // who was told and did not go is not asked again
		}
		since := c.runsSince(t)
		if since.IsZero() {
			continue
		}
		if old := since.Add(c.Policy.Options.PreemptionMinRuntime); now.Before(old) {
			if again.IsZero() || old.Before(again) {
				again = old
			}
			continue
		}
		v := &victim{session: t.session, priority: t.wishes.Priority, kernels: c.departureOf(t).kernels}
		var slots backendai.ResourceSlots
		for _, k := range v.kernels {
			slots = slots.Add(k.Slots)
		}
		v.size = dominant(slots, total)
		v.loss = v.size * max(0, now.Sub(since).Seconds())
		list = append(list, v)
	}
	slices.SortFunc(list, cheaper)
	return list, again
}

// on is what a victim has on an agent.
func (v *victim) on(agent string) (slots backendai.ResourceSlots) {
	for _, k := range v.kernels {
		if k.Agent == agent {
			slots = slots.Add(k.Slots)
		}
	}
	return slots
}

// victimsTogether chooses for a session that goes to one agent: on each, those that are there. leaving is what will be gone anyway.
func (c *Core) victimsTogether(p *pending, all []*victim, leaving map[string]backendai.ResourceSlots) (best *set) {
	there := make(map[string][]*victim)
	for _, v := range all {
		for _, k := range v.kernels {
			if list := there[k.Agent]; len(list) == 0 || list[len(list)-1] != v {
				there[k.Agent] = append(list, v)
			}
		}
	}
	for _, id := range c.order {
		a := c.agents[id]
		if len(there[id]) == 0 || !a.candidate() || a.Architecture != p.Kernels[0].Architecture {
			continue
		}
		occupied := a.Occupied.Sub(leaving[id])
		best = better(best, chooseVictims(there[id],
			func(v *victim) float64 { return dominant(v.on(id), p.requested) },
			func(gone []*victim) bool {
				left := occupied
				for _, v := range gone {
					left = left.Sub(v.on(id))
				}
				return p.requested.FitsIn(a.Available, left)
			}))
	}
	return best
}

// victimsEach chooses for a cluster session.
func (c *Core) victimsEach(policy policy, p *pending, all []*victim, leaving map[string]backendai.ResourceSlots, now time.Time) *set {
	var on map[string]backendai.ResourceSlots
	fits := func(gone []*victim) bool {
		placement := c.placeWithout(policy, p, gone, leaving, now)
		if placement != nil {
			on = sharesOf(p, placement.Kernels)
		}
		return placement != nil
	}
	useful := slices.DeleteFunc(slices.Clone(all), func(v *victim) bool {
		return !slices.ContainsFunc(v.kernels, func(k *protocol.Allocation) bool { return c.agents[k.Agent] != nil && c.agents[k.Agent].candidate() })
	})
	if !fits(useful) {
		return nil
	}
	// Those where nothing would go are mostly of no use: it is rather found without them.
	near := slices.DeleteFunc(slices.Clone(useful), func(v *victim) bool {
		return !slices.ContainsFunc(v.kernels, func(k *protocol.Allocation) bool { _, ok := on[k.Agent]; return ok })
	})
	size := func(v *victim) float64 { return v.size }
	best := chooseVictims(useful, size, fits)
	if len(near) > 0 && fits(near) {
		best = better(best, chooseVictims(near, size, fits))
	}
	return best
}

// placeWithout finds agents as if some had gone.
func (c *Core) placeWithout(policy policy, p *pending, gone []*victim, leaving map[string]backendai.ResourceSlots, now time.Time) (found *protocol.Placement) {
	c.pretend(func(occupy func(*Agent, backendai.ResourceSlots)) {
		for id, slots := range leaving {
			if a := c.agents[id]; a != nil {
				occupy(a, a.Occupied.Sub(slots))
			}
		}
		for _, v := range gone {
			for _, k := range v.kernels {
				if a := c.agents[k.Agent]; a != nil {
					occupy(a, a.Occupied.Sub(k.Slots))
				}
			}
		}
		if placement, obstacle := c.place(quiet{policy}, p, now); obstacle == nil {
			found = placement
		}
	})
	return found
}
