package scheduler

import (
	"iter"
	"slices"
	"strconv"

	"github.com/google/btree"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// scope is whose quota is meant.
type scope struct {
	kind  scopeKind
	name  string    // an access key or a domain
	group uuid.UUID // a project
}

type scopeKind uint8

const (
	concurrencyScope scopeKind = iota + 1
	keypairScope
	groupScope
	domainScope
)

// crowd holds sessions that wait for the same quota and of which, at any time, either all could pass it or none:
// they want the same of it and have the same limit. So when something is given back, one goes ahead; only
// when it has passed, the next follows, still in the same pass. A hundred thousand sessions of one user cost as much as one.
type crowd struct {
	key     crowdKey
	members *btree.BTreeG[*pending] // in the order in which the policy would look at them
	ahead   *pending
}

type crowdKey struct {
	watched
	size  string // what they want; "" where it is the number of sessions
	owner string // only where owners compete by their shares
}

// watched is a quota and how large it is: administrators change limits, and sessions learn it one after the other.
type watched struct {
	scope scope
	limit string
}

// watch holds the crowds that wait for one quota.
type watch struct {
	crowds map[*crowd]bool
	text   string // the limit's
	limit  backendai.ResourceSlots
	// least is no more, slot by slot, than what any of them wants: where there is no room for that, none needs to be asked.
	least backendai.ResourceSlots
}

func (c *Core) crowdOf(p *pending, where scope) crowdKey {
	key := crowdKey{watched: watched{scope: where}}
	if where.kind == concurrencyScope {
		key.limit = strconv.Itoa(p.Limits.MaxConcurrentSessions)
	} else {
		key.size, key.limit = c.sizeOf(p), canonical(limitOf(p, where.kind))
	}
	if c.ownersCompete() {
		key.owner = p.AccessKey
	}
	return key
}

func (c *Core) sizeOf(p *pending) string {
	if p.size == "" {
		p.size = p.Kernels[0].Architecture + "\n" + canonical(p.requested)
	}
	return p.size
}

func (c *Core) join(p *pending, where scope) {
	key := c.crowdOf(p, where)
	g := c.crowds[key]
	if g == nil {
		g = &crowd{key: key, members: c.sorted(c.turns())}
		c.crowds[key] = g
		w := c.watchOf(key.watched)
		if w == nil {
			w = c.watch(key.watched, limitOf(p, where.kind), p.requested)
		}
		w.least = smaller(w.least, p.requested)
		w.crowds[g] = true
	}
	if g.key.size != "" {
		p.size = g.key.size // one text for all
	}
	g.members.ReplaceOrInsert(p)
	p.crowd = g
}

func (c *Core) leave(p *pending) {
	g := p.crowd
	p.crowd = nil
	g.members.Delete(p)
	c.dissolve(g)
}

func (c *Core) dissolve(g *crowd) {
	if g.members.Len() > 0 || g.ahead != nil {
		return
	}
	delete(c.crowds, g.key)
	w, where := c.watchOf(g.key.watched), g.key.scope
	if delete(w.crowds, g); len(w.crowds) > 0 {
		return
	}
	c.watches.set(where, slices.DeleteFunc(slices.Clone(c.watches.of(where)), func(other *watch) bool { return other == w }))
}

// watchOf finds the watch of a quota, nil if nobody waits for it.
func (c *Core) watchOf(q watched) *watch {
	for _, w := range c.watches.of(q.scope) {
		if w.text == q.limit {
			return w
		}
	}
	return nil
}

// watch begins one.
func (c *Core) watch(q watched, limit, least backendai.ResourceSlots) *watch {
	w := &watch{crowds: make(map[*crowd]bool), text: q.limit, limit: limit, least: least}
	c.watches.set(q.scope, append(c.watches.of(q.scope), w))
	return w
}

// givenBack sends the first of every crowd ahead that a quota, of which something was given back, has room for. Left is what
// is still taken of it.
func (c *Core) givenBack(where scope, left *usage) {
	for _, w := range c.watches.of(where) {
		if where.kind != concurrencyScope && !fitsQuota(left.taken(), w.least, w.limit, c.Known) {
			continue
		}
		for g := range w.crowds {
			c.sendAhead(g)
		}
	}
}

// watches are those of all quotas, by scope: one for each limit. They are asked for at every release, so each kind has a map with
// a key that is quickly hashed.
type watches struct {
	named  [domainScope + 1]map[string][]*watch // by kind and name
	groups map[uuid.UUID][]*watch
}

func newWatches() (w watches) {
	for kind := range w.named {
		w.named[kind] = make(map[string][]*watch)
	}
	w.groups = make(map[uuid.UUID][]*watch)
	return w
}

func (w *watches) of(where scope) []*watch {
	if where.kind == groupScope {
		return w.groups[where.group]
	}
	return w.named[where.kind][where.name]
}

// set replaces the watches of a quota; none: nobody waits for it any more.
func (w *watches) set(where scope, list []*watch) {
	switch {
	case where.kind == groupScope && len(list) == 0:
		delete(w.groups, where.group)
	case where.kind == groupScope:
		w.groups[where.group] = list
	case len(list) == 0:
		delete(w.named[where.kind], where.name)
	default:
		w.named[where.kind][where.name] = list
	}
}

// all yields the watches by their quotas.
func (w *watches) all() iter.Seq2[scope, []*watch] {
	return func(yield func(scope, []*watch) bool) {
		for group, list := range w.groups {
			if !yield(scope{kind: groupScope, group: group}, list) {
				return
			}
		}
		for kind, named := range w.named {
			for name, list := range named {
				if !yield(scope{kind: scopeKind(kind), name: name}, list) {
					return
				}
			}
		}
	}
}

// smaller is the smaller amount of each slot.
func smaller(a, b backendai.ResourceSlots) backendai.ResourceSlots {
	for name, amount := range a.All() {
		if other := b.Get(name); !amount.LessEq(other) {
			a = a.With(name, other)
		}
	}
	for name, amount := range b.All() {
		if _, ok := a.Lookup(name); !ok && amount.Sign() < 0 {
			a = a.With(name, amount)
		}
	}
	return a
}

func (c *Core) sendAhead(g *crowd) {
	if g.ahead != nil {
		return
	}
	p, ok := g.members.Min()
	if !ok || !c.within(p, g.key.scope.kind) {
		return
	}
	g.ahead, p.leads = p, g
	c.unpark(p)
	c.wake(false)
}

// followUp is called when a session that went ahead has been looked at: unless it is back in its crowd, the next may go.
func (c *Core) followUp(p *pending) {
	g := p.leads
	p.leads, g.ahead = nil, nil
	if p.crowd != g {
		c.sendAhead(g)
	}
	c.dissolve(g)
}
