package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// predicate is a condition under which a session may be placed at all. It returns
// nil or what stands in the way, and that in the words clients know (spec/scheduling-lifecycle §8).
type predicate struct {
	name  string
	check func(c *Core, p *pending, now time.Time) (*Reason, string)
	wait  parking
	kind  scopeKind
}

// In the order in which they are recorded. All are evaluated; the first failure does not end it.
var predicates = []predicate{
	{"reserved_time", reservedTime, forClock, 0},
	{"concurrency", concurrency, forQuota, concurrencyScope},
	{"dependencies", dependencies, forSession, 0},
	{"keypair_resource_limit", keypairLimit, forQuota, keypairScope},
	{"user_group_resource_limit", groupLimit, forQuota, groupScope},
	{"domain_resource_limit", domainLimit, forQuota, domainScope},
	{"scaling_group_resource_limit", scalingGroupAccess, forAccess, 0},
}

// allPassed is what is recorded of a session that is only short of an agent.
var allPassed = func() (names []protocol.PredicateName) {
	for _, pr := range predicates {
		names = append(names, protocol.PredicateName{Name: pr.name})
	}
	return names
}()

// evaluate checks all predicates. Where any fails, it also tells what to wait for: rather what only
// concerns this session than a quota, which it would wait for in a crowd.
func (c *Core) evaluate(p *pending, now time.Time) (v verdict) {
	for i, pr := range predicates {
		reason, msg := pr.check(c, p, now)
		if reason == nil {
			if v.failed != nil {
				v.passed = append(v.passed, allPassed[i])
			}
			continue
		}
		if v.failed == nil {
			v.passed = append(make([]protocol.PredicateName, 0, len(predicates)), allPassed[:i]...)
		}
		v.failed = append(v.failed, protocol.PredicateFailure{Name: pr.name, Msg: msg})
		v.reasons = append(v.reasons, *reason)
		v.failing |= 1 << i
		if reason.Kind == WaitsForType {
			v.failing |= ofType
		}
		if v.wait == notParked || v.wait == forQuota && pr.wait != forQuota {
			v.wait, v.where = pr.wait, scopeOf(p, pr.kind)
		}
	}
	if v.failed == nil {
		v.passed, v.failed = allPassed, []protocol.PredicateFailure{}
	}
	return v
}

// failing has a bit for each of the predicates that a session fails, in their order.
type failing uint16

// ofType is also set where the access fails for the session's type.
const ofType failing = 1 << 15

// verdict is what the predicates say of a session.
type verdict struct {
	passed  []protocol.PredicateName
	failed  []protocol.PredicateFailure
	reasons []Reason // one for each that failed
	failing failing
	wait    parking
	where   scope
}

func scopeOf(p *pending, kind scopeKind) scope {
	switch kind {
	case concurrencyScope, keypairScope:
		return scope{kind: kind, name: p.AccessKey}
	case groupScope:
		return scope{kind: kind, group: p.GroupID}
	case domainScope:
		return scope{kind: kind, name: p.DomainName}
	}
	return scope{}
}

// limitOf is a session's limit of slots in one scope.
func limitOf(p *pending, kind scopeKind) (limit backendai.ResourceSlots) {
	switch kind {
	case keypairScope:
		limit = p.Limits.Keypair
	case groupScope:
		limit = p.Limits.Group
	case domainScope:
		limit = p.Limits.Domain
	}
	return limit
}

// within tells whether one quota has room for a session now.
func (c *Core) within(p *pending, kind scopeKind) bool {
	if kind == concurrencyScope {
		limit := p.Limits.MaxConcurrentSessions
		return limit <= 0 || used(c.keys, p.AccessKey).sessions < limit
	}
	return fitsQuota(c.usageOf(scopeOf(p, kind)).taken(), p.requested, limitOf(p, kind), c.Known)
}

// fitsQuota tells used (only what is known of it) + requested ≤ limit, without building the sum.
func fitsQuota(used tally, requested, limit backendai.ResourceSlots, known *backendai.KnownSlots) bool {
	for _, name := range known.Names() {
		if !atMost(used.get(name).Add(requested.Get(name)), limit.Get(name)) {
			return false
		}
	}
	for name, amount := range requested.All() {
		if _, ok := known.Type(name); !ok && !atMost(amount, limit.Get(name)) {
			return false
		}
	}
	for name, amount := range limit.All() {
		if _, ok := known.Type(name); !ok && !atMost(requested.Get(name), amount) {
			return false
		}
	}
	return true
}

// atMost is ≤ with a short way for the limit that most have.
func atMost(amount, limit backendai.Decimal) bool {
	return limit.IsInf() && amount.IsFinite() || amount.LessEq(limit)
}

func reservedTime(_ *Core, p *pending, now time.Time) (*Reason, string) {
	if p.Type == backendai.Batch && p.StartsAt != nil && now.Before(*p.StartsAt) {
		return &Reason{Kind: WaitsForStart, StartsAt: p.StartsAt}, "Before start time"
	}
	return nil, ""
}

func concurrency(c *Core, p *pending, _ time.Time) (*Reason, string) {
	if c.within(p, concurrencyScope) {
		return nil, ""
	}
	limit := p.Limits.MaxConcurrentSessions
	return &Reason{Kind: WaitsForSlot, Scope: &Scope{"keypair", p.AccessKey}, Sessions: &SessionCount{used(c.keys, p.AccessKey).sessions, limit}},
		fmt.Sprintf("You cannot run more than %d concurrent sessions", limit)
}

func dependencies(_ *Core, p *pending, _ time.Time) (*Reason, string) {
	var open []string
	var r *Reason
	for _, d := range p.DependsOn {
		if d.Success {
			continue
		}
		if r == nil {
			r = &Reason{Kind: WaitsForDependency}
		}
		never := slices.Contains(p.Unmeetable, d.ID)
		r.Never = r.Never || never
		r.Dependencies = append(r.Dependencies, UnmetDependency{d.ID, d.Name, never})
		open = append(open, fmt.Sprintf("%s (%s)", d.Name, d.ID))
	}
	if r == nil {
		return nil, ""
	}
	return r, fmt.Sprintf("Waiting dependency sessions to finish as success. (%s)", strings.Join(open, ", "))
}

func keypairLimit(c *Core, p *pending, _ time.Time) (*Reason, string) {
	return overQuota(c, p, keypairScope, "keypair", p.AccessKey)
}

func groupLimit(c *Core, p *pending, _ time.Time) (*Reason, string) {
	if c.within(p, groupScope) { // the name costs
		return nil, ""
	}
	return overQuota(c, p, groupScope, "group", p.GroupID.String())
}

func domainLimit(c *Core, p *pending, _ time.Time) (*Reason, string) {
	return overQuota(c, p, domainScope, "domain", p.DomainName)
}

func overQuota(c *Core, p *pending, kind scopeKind, word, name string) (*Reason, string) {
	if c.within(p, kind) {
		return nil, ""
	}
	limit := limitOf(p, kind)
	short := shortOf(c.usageOf(scopeOf(p, kind)).taken().resourceSlots().Normalize(c.Known), p.requested, limit)
	r := &Reason{Kind: WaitsForQuota, Scope: &Scope{word, name}, Short: short}
	for _, s := range short {
		r.Never = r.Never || !s.Requested.LessEq(s.Limit)
	}
	return r, fmt.Sprintf("Your %s resource quota is exceeded. (%s)", word, limit.Humanized(c.Known))
}

// shortOf lists the slots in which used + requested exceeds the limit.
func shortOf(used, requested, limit backendai.ResourceSlots) (list []Shortage) {
	sum := used.Add(requested)
	for _, name := range sum.Exceeding(limit) {
		list = append(list, Shortage{Slot: name, Used: used.Get(name), Limit: limit.Get(name), Requested: requested.Get(name),
			Missing: sum.Get(name).Sub(limit.Get(name))})
	}
	return list
}

// scalingGroupAccess checks rights, not resources, despite the name it is recorded under.
func scalingGroupAccess(c *Core, p *pending, _ time.Time) (*Reason, string) {
	if len(p.Limits.ScalingGroups) == 0 {
		return &Reason{Kind: WaitsForAccess, Scope: &Scope{"scaling-group", c.Group}}, "You do not have any scaling groups allowed to use."
	}
	types, ok := p.Limits.ScalingGroups[c.Group]
	switch {
	case !ok:
		return &Reason{Kind: WaitsForAccess, Scope: &Scope{"scaling-group", c.Group}}, fmt.Sprintf("You do not have access to the scaling group '%s'.", c.Group)
	case !slices.Contains(types, p.Type):
		// The space at the end is the original's.
		return &Reason{Kind: WaitsForType, Scope: &Scope{"scaling-group", c.Group}, SessionType: p.Type, AllowedTypes: types},
			fmt.Sprintf("The scaling group '%s' does not accept the session type '%s'. ", c.Group, p.Type)
	}
	return nil, ""
}
