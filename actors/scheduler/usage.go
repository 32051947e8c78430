package scheduler

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// usage is what one owner (an access key, a project, a domain) takes.
type usage struct {
	sessions int
	slots    tally
}

// taken are the slots; none for nil.
func (u *usage) taken() tally {
	if u == nil {
		return nil
	}
	return u.slots
}

// tally is a sum of slots that is changed in place: it changes six times in a container's life, and a new value each time would be
// most of what the garbage collector has to do.
type tally []tallied

type tallied struct {
	name   backendai.SlotName
	amount backendai.Decimal
}

// get is an amount, 0 when absent.
func (t tally) get(name backendai.SlotName) backendai.Decimal {
	for i := range t {
		if t[i].name == name {
			return t[i].amount
		}
	}
	return backendai.Decimal{}
}

// add adds slots, or takes them away.
func (t *tally) add(slots backendai.ResourceSlots, away bool) {
	for name, amount := range slots.All() {
		at := -1
		for i := range *t {
			if (*t)[i].name == name {
				at = i
				break
			}
		}
		if at < 0 {
			at = len(*t)
			*t = append(*t, tallied{name: name})
		}
		if sum := &(*t)[at].amount; away {
			*sum = sum.Sub(amount)
		} else {
			*sum = sum.Add(amount)
		}
	}
}

func (t tally) isZero() bool {
	for i := range t {
		if !t[i].amount.IsZero() {
			return false
		}
	}
	return true
}

// resourceSlots is the sum as a value of its own.
func (t tally) resourceSlots() (r backendai.ResourceSlots) {
	for _, s := range t {
		r = r.With(s.name, s.amount)
	}
	return r
}

// charge changes what the owners of an allocation are using; away gives it back.
func (c *Core) charge(a *protocol.Allocation, slots backendai.ResourceSlots, sessions int, away bool) {
	if !a.Main {
		sessions = 0
	}
	if away {
		sessions = -sessions
	}
	e := charged{AccessKey: a.AccessKey, GroupID: a.GroupID, DomainName: a.DomainName, Slots: slots, Sessions: sessions, Away: away}
	key, group, domain := c.Ledger.charge(&e)
	if len(c.records) > 0 {
		c.tellRecords(e)
	}
	if sessions != 0 {
		c.owners[a.AccessKey] = true
	}
	if len(c.crowds) == 0 && !c.shared {
		return
	}
	if sessions < 0 {
		c.freeQuota(scope{kind: concurrencyScope, name: a.AccessKey}, key)
	}
	if !away && (backendai.ResourceSlots{}).LessEq(slots) {
		return
	}
	c.freeQuota(scope{kind: keypairScope, name: a.AccessKey}, key)
	c.freeQuota(scope{kind: groupScope, group: a.GroupID}, group)
	c.freeQuota(scope{kind: domainScope, name: a.DomainName}, domain)
}

// freeQuota tells those who wait for a quota that something was given back of it, here and in other scaling groups.
func (c *Core) freeQuota(where scope, left *usage) {
	c.givenBack(where, left)
	if c.shared && (len(c.freed) == 0 || c.freed[len(c.freed)-1] != where) {
		c.freed = append(c.freed, where)
	}
}

// charged is that somebody takes more, or less, of what is counted. Schedulers' records have those of others.
type charged struct {
	AccessKey  string
	GroupID    uuid.UUID
	DomainName string
	Slots      backendai.ResourceSlots
	Sessions   int
	Away       bool
}

// tellRecords has the records of the other schedulers note it.
func (c *Core) tellRecords(e charged) {
	for _, r := range c.records {
		if r != c.record {
			r.add(&e, time.Time{}, nil, nil)
		}
	}
}

// charge returns what its owners take then.
func (l *Ledger) charge(e *charged) (key, group, domain *usage) {
	return add(l.keys, e.AccessKey, e.Slots, e.Sessions, e.Away),
		add(l.groups, e.GroupID, e.Slots, e.Sessions, e.Away),
		add(l.domains, e.DomainName, e.Slots, e.Sessions, e.Away)
}

func add[K comparable](m map[K]*usage, key K, slots backendai.ResourceSlots, sessions int, away bool) *usage {
	u := m[key]
	if u == nil {
		u = &usage{}
		m[key] = u
	}
	u.slots.add(slots, away)
	u.sessions += sessions
	if u.sessions == 0 && u.slots.isZero() {
		delete(m, key)
	}
	return u
}

// usageOf is what is taken of a quota, nil for nothing.
func (l *Ledger) usageOf(where scope) *usage {
	switch where.kind {
	case concurrencyScope, keypairScope:
		return l.keys[where.name]
	case groupScope:
		return l.groups[where.group]
	case domainScope:
		return l.domains[where.name]
	}
	return nil
}

func used[K comparable](m map[K]*usage, key K) (u usage) {
	if p := m[key]; p != nil {
		u = *p
	}
	return u
}
