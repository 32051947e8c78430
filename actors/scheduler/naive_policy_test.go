package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Pass looks at the queue once, as spec/scheduling-lifecycle §6.3 has it: sessions
// that fail a predicate are recorded and passed over; the first that passes them
// all but fits nowhere ends the pass and holds up those behind it. The error tells
// of an unknown policy; the queue then stays as it is.
func (c *naiveCore) Pass(now time.Time) ([]Effect, error) {
	c.due, c.at = false, now
	effects := c.timeOuts(now)
	effects = append(effects, c.placeHeld(now)...)
	c.blocked = c.blocked && !c.Policy.Options.Backfill
	policy, err := c.policyOf()
	if err != nil {
		return append(effects, c.Books()...), err
	}
	candidates := make([]*naivePending, 0, len(c.queue))
	for _, p := range c.queue {
		if !p.parked {
			candidates = append(candidates, p)
		}
	}
	for len(candidates) > 0 {
		at := policy.pick(candidates)
		p := candidates[at]
		candidates = append(candidates[:at], candidates[at+1:]...)
		passed, failed := c.evaluate(p, now)
		attempt := protocol.SchedulerData{LastTry: now.UTC().Format(lastTryFormat), Failed: failed, Passed: passed}
		if len(failed) > 0 {
			p.parked = true
			effects = append(effects, c.report(p, attempt, infoPredicates, uuid.Nil))
			continue
		}
		placement, obstacle := c.placeUnheld(policy, p, now)
		if r := c.reservation; obstacle != nil && r != nil && r.head == p.ID && !p.together() && c.fitsAs(p, r.kernels) {
			placement, obstacle = &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now, Kernels: r.kernels}, nil
			assignNaive(policy, p)
		}
		if obstacle != nil {
			attempt.Msg = obstacle.text
			effects = append(effects, c.report(p, attempt, infoNoAgent, obstacle.kernel))
			c.blocked = true
			effects = append(effects, c.behind(policy, p, candidates, now)...)
			break
		}
		c.reserve(p, placement, now)
		effects = append(effects, Place{SessionID: p.ID, Placement: placement})
	}
	if !c.blocked {
		c.reservation = nil
	}
	return append(effects, c.Books()...), nil
}

func (c *naiveCore) report(p *naivePending, d protocol.SchedulerData, info string, kernel uuid.UUID) Effect {
	p.Retries++
	d.Retries = p.Retries
	return Report{SessionID: p.ID, Attempt: protocol.Attempt{StatusInfo: &info, Scheduler: d, KernelID: kernel}}
}

// timeOuts ends the wait of sessions older than the group's pending_timeout. A
// group without a live agent is not visited by the original; neither do we.
func (c *naiveCore) timeOuts(now time.Time) (effects []Effect) {
	if c.Policy.PendingTimeout <= 0 || !c.anyAlive() {
		return nil
	}
	for i := 0; i < len(c.queue); {
		p := c.queue[i]
		if now.Sub(p.CreatedAt) < c.Policy.PendingTimeout {
			break // the queue is ordered by age
		}
		c.forget(p)
		effects = append(effects, TimeOut{SessionID: p.ID})
	}
	return effects
}

func (c *naiveCore) anyAlive() bool {
	for _, a := range c.agents {
		if a.Alive {
			return true
		}
	}
	return false
}

func (c *naiveCore) candidates() []*naiveAgent {
	list := make([]*naiveAgent, 0, len(c.order))
	for _, id := range c.order {
		if a := c.agents[id]; a.candidate() {
			list = append(list, a)
		}
	}
	return list
}

// place finds an agent for every kernel and changes nothing.
func (c *naiveCore) place(policy naivePolicy, p *naivePending, now time.Time) (*protocol.Placement, *obstacle) {
	placement := &protocol.Placement{SessionID: p.ID, ScalingGroup: c.Group, Now: now}
	if p.ClusterMode == backendai.MultiNode && len(p.Kernels) > 1 {
		return placement, c.placeEach(policy, p, placement)
	}
	return placement, c.placeTogether(policy, p, placement)
}

// placeTogether puts all kernels of a single-node session on one agent (spec/scheduling-lifecycle §6.5).
func (c *naiveCore) placeTogether(policy naivePolicy, p *naivePending, placement *protocol.Placement) *obstacle {
	first := p.Kernels[0]
	for _, k := range p.Kernels[1:] {
		if k.Architecture != first.Architecture {
			return &obstacle{text: "Cannot assign multiple kernels with different architectureon single node session"}
		}
	}
	agent, problem := c.designated(first.Agent, p.requested, p.requested)
	if first.Agent == "" {
		compatible := withArchitecture(c.candidates(), first.Architecture)
		if len(compatible) == 0 {
			return &obstacle{text: fmt.Sprintf("No agents found to be compatible with the image acrhitecture (image[0]: %s, arch: %s)", first.Image, first.Architecture)}
		}
		if agent = policy.choose(compatible, p.requested); agent == nil {
			return &obstacle{text: fmt.Sprintf("Could not find a contiguous resource region in any agent big enough to host the session (%s)", p.ID)}
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
func (c *naiveCore) placeEach(policy naivePolicy, p *naivePending, placement *protocol.Placement) *obstacle {
	before := make(map[*naiveAgent]backendai.ResourceSlots)
	defer func() {
		for a, occupied := range before {
			a.Occupied = occupied
		}
	}()
	candidates := c.candidates()
	for _, k := range p.Kernels {
		agent, problem := c.designated(k.Agent, k.Slots, p.requested)
		if k.Agent == "" {
			compatible := withArchitecture(candidates, k.Architecture)
			if len(compatible) == 0 {
				return &obstacle{kernel: k.ID, text: fmt.Sprintf("No agents found to be compatible with the image acrhitecture (image: %s, arch: %s)", k.Image, k.Architecture)}
			}
			if agent = policy.choose(compatible, k.Slots); agent == nil {
				return &obstacle{kernel: k.ID, text: fmt.Sprintf("Could not find a contiguous resource region in any agent big enough to host a kernel in the session (%s)", p.ID)}
			}
		}
		if problem != nil {
			problem.kernel = k.ID
			return problem
		}
		if _, ok := before[agent]; !ok {
			before[agent] = agent.Occupied
		}
		agent.Occupied = agent.Occupied.Add(k.Slots)
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
func (c *naiveCore) designated(id string, need, shown backendai.ResourceSlots) (*naiveAgent, *obstacle) {
	if id == "" {
		return nil, nil
	}
	a := c.agents[id]
	if a == nil {
		return nil, &obstacle{text: fmt.Sprintf("No such agent: %s", id)}
	}
	for name, amount := range a.Available.All() {
		if !need.Get(name).LessEq(amount) {
			return nil, &obstacle{text: fmt.Sprintf("The designated agent (%s) does not have the enough remaining capacity (%s, requested: %s, available: %s).",
				id, name, shown.Get(name), amount)}
		}
	}
	return a, nil
}

func withArchitecture(agents []*naiveAgent, arch string) []*naiveAgent {
	list := make([]*naiveAgent, 0, len(agents))
	for _, a := range agents {
		if a.Architecture == arch {
			list = append(list, a)
		}
	}
	return list
}

// reserve takes the slots of a placement and keeps the session aside until it has committed.
func (c *naiveCore) reserve(p *naivePending, placement *protocol.Placement, now time.Time) {
	for i, k := range p.Kernels {
		c.allocate(&protocol.Allocation{
			SessionID: p.ID, KernelID: k.ID, Agent: placement.Kernels[i].Agent, Slots: k.Slots, Main: i == 0,
			AccessKey: p.AccessKey, GroupID: p.GroupID, DomainName: p.DomainName, CountsForUser: true, Wishes: p.Wishes, Placed: now,
		})
	}
	p.placing, p.placedAt = placement, now
	c.dequeue(p)
}

// policy is the difference between the original's schedulers: which session is
// looked at next, and which of the fitting agents takes it (spec/scheduling-lifecycle §9).
type naivePolicy interface {
	// pick chooses among candidates, oldest first and not empty.
	pick(candidates []*naivePending) int
	// choose returns the agent for a request, nil if none fits. Agents come in order of id.
	choose(agents []*naiveAgent, requested backendai.ResourceSlots) *naiveAgent
	// assigned tells that a request of an owner has got an agent.
	assigned(p *naivePending, requested backendai.ResourceSlots)
}

// policyOf makes the policy for one pass. An unknown name is an error that the
// shell logs; the queue then waits.
func (c *naiveCore) policyOf() (naivePolicy, error) {
	p, err := c.plainPolicyOf()
	if err != nil {
		return nil, err
	}
	switch c.Policy.Options.Placement {
	case "spread":
		p = naivePlacement{p, false}
	case "pack":
		p = naivePlacement{p, true}
	}
	return &naiveOrder{p, c}, nil
}

// naiveOrder lets higher priorities go first, then who has used least, then whom the policy takes.
type naiveOrder struct {
	naivePolicy
	core *naiveCore
}

func (o *naiveOrder) pick(candidates []*naivePending) int {
	left := make([]int, len(candidates))
	for i := range left {
		left[i] = i
	}
	// the ones whose worth is the least of all
	keep := func(worth func(p *naivePending) float64) {
		best := math.Inf(1)
		var kept []int
		for _, i := range left {
			switch w := worth(candidates[i]); {
			case w < best:
				best, kept = w, []int{i}
			case w == best:
				kept = append(kept, i)
			}
		}
		left = kept
	}
	if o.core.Policy.Options.Priority {
		keep(func(p *naivePending) float64 { return -float64(p.Wishes.Priority) })
	}
	if o.core.Policy.Options.FairShareHalfLife > 0 {
		uses := map[string]float64{}
		keep(func(p *naivePending) float64 {
			if _, ok := uses[p.AccessKey]; !ok {
				uses[p.AccessKey] = o.core.use(p.AccessKey)
			}
			return uses[p.AccessKey]
		})
	}
	among := make([]*naivePending, len(left))
	for i, at := range left {
		among[i] = candidates[at]
	}
	return left[o.naivePolicy.pick(among)]
}

// naiveUse is one container's time.
type naiveUse struct {
	owner      string
	slots      backendai.ResourceSlots
	start, end time.Time // end is zero while it lasts
}

// use adds all of the past up.
func (c *naiveCore) use(owner string) (share float64) {
	h := c.Policy.Options.FairShareHalfLife.Seconds()
	left := func(at time.Time) float64 { return math.Pow(0.5, c.at.Sub(at).Seconds()/h) }
	sums := map[backendai.SlotName]float64{}
	for _, u := range c.past {
		end := u.end
		if end.IsZero() {
			end = c.at
		}
		for name, amount := range u.slots.All() {
			if u.owner == owner {
				sums[name] += amount.Float64() * h / math.Ln2 * (left(end) - left(u.start))
			}
		}
	}
	var total backendai.ResourceSlots
	for _, a := range c.candidates() {
		total = total.Add(a.Available)
	}
	for name, sum := range sums {
		if capacity := total.Get(name); capacity.Sign() > 0 {
			share = max(share, sum/capacity.Float64())
		}
	}
	return math.Round(share/useUnit) * useUnit
}

// began and ended note a container's time.
func (c *naiveCore) began(kernel uuid.UUID, owner string, slots backendai.ResourceSlots) {
	u := &naiveUse{owner: owner, slots: slots, start: c.at}
	c.past, c.using[kernel] = append(c.past, u), u
}

func (c *naiveCore) ended(kernel uuid.UUID) {
	if u := c.using[kernel]; u != nil {
		u.end = c.at
	}
}

// naivePlacement looks at every agent.
type naivePlacement struct {
	naivePolicy
	pack bool
}

func (n naivePlacement) choose(agents []*naiveAgent, requested backendai.ResourceSlots) (best *naiveAgent) {
	var share float64
	for _, a := range agents {
		if !requested.FitsIn(a.Available, a.Occupied) {
			continue
		}
		if s := usedShare(a.Available, a.Occupied, requested); best == nil || n.pack && s > share || !n.pack && s < share {
			best, share = a, s
		}
	}
	return best
}

func (c *naiveCore) plainPolicyOf() (naivePolicy, error) {
	switch c.Policy.Name {
	case "fifo", "":
		return naiveFIFO{skip: c.Policy.RetriesToSkip}, nil
	case "lifo":
		return naiveLIFO{}, nil
	case "mof":
		return naiveMOF{}, nil
	case "drf":
		return c.newDRF(), nil
	}
	return nil, fmt.Errorf("scaling group %s: no scheduler is called %q; the schedulers are naiveFIFO, naiveLIFO, drf and mof", c.Group, c.Policy.Name)
}

// fifo takes the oldest. With skip > 0, one that has failed skip times lets the others go first.
type naiveFIFO struct{ skip int }

func (f naiveFIFO) pick(candidates []*naivePending) int {
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
func (naiveFIFO) choose(agents []*naiveAgent, requested backendai.ResourceSlots) *naiveAgent {
	var best *naiveAgent
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

func (naiveFIFO) assigned(*naivePending, backendai.ResourceSlots) {}

// lifo takes the newest.
type naiveLIFO struct{ naiveFIFO }

func (naiveLIFO) pick(candidates []*naivePending) int { return len(candidates) - 1 }

// mof takes the oldest and puts it where least is taken, in absolute amounts.
type naiveMOF struct{ naiveFIFO }

func (naiveMOF) pick([]*naivePending) int { return 0 }

func (naiveMOF) choose(agents []*naiveAgent, requested backendai.ResourceSlots) *naiveAgent {
	var best *naiveAgent
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
type naiveDRF struct {
	total  backendai.ResourceSlots
	shares map[string]float64 // by access key
}

func (c *naiveCore) newDRF() *naiveDRF {
	d := &naiveDRF{shares: make(map[string]float64)}
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

func (d *naiveDRF) raise(owner string, slots backendai.ResourceSlots) {
	for name, amount := range slots.All() {
		if capacity := d.total.Get(name); !capacity.IsZero() {
			d.shares[owner] = max(d.shares[owner], amount.Float64()/capacity.Float64())
		}
	}
}

func (d *naiveDRF) pick(candidates []*naivePending) int {
	best := 0
	for i, p := range candidates {
		if d.shares[p.AccessKey] < d.shares[candidates[best].AccessKey] {
			best = i
		}
	}
	return best
}

func (d *naiveDRF) choose(agents []*naiveAgent, requested backendai.ResourceSlots) *naiveAgent {
	var best *naiveAgent
	for _, a := range agents {
		if requested.FitsIn(a.Available, a.Occupied) && (best == nil || a.Available.Greater(best.Available)) {
			best = a
		}
	}
	return best
}

func (d *naiveDRF) assigned(p *naivePending, requested backendai.ResourceSlots) {
	d.raise(p.AccessKey, requested)
}

type naivePredicate struct {
	name  string
	check func(c *naiveCore, p *naivePending, now time.Time) string
}

// In the order in which they are recorded. All are evaluated; the first failure does not end it.
var naivePredicates = []naivePredicate{
	{"reserved_time", naiveReservedTime},
	{"concurrency", naiveConcurrency},
	{"dependencies", naiveDependencies},
	{"keypair_resource_limit", naiveKeypairLimit},
	{"user_group_resource_limit", naiveGroupLimit},
	{"domain_resource_limit", naiveDomainLimit},
	{"scaling_group_resource_limit", naiveScalingGroupAccess},
}

func (c *naiveCore) evaluate(p *naivePending, now time.Time) (passed []protocol.PredicateName, failed []protocol.PredicateFailure) {
	passed, failed = []protocol.PredicateName{}, []protocol.PredicateFailure{}
	for _, pr := range naivePredicates {
		if msg := pr.check(c, p, now); msg != "" {
			failed = append(failed, protocol.PredicateFailure{Name: pr.name, Msg: msg})
		} else {
			passed = append(passed, protocol.PredicateName{Name: pr.name})
		}
	}
	return passed, failed
}

func naiveReservedTime(_ *naiveCore, p *naivePending, now time.Time) string {
	if p.Type == backendai.Batch && p.StartsAt != nil && now.Before(*p.StartsAt) {
		return "Before start time"
	}
	return ""
}

func naiveConcurrency(c *naiveCore, p *naivePending, _ time.Time) string {
	limit := p.Limits.MaxConcurrentSessions
	if limit > 0 && naiveUsed(c.keys, p.AccessKey).sessions >= limit {
		return fmt.Sprintf("You cannot run more than %d concurrent sessions", limit)
	}
	return ""
}

func naiveDependencies(_ *naiveCore, p *naivePending, _ time.Time) string {
	var open []string
	for _, d := range p.DependsOn {
		if !d.Success {
			open = append(open, fmt.Sprintf("%s (%s)", d.Name, d.ID))
		}
	}
	if len(open) == 0 {
		return ""
	}
	return fmt.Sprintf("Waiting dependency sessions to finish as success. (%s)", strings.Join(open, ", "))
}

func naiveKeypairLimit(c *naiveCore, p *naivePending, _ time.Time) string {
	return naiveOverQuota(c, "keypair", naiveUsed(c.keys, p.AccessKey), p.requested, p.Limits.Keypair)
}

func naiveGroupLimit(c *naiveCore, p *naivePending, _ time.Time) string {
	return naiveOverQuota(c, "group", naiveUsed(c.groups, p.GroupID), p.requested, p.Limits.Group)
}

func naiveDomainLimit(c *naiveCore, p *naivePending, _ time.Time) string {
	return naiveOverQuota(c, "domain", naiveUsed(c.domains, p.DomainName), p.requested, p.Limits.Domain)
}

func naiveOverQuota(c *naiveCore, scope string, u naiveUsage, requested, limit backendai.ResourceSlots) string {
	if u.slots.Normalize(c.Known).Add(requested).LessEq(limit) {
		return ""
	}
	return fmt.Sprintf("Your %s resource quota is exceeded. (%s)", scope, limit.Humanized(c.Known))
}

// naiveScalingGroupAccess checks rights, not resources, despite the name it is recorded under.
func naiveScalingGroupAccess(c *naiveCore, p *naivePending, _ time.Time) string {
	if len(p.Limits.ScalingGroups) == 0 {
		return "You do not have any scaling groups allowed to use."
	}
	types, ok := p.Limits.ScalingGroups[c.Group]
	switch {
	case !ok:
		return fmt.Sprintf("You do not have access to the scaling group '%s'.", c.Group)
	case !slices.Contains(types, p.Type):
		// The space at the end is the original's.
		return fmt.Sprintf("The scaling group '%s' does not accept the session type '%s'. ", c.Group, p.Type)
	}
	return ""
}
