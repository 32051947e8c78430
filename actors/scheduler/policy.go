package scheduler

import (
	"fmt"
	"time"

	backendai "backend.ai/manager"
)

// The names of the original's policies.
const (
	policyFIFO = "fifo"
	policyLIFO = "lifo"
	policyMOF  = "mof"
	policyDRF  = "drf"
)

// The values of Options.Placement.
const (
	placeSpread = "spread"
	placePack   = "pack"
)

// policy is the difference between the original's schedulers: which session is
// looked at next, and which of the fitting agents takes it (spec/scheduling-lifecycle §9).
type policy interface {
	// pick chooses among the sessions that are ready; nil when there are none. What was picked is not ready any more at the next call.
	pick(c *Core) *pending
	// choose returns the agent for a request, nil if none fits. Ties go by id.
	choose(x *index, arch string, requested backendai.ResourceSlots) *Agent
	// assigned tells that a request of an owner has got an agent.
	assigned(p *pending, requested backendai.ResourceSlots)
}

// policyOf makes the policy for one pass. An unknown name is an error that the
// shell logs; the queue then waits.
func (c *Core) policyOf(now time.Time) (p policy, err error) {
	arrangement := byKinds
	switch c.Policy.Name {
	case policyFIFO, "":
		p = fifo{}
	case policyLIFO:
		p = lifo{}
	case policyMOF:
		p, arrangement = mof{}, byOccupancy
	case policyDRF:
		p, arrangement = fifo{}, byCapacity // by capacity alone, best is drf's choice
	default:
		return nil, fmt.Errorf("scaling group %s: %s", c.Group, unknownScheduler(c.Policy.Name))
	}
	switch c.Policy.Options.Placement {
	case placeSpread:
		p, arrangement = ranked{p}, byLeastUsed
	case placePack:
		p, arrangement = ranked{p}, byMostUsed
	}
	c.index.arrange(arrangement)
	if c.ownersCompete() {
		return c.newContest(p, now), nil
	}
	return p, nil
}

// fifo takes the oldest. With RetriesToSkip, one that has failed so often lets the others go first.
type fifo struct{}

func (fifo) pick(c *Core) *pending {
	p, ok := c.fresh.Min()
	if c.stale.Len() == 0 {
		return p
	}
	if late, _ := c.stale.Min(); !ok || c.byPriority(late, p) < 0 {
		return late
	}
	return p
}

// retriesToSkip is fifo's option; 0 for the other policies.
func (c *Core) retriesToSkip() int {
	if c.Policy.Name == policyFIFO || c.Policy.Name == "" {
		return c.Policy.RetriesToSkip
	}
	return 0
}

// choose prefers the agent with the fewest kinds of resources that the request
// does not use, so that accelerators are left to those who want them; then the
// larger one, by its total, as far as the partial order tells.
func (fifo) choose(x *index, arch string, requested backendai.ResourceSlots) *Agent {
	return x.best(arch, requested)
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

func (lifo) pick(c *Core) *pending {
	p, _ := c.fresh.Max()
	return p
}

// mof takes the oldest and puts it where least is taken, in absolute amounts.
type mof struct{ fifo }

func (mof) choose(x *index, arch string, requested backendai.ResourceSlots) *Agent {
	return x.leastOccupied(arch, requested)
}

// ranked overrides where a policy puts things, by Options.Placement: where the dominant share of what is used of an agent would be the
// smallest (spread) or the largest (pack).
type ranked struct{ policy }

func (ranked) choose(x *index, arch string, requested backendai.ResourceSlots) *Agent {
	return x.byRank(arch, requested)
}
