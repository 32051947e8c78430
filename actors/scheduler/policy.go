package scheduler

import (
	"fmt"

	backendai "backend.ai/manager"
)

// policy is the difference between the original's schedulers: which session is
// looked at next, and which of the fitting agents takes it (spec/scheduling-lifecycle §9).
type policy interface {
	// pick chooses among candidates, oldest first and not empty.
	pick(candidates []*pending) int
	// choose returns the agent for a request, nil if none fits. Agents come in order of id.
	choose(agents []*Agent, requested backendai.ResourceSlots) *Agent
	// assigned tells that a request of an owner has got an agent.
	assigned(p *pending, requested backendai.ResourceSlots)
}

// policyOf makes the policy for one pass. An unknown name is an error that the
// shell logs; the queue then waits.
func (c *Core) policyOf() (policy, error) {
	switch c.Policy.Name {
	case "fifo", "":
		return fifo{skip: c.Policy.RetriesToSkip}, nil
	case "lifo":
		return lifo{}, nil
	case "mof":
		return mof{}, nil
	case "drf":
		return c.newDRF(), nil
	}
	return nil, fmt.Errorf("scaling group %s: no scheduler is called %q; the schedulers are fifo, lifo, drf and mof", c.Group, c.Policy.Name)
}

// fifo takes the oldest. With skip > 0, one that has failed skip times lets the others go first.
type fifo struct{ skip int }

func (f fifo) pick(candidates []*pending) int {
	if f.skip > 0 {
		for i, p := range candidates {
			if p.Retries < f.skip {
				return i
			}
		}
	}
	return 0
}

// choose prefers the agent with the fewest kinds of resources that the request
// does not use, so that accelerators are left to those who want them; then the
// larger one, by its total, as far as the partial order tells.
func (fifo) choose(agents []*Agent, requested backendai.ResourceSlots) *Agent {
	var best *Agent
	var bestExtras int
	for _, a := range agents {
		if !requested.FitsIn(a.Available, a.Occupied) {
			continue
		}
		extras := extraSlots(a.Available, requested)
		if best == nil || extras < bestExtras || extras == bestExtras && a.Available.Greater(best.Available) {
			best, bestExtras = a, extras
		}
	}
	return best
}

func (fifo) assigned(*pending, backendai.ResourceSlots) {}

func extraSlots(available, requested backendai.ResourceSlots) (n int) {
	for name, amount := range available.All() {
		if amount.Sign() > 0 && requested.Get(name).IsZero() {
			n++
		}
	}
	return n
}

// lifo takes the newest.
type lifo struct{ fifo }

func (lifo) pick(candidates []*pending) int { return len(candidates) - 1 }

// mof takes the oldest and puts it where least is taken, in absolute amounts.
type mof struct{ fifo }

func (mof) pick([]*pending) int { return 0 }

func (mof) choose(agents []*Agent, requested backendai.ResourceSlots) *Agent {
	var best *Agent
	for _, a := range agents {
		if requested.FitsIn(a.Available, a.Occupied) && (best == nil || a.Occupied.Less(best.Occupied)) {
			best = a
		}
	}
	return best
}

// drf takes the oldest session of the owner whose largest single session has the
// smallest share of the group. (The maximum over sessions, not their sum, is the
// original's and decides the order only.)
type drf struct {
	total  backendai.ResourceSlots
	shares map[string]float64 // by access key
}

func (c *Core) newDRF() *drf {
	d := &drf{shares: make(map[string]float64)}
	for _, a := range c.candidates() {
		d.total = d.total.Add(a.Available)
	}
	sessions := make(map[string]backendai.ResourceSlots)
	owners := make(map[string]string)
	for _, a := range c.allocs {
		id := a.SessionID.String()
		sessions[id] = sessions[id].Add(a.Slots)
		owners[id] = a.AccessKey
	}
	for id, slots := range sessions {
		d.raise(owners[id], slots)
	}
	return d
}

func (d *drf) raise(owner string, slots backendai.ResourceSlots) {
	for name, amount := range slots.All() {
		if capacity := d.total.Get(name); !capacity.IsZero() {
			d.shares[owner] = max(d.shares[owner], amount.Float64()/capacity.Float64())
		}
	}
}

func (d *drf) pick(candidates []*pending) int {
	best := 0
	for i, p := range candidates {
		if d.shares[p.AccessKey] < d.shares[candidates[best].AccessKey] {
			best = i
		}
	}
	return best
}

func (d *drf) choose(agents []*Agent, requested backendai.ResourceSlots) *Agent {
	var best *Agent
	for _, a := range agents {
		if requested.FitsIn(a.Available, a.Occupied) && (best == nil || a.Available.Greater(best.Available)) {
			best = a
		}
	}
	return best
}

func (d *drf) assigned(p *pending, requested backendai.ResourceSlots) {
	d.raise(p.AccessKey, requested)
}
