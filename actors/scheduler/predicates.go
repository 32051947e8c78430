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
}

// In the order in which they are recorded. All are evaluated; the first failure does not end it.
var predicates = []predicate{
	{"reserved_time", reservedTime},
	{"concurrency", concurrency},
	{"dependencies", dependencies},
	{"keypair_resource_limit", keypairLimit},
	{"user_group_resource_limit", groupLimit},
	{"domain_resource_limit", domainLimit},
	{"scaling_group_resource_limit", scalingGroupAccess},
}

func (c *Core) evaluate(p *pending, now time.Time) (passed []protocol.PredicateName, failed []protocol.PredicateFailure) {
	passed, failed = []protocol.PredicateName{}, []protocol.PredicateFailure{}
	for _, pr := range predicates {
		if msg := pr.check(c, p, now); msg != "" {
			failed = append(failed, protocol.PredicateFailure{Name: pr.name, Msg: msg})
		} else {
			passed = append(passed, protocol.PredicateName{Name: pr.name})
		}
	}
	return passed, failed
}

func reservedTime(_ *Core, p *pending, now time.Time) string {
	if p.Type == backendai.Batch && p.StartsAt != nil && now.Before(*p.StartsAt) {
		return "Before start time"
	}
	return ""
}

func concurrency(c *Core, p *pending, _ time.Time) string {
	limit := p.Limits.MaxConcurrentSessions
	if limit > 0 && used(c.keys, p.AccessKey).sessions >= limit {
		return fmt.Sprintf("You cannot run more than %d concurrent sessions", limit)
	}
	return ""
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
	return overQuota(c, "keypair", used(c.keys, p.AccessKey), p.requested, p.Limits.Keypair)
}

func groupLimit(c *Core, p *pending, _ time.Time) string {
	return overQuota(c, "group", used(c.groups, p.GroupID), p.requested, p.Limits.Group)
}

func domainLimit(c *Core, p *pending, _ time.Time) string {
	return overQuota(c, "domain", used(c.domains, p.DomainName), p.requested, p.Limits.Domain)
}

func overQuota(c *Core, scope string, u usage, requested, limit backendai.ResourceSlots) string {
	if u.slots.Normalize(c.Known).Add(requested).LessEq(limit) {
		return ""
	}
	return fmt.Sprintf("Your %s resource quota is exceeded. (%s)", scope, limit.Humanized(c.Known))
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
