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
// "" or what stands in the way, in the words clients know (spec/scheduling-lifecycle §8).
type predicate struct {
	name  string
	check func(c *Core, p *pending, now time.Time) string
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
func (c *Core) evaluate(p *pending, now time.Time) (passed []protocol.PredicateName, failed []protocol.PredicateFailure, wait parking, where scope) {
	for i, pr := range predicates {
		msg := pr.check(c, p, now)
		if msg == "" {
			if failed != nil {
				passed = append(passed, allPassed[i])
			}
			continue
		}
		if failed == nil {
			passed = append(make([]protocol.PredicateName, 0, len(predicates)), allPassed[:i]...)
		}
		failed = append(failed, protocol.PredicateFailure{Name: pr.name, Msg: msg})
		if wait == notParked || wait == forQuota && pr.wait != forQuota {
			wait, where = pr.wait, scopeOf(p, pr.kind)
		}
	}
	if failed == nil {
		return allPassed, []protocol.PredicateFailure{}, notParked, scope{}
	}
	return passed, failed, wait, where
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

// usedOf is what is taken of a quota.
func (c *Core) usedOf(where scope) (slots backendai.ResourceSlots) {
	switch where.kind {
	case keypairScope:
		slots = used(c.keys, where.name).slots
	case groupScope:
		slots = used(c.groups, where.group).slots
	case domainScope:
		slots = used(c.domains, where.name).slots
	}
	return slots
}

// within tells whether one quota has room for a session now.
func (c *Core) within(p *pending, kind scopeKind) bool {
	if kind == concurrencyScope {
		limit := p.Limits.MaxConcurrentSessions
		return limit <= 0 || used(c.keys, p.AccessKey).sessions < limit
	}
	return fitsQuota(c.usedOf(scopeOf(p, kind)), p.requested, limitOf(p, kind), c.Known)
}

// fitsQuota tells used (only what is known of it) + requested ≤ limit, without building the sum.
func fitsQuota(used, requested, limit backendai.ResourceSlots, known *backendai.KnownSlots) bool {
	for _, name := range known.Names() {
		if !atMost(used.Get(name).Add(requested.Get(name)), limit.Get(name)) {
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

func reservedTime(_ *Core, p *pending, now time.Time) string {
	if p.Type == backendai.Batch && p.StartsAt != nil && now.Before(*p.StartsAt) {
		return "Before start time"
	}
	return ""
}

func concurrency(c *Core, p *pending, _ time.Time) string {
	if c.within(p, concurrencyScope) {
		return ""
	}
	return fmt.Sprintf("You cannot run more than %d concurrent sessions", p.Limits.MaxConcurrentSessions)
}

func dependencies(_ *Core, p *pending, _ time.Time) string {
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

func keypairLimit(c *Core, p *pending, _ time.Time) string {
	return overQuota(c, "keypair", p, keypairScope, p.Limits.Keypair)
}

func groupLimit(c *Core, p *pending, _ time.Time) string {
	return overQuota(c, "group", p, groupScope, p.Limits.Group)
}

func domainLimit(c *Core, p *pending, _ time.Time) string {
	return overQuota(c, "domain", p, domainScope, p.Limits.Domain)
}

func overQuota(c *Core, name string, p *pending, kind scopeKind, limit backendai.ResourceSlots) string {
	if c.within(p, kind) {
		return ""
	}
	return fmt.Sprintf("Your %s resource quota is exceeded. (%s)", name, limit.Humanized(c.Known))
}

// scalingGroupAccess checks rights, not resources, despite the name it is recorded under.
func scalingGroupAccess(c *Core, p *pending, _ time.Time) string {
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
