package scheduler

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// The texts of status_info that an attempt leaves (spec/scheduling-lifecycle §5.2).
const (
	infoPredicates = "predicate-checks-failed"
	infoNoAgent    = "no-available-instances"
)

// lastTryFormat is UTC with microseconds, as status_data has it.
const lastTryFormat = "2006-01-02T15:04:05.000000+00:00"

// Pass looks at the queue once, as spec/scheduling-lifecycle §6.3 has it: sessions
// that fail a predicate are recorded and passed over; the first that passes them
// all but fits nowhere ends the pass and holds up those behind it. The error tells
// of an unknown policy; the queue then stays as it is.
func (c *Core) Pass(now time.Time) ([]Effect, error) {
	effects, err := c.pass(now)
	c.foreseen = len(effects)
	c.record.add(passed{}, now, effects, err)
	return effects, err
}

func (c *Core) pass(now time.Time) ([]Effect, error) {
	c.due = false
	c.passTime(now)
	effects := append(make([]Effect, 0, c.foreseen), c.timeOuts(now)...)
	c.unparkDue(now)
	if c.held != nil {
		held, err := c.placeHeld(now)
		if effects = append(effects, held...); err != nil {
			return c.appendBooks(effects), err
		}
	}
	var told *pending // the head, unless something has happened since that could help it
	if c.Policy.Options.Backfill {
		if c.blocked {
			told = c.holdsUp
		}
		c.blocked = false
	}
	policy, err := c.policyOf(now)
	if err != nil {
		return c.appendBooks(effects), err
	}
	lastTry := now.UTC().Format(lastTryFormat)
	for p := policy.pick(c); p != nil; p = policy.pick(c) {
		v := c.evaluate(p, now)
		if len(v.failed) > 0 {
			effects = append(effects, c.failed(p, v, now, lastTry))
			continue
		}
		placement, obstacle := c.placeUnheld(policy, p, now)
		if obstacle != nil && c.reservation != nil {
			if placement = c.redeem(p, now); placement != nil {
				obstacle = nil
				assign(policy, p)
			}
		}
		if obstacle != nil {
			if p.leads != nil {
				c.followUp(p)
			}
			c.note(p, finding{at: momentOf(now), obstacle: obstacle})
			if p != told {
				attempt := protocol.SchedulerData{LastTry: lastTry, Failed: v.failed, Passed: v.passed, Msg: obstacle.text}
				effects = append(effects, c.report(p, attempt, infoNoAgent, obstacle.kernel))
			}
			c.blocked, c.holdsUp = true, p
			effects = append(effects, c.behind(policy, p, now, lastTry)...)
			break
		}
		c.reserve(p, placement, now)
		effects = append(effects, Place{SessionID: p.ID, Placement: placement})
	}
	if !c.blocked {
		c.reservation = nil
	}
	c.due = false
	return c.appendBooks(effects), nil
}

// failed records the predicates that a session does not pass, and lays it aside.
func (c *Core) failed(p *pending, v verdict, now time.Time, lastTry string) Effect {
	c.note(p, finding{at: momentOf(now), failing: v.failing})
	effect := c.report(p, protocol.SchedulerData{LastTry: lastTry, Failed: v.failed, Passed: v.passed}, infoPredicates, uuid.Nil)
	c.park(p, v.wait, v.where)
	if p.leads != nil {
		c.followUp(p)
	}
	return effect
}

// note keeps what a look at a session has found, and since when it has been that.
func (c *Core) note(p *pending, f finding) {
	f.changes, f.since = c.changes, f.at
	if p.found.at != 0 && p.found.alike(f) {
		f.since = p.found.since
	}
	p.found = f
}

// alike tells whether two findings are of the same kinds, whatever the numbers.
func (f finding) alike(g finding) bool {
	if (f.obstacle == nil) != (g.obstacle == nil) || f.obstacle != nil && f.obstacle.kind != g.obstacle.kind {
		return false
	}
	return f.failing == g.failing
}

func (c *Core) report(p *pending, d protocol.SchedulerData, info string, kernel uuid.UUID) Effect {
	c.unready(p)
	p.Retries++
	c.ready(p)
	d.Retries = p.Retries
	return Report{SessionID: p.ID, Attempt: protocol.Attempt{StatusInfo: &info, Scheduler: d, KernelID: kernel}}
}

// timeOuts ends the wait of sessions older than the group's pending_timeout. A
// group without a live agent is not visited by the original; neither do we.
func (c *Core) timeOuts(now time.Time) (effects []Effect) {
	if c.Policy.PendingTimeout <= 0 || c.alive == 0 {
		return nil
	}
	for {
		p, ok := c.queue.Min()
		if !ok || now.Sub(p.CreatedAt) < c.Policy.PendingTimeout {
			return effects
		}
		c.forget(p)
		effects = append(effects, TimeOut{SessionID: p.ID})
	}
}

// obstacle is why a session could not be placed, and at which of its kernels (zero: the session).
type obstacle struct {
	kind   ReasonKind
	text   string
	kernel uuid.UUID
	agent  string // designated
	short  []Shortage
	delay  *Delay // whom it would delay
}

// place finds an agent for every kernel and changes nothing.
func (c *Core) place(policy policy, p *pending, now time.Time) (*protocol.Placement, *obstacle) {
	placement := &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now, Kernels: make([]protocol.KernelPlacement, 0, len(p.Kernels))}
	if p.ClusterMode == backendai.MultiNode && len(p.Kernels) > 1 {
		return placement, c.placeEach(policy, p, placement)
	}
	return placement, c.placeTogether(policy, p, placement)
}

// placeTogether puts all kernels of a single-node session on one agent (spec/scheduling-lifecycle §6.5).
func (c *Core) placeTogether(policy policy, p *pending, placement *protocol.Placement) *obstacle {
	first := p.Kernels[0]
	for _, k := range p.Kernels[1:] {
		if k.Architecture != first.Architecture {
			return &obstacle{kind: MixesArchitectures, text: "Cannot assign multiple kernels with different architectureon single node session"}
		}
	}
	agent, problem := c.designated(first.Agent, p.requested, p.requested)
	if first.Agent == "" {
		if !c.index.has(first.Architecture) {
			return &obstacle{kind: WaitsForAgent, text: fmt.Sprintf("No agents found to be compatible with the image acrhitecture (image[0]: %s, arch: %s)", first.Image, first.Architecture)}
		}
		if len(c.nowhere) == 0 || !c.nowhere[c.sizeOf(p)] {
			agent = policy.choose(c.index, first.Architecture, p.requested)
		}
		if agent == nil {
			c.nowhere[c.sizeOf(p)] = true
			return &obstacle{kind: WaitsForAgent, text: fmt.Sprintf("Could not find a contiguous resource region in any agent big enough to host the session (%s)", p.ID)}
		}
		policy.assigned(p, p.requested)
	}
	if problem != nil {
		return problem
	}
	for _, k := range p.Kernels {
		placement.Kernels = append(placement.Kernels, protocol.KernelPlacement{KernelID: k.ID, Agent: agent.ID, Addr: agent.Addr})
	}
	return nil
}

// placeEach puts each kernel of a multi-node session on an agent of its own choice (spec/scheduling-lifecycle §6.6).
// Kernels placed before count as taken for those after; all is undone before it returns.
func (c *Core) placeEach(policy policy, p *pending, placement *protocol.Placement) *obstacle {
	before := make(map[*Agent]backendai.ResourceSlots)
	defer func() {
		for a, occupied := range before {
			c.occupy(a, occupied)
		}
	}()
	for _, k := range p.Kernels {
		agent, problem := c.designated(k.Agent, k.Slots, p.requested)
		if k.Agent == "" {
			if !c.index.has(k.Architecture) {
				return &obstacle{kind: WaitsForGang, kernel: k.ID, text: fmt.Sprintf("No agents found to be compatible with the image acrhitecture (image: %s, arch: %s)", k.Image, k.Architecture)}
			}
			if agent = policy.choose(c.index, k.Architecture, k.Slots); agent == nil {
				return &obstacle{kind: WaitsForGang, kernel: k.ID, text: fmt.Sprintf("Could not find a contiguous resource region in any agent big enough to host a kernel in the session (%s)", p.ID)}
			}
		}
		if problem != nil {
			problem.kernel = k.ID
			return problem
		}
		if _, ok := before[agent]; !ok {
			before[agent] = agent.Occupied
		}
		c.occupy(agent, agent.Occupied.Add(k.Slots))
		placement.Kernels = append(placement.Kernels, protocol.KernelPlacement{KernelID: k.ID, Agent: agent.ID, Addr: agent.Addr})
	}
	for _, k := range p.Kernels {
		if k.Agent == "" {
			policy.assigned(p, k.Slots)
		}
	}
	return nil
}

// designated checks the agent that a superadmin has named. Only its capacity
// counts, not what is taken of it: an administrator may over-commit.
func (c *Core) designated(id string, need, shown backendai.ResourceSlots) (*Agent, *obstacle) {
	if id == "" {
		return nil, nil
	}
	a := c.agents[id]
	if a == nil {
		return nil, &obstacle{kind: WaitsForDesignated, agent: id, text: fmt.Sprintf("No such agent: %s", id)}
	}
	for name, amount := range a.Available.All() {
		if !need.Get(name).LessEq(amount) {
			return nil, &obstacle{kind: WaitsForDesignated, agent: id, short: shortOf(backendai.ResourceSlots{}, need, a.Available), text: fmt.Sprintf("The designated agent (%s) does not have the enough remaining capacity (%s, requested: %s, available: %s).",
				id, name, shown.Get(name), amount)}
		}
	}
	return a, nil
}

// reserve takes the slots of a placement and keeps the session aside until it has committed.
func (c *Core) reserve(p *pending, placement *protocol.Placement, now time.Time) {
	for i, k := range p.Kernels {
		c.allocate(&protocol.Allocation{
			SessionID: p.ID, KernelID: k.ID, Agent: placement.Kernels[i].Agent, Slots: k.Slots, Main: i == 0,
			AccessKey: p.AccessKey, GroupID: p.GroupID, DomainName: p.DomainName, CountsForUser: true, Wishes: p.Wishes, Placed: now,
		})
	}
	c.changes++
	p.placing, p.placedAt = placement, momentOf(now)
	c.placing[p.ID] = p
	c.dequeue(p)
}
