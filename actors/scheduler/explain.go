package scheduler

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// Explanation is why a session waits.
type Explanation struct {
	SessionID uuid.UUID  `json:"session_id"`
	Reasons   []Reason   `json:"reasons"` // empty: it has not been looked at yet, and the next look will place it
	Retries   int        `json:"retries"`
	LastTry   *time.Time `json:"last_try,omitempty"`
	Since     time.Time  `json:"since,omitzero"` // when these kinds of reasons were found first; when it was enqueued if it has not been looked at
	Position  int        `json:"position"`       // in the order of the policy, counting only those that could be looked at; 0 once placed
	Waiting   int        `json:"waiting"`        // length of the queue
	// Estimate is when it will start, as far as that is known; Explain leaves it to Estimate, which takes longer.
	Estimate *Estimate `json:"estimate,omitempty"`
}

// Sentences says it to people, the first reason first.
func (e Explanation) Sentences() (list []string) {
	for _, r := range e.Reasons {
		list = append(list, r.Sentence())
	}
	return list
}

// Explain tells why a session waits; false if it is not known (any more). The predicates are asked again. Where the last decision
// has found no agent, that is told as it was found, unless something has happened since that may have changed it; then, and for a
// session that was not looked at yet because others hold it up, one is looked for again. The agents are only counted here: doing so
// at every decision would cost far more than the decision. Nothing is changed.
func (c *Core) Explain(id uuid.UUID, now time.Time) (Explanation, bool) {
	p := c.byID[id]
	if p == nil {
		return Explanation{}, false
	}
	e := Explanation{SessionID: id, Retries: p.Retries, Since: p.CreatedAt, Waiting: c.queue.Len()}
	if p.found.at != 0 {
		at := p.found.at.time()
		e.LastTry, e.Since = &at, p.found.since.time()
	}
	if p.placing != nil {
		e.Since, e.Reasons = p.placedAt.time(), []Reason{{Kind: WaitsForCommit}}
		return e, true
	}
	first := c.aheadOf(p, now)
	e.Position = 1 + first.all
	policy, err := c.policyOf(now)
	if err != nil {
		e.Reasons = []Reason{{Kind: WaitsForUnknownPolicy, Policy: c.Policy.Name}}
		return e, true
	}
	var obstacle *obstacle
	if p.found.at != 0 && p.found.changes == c.changes && p.found.failing == 0 {
		obstacle = p.found.obstacle
	} else if e.Reasons = c.evaluate(p, now).reasons; len(e.Reasons) == 0 {
		_, obstacle = c.placeBehind(quiet{policy}, p, now)
	}
	if obstacle != nil {
		e.Reasons = append(e.Reasons, c.reasonOf(quiet{policy}, p, obstacle))
	}
	e.Reasons = append(e.Reasons, c.reserved(p)...)
	if h := c.holdsUp; c.blocked && h != nil && h != p && c.byID[h.ID] == h && p.parked == notParked {
		e.Reasons = append(e.Reasons, Reason{Kind: WaitsBehind, Behind: &Behind{Position: e.Position, Head: h.ID, HigherPriority: first.priority, LessUse: first.use}})
	}
	return e, true
}

// quiet is a policy that is only asked where something would go.
type quiet struct{ policy }

func (quiet) assigned(*pending, backendai.ResourceSlots) {}

// reasonOf counts the agents by what an obstacle is about.
func (c *Core) reasonOf(policy policy, p *pending, o *obstacle) Reason {
	r := Reason{Kind: o.kind}
	switch o.kind {
	case WaitsForDesignated:
		r.Agent, r.Short, r.Never = o.agent, o.short, true
	case MixesArchitectures:
		r.Never = true
	case WouldDelay:
		r.Delays = o.delay
	case WaitsForAgent:
		r.Agents, r.Never = c.test(p.Kernels[0].Architecture, p.requested)
	case WaitsForGang:
		c.testGang(policy, p, &r)
	}
	return r
}

// testGang places what can be placed of a gang, counts the agents for the first container that finds none, and undoes it.
func (c *Core) testGang(policy policy, p *pending, r *Reason) {
	before := make(map[*Agent]backendai.ResourceSlots)
	defer func() {
		for a, occupied := range before {
			c.occupy(a, occupied)
		}
	}()
	r.Gang = &GangTests{Kernels: len(p.Kernels)}
	for _, k := range p.Kernels {
		agent, problem := c.designated(k.Agent, k.Slots, p.requested)
		if k.Agent == "" {
			agent = policy.choose(c.index, k.Architecture, k.Slots)
		}
		if agent == nil || problem != nil {
			if r.Gang.Missing = append(r.Gang.Missing, k.ID); r.Agents == nil {
				r.Agents, r.Never = c.test(k.Architecture, k.Slots)
			}
			continue
		}
		r.Gang.Placed++
		if _, ok := before[agent]; !ok {
			before[agent] = agent.Occupied
		}
		c.occupy(agent, agent.Occupied.Add(k.Slots))
	}
}

// test counts the agents by the first test they fail for a request; never says that none, whatever its state, is large enough.
func (c *Core) test(arch string, requested backendai.ResourceSlots) (t *AgentTests, never bool) {
	t, never = &AgentTests{Total: len(c.order), Architecture: arch}, true
	type count struct {
		short int
		best  backendai.Decimal
	}
	slots := make(map[backendai.SlotName]*count)
	for name := range requested.All() {
		slots[name] = &count{}
	}
	for _, id := range c.order {
		a := c.agents[id]
		if a.Architecture == arch && requested.LessEq(a.Available) {
			never = false
		}
		switch {
		case !a.Alive:
			t.NotAlive++
		case !a.Schedulable:
			t.NotSchedulable++
		case a.Architecture != arch:
			t.OtherArch++
		case requested.FitsIn(a.Available, a.Occupied):
			t.Fit++
		default:
			short := false
			for name, amount := range requested.All() {
				n, free := slots[name], a.Available.Get(name).Sub(a.Occupied.Get(name))
				if amount.LessEq(free) {
					continue
				}
				if n.short == 0 || n.best.Less(free) {
					n.best = free
				}
				n.short++
				short = true
			}
			if !short {
				t.Overdrawn++
			}
		}
	}
	for name, amount := range requested.All() {
		if n := slots[name]; n.short > 0 {
			t.Slots = append(t.Slots, SlotTest{Slot: name, Requested: amount, Short: n.short, BestFree: n.best})
		}
	}
	return t, never && len(c.order) > 0
}
