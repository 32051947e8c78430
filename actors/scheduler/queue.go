package scheduler

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/google/btree"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// parking is what a session waits for that the scheduler does not look at again before it comes.
type parking uint8

const (
	notParked  parking = iota
	forClock           // its start time
	forSession         // a dependency's success
	forAccess          // a right to the scaling group: newer limits
	forQuota           // somebody's slots or sessions: it is in a crowd
)

// pending is a queued session with what the scheduler knows of its wait.
type pending struct {
	protocol.PendingSession
	requested backendai.ResourceSlots // sum over its kernels
	size      string                  // equal for equal requests
	parked    parking
	crowd     *crowd // that it is parked in
	leads     *crowd // that it was sent ahead of
	stale     bool   // among the ready ones: has failed so often that others may go first
	placing   *protocol.Placement
	placedAt  moment
	told      moment // when it was last reported that it can't start behind the head
	found     finding
}

// finding is what the last look at a session has found. Many wait for long: what of it can be found again is not kept.
type finding struct {
	at       moment
	changes  uint64    // of the core, then
	since    moment    // since when it is of this kind
	failing  failing   // predicates
	obstacle *obstacle // otherwise
}

// moment is a time in nanoseconds of Unix, 0 for none. Each session that waits has four, which the garbage collector need not look
// into as it does into time.Time.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.UnixNano())
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(m)).UTC()
}

const degree = 16

// sorted makes an empty tree. There can be as many as there are crowds: all of a core share their spare nodes.
func (c *Core) sorted(before btree.LessFunc[*pending]) *btree.BTreeG[*pending] {
	return btree.NewWithFreeListG(degree, before, c.spare)
}

func older(a, b *pending) bool { return compareAge(a, b) < 0 }

func compareAge(a, b *pending) int {
	if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
		return n
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// earlier orders by start time.
func earlier(a, b *pending) bool {
	if n := a.StartsAt.Compare(*b.StartsAt); n != 0 {
		return n < 0
	}
	return older(a, b)
}

// insert keeps the queue in the order of creation; ties go by id.
func (c *Core) insert(p *pending) {
	c.byID[p.ID] = p
	c.queue.ReplaceOrInsert(p)
	for _, d := range p.DependsOn {
		if c.dependents[d.ID] == nil {
			c.dependents[d.ID] = make(map[*pending]bool)
		}
		c.dependents[d.ID][p] = true
	}
	c.ready(p)
}

// dequeue removes a session from the queue but remembers it: its placement is on the way.
func (c *Core) dequeue(p *pending) {
	if _, ok := c.queue.Delete(p); !ok {
		return
	}
	if p.parked != notParked {
		c.unpark(p)
	}
	c.unready(p)
	for _, d := range p.DependsOn {
		delete(c.dependents[d.ID], p)
		if len(c.dependents[d.ID]) == 0 {
			delete(c.dependents, d.ID)
		}
	}
	if p.leads != nil {
		c.followUp(p)
	}
}

func (c *Core) forget(p *pending) {
	c.dequeue(p)
	delete(c.byID, p.ID)
	delete(c.placing, p.ID)
}

// ready lets the next pass look at a session.
func (c *Core) ready(p *pending) {
	skip := c.retriesToSkip()
	p.stale = skip > 0 && p.Retries >= skip
	if p.stale {
		c.stale.ReplaceOrInsert(p)
	} else {
		c.fresh.ReplaceOrInsert(p)
	}
	if c.blocked && c.overtakes(p, c.holdsUp) {
		c.blocked = false
	}
	if !c.ownersCompete() {
		return
	}
	own := c.ofOwner[p.AccessKey]
	if own == nil {
		own = c.sorted(c.turns())
		c.ofOwner[p.AccessKey] = own
	}
	own.ReplaceOrInsert(p)
}

func (c *Core) unready(p *pending) {
	if p.stale {
		c.stale.Delete(p)
	} else {
		c.fresh.Delete(p)
	}
	if own := c.ofOwner[p.AccessKey]; own != nil {
		own.Delete(p)
		if own.Len() == 0 {
			delete(c.ofOwner, p.AccessKey)
		}
	}
}

// regroup sorts the ready sessions as a policy wants them and lets the next pass look at every one.
func (c *Core) regroup() {
	c.fresh, c.stale = c.sorted(c.lineup()), c.sorted(c.lineup())
	clear(c.ofOwner)
	clear(c.crowds)
	clear(c.watches)
	clear(c.watching[:])
	c.clock.Clear(false)
	c.parked = 0
	c.regroupHoldings()
	c.regroupUses()
	c.queue.Ascend(func(p *pending) bool {
		p.parked, p.crowd, p.leads = notParked, nil, nil
		c.ready(p)
		return true
	})
}

// park lays a session aside until an event of the class that could help it. One of the predicates it fails is enough to watch: as
// long as that one fails, the others do not matter.
func (c *Core) park(p *pending, why parking, where scope) {
	c.unready(p)
	p.parked = why
	c.parked++
	switch why {
	case forClock:
		c.clock.ReplaceOrInsert(p)
	case forQuota:
		c.join(p, where)
	}
}

// unpark lets the next pass look at a parked session.
func (c *Core) unpark(p *pending) {
	switch p.parked {
	case notParked:
		return
	case forClock:
		c.clock.Delete(p)
	case forQuota:
		c.leave(p)
	}
	p.parked = notParked
	c.parked--
	c.ready(p)
}

// unparkOldest is the original's regular look at the queue, bounded.
func (c *Core) unparkOldest(n int) {
	var first []*pending
	c.queue.Ascend(func(p *pending) bool {
		first = append(first, p)
		return len(first) < n
	})
	for _, p := range first {
		c.unpark(p)
	}
}

// unparkDue lets the pass look at those whose start time has come.
func (c *Core) unparkDue(now time.Time) {
	for {
		p, ok := c.clock.Min()
		if !ok || p.StartsAt.After(now) {
			return
		}
		c.unpark(p)
	}
}

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
	of := c.watches[where]
	if len(of) > 1 {
		c.watches[where] = slices.DeleteFunc(slices.Clone(of), func(other *watch) bool { return other == w })
		return
	}
	delete(c.watches, where)
	c.watching[where.kind]--
}

// watchOf finds the watch of a quota, nil if nobody waits for it.
func (c *Core) watchOf(q watched) *watch {
	for _, w := range c.watches[q.scope] {
		if w.text == q.limit {
			return w
		}
	}
	return nil
}

// watch begins one.
func (c *Core) watch(q watched, limit, least backendai.ResourceSlots) *watch {
	w := &watch{crowds: make(map[*crowd]bool), text: q.limit, limit: limit, least: least}
	if len(c.watches[q.scope]) == 0 {
		c.watching[q.scope.kind]++
	}
	c.watches[q.scope] = append(c.watches[q.scope], w)
	return w
}

// givenBack sends the first of every crowd ahead that a quota, of which something was given back, has room for.
func (c *Core) givenBack(where scope) {
	if c.watching[where.kind] == 0 {
		return
	}
	for _, w := range c.watches[where] {
		if where.kind != concurrencyScope && !fitsQuota(c.usedOf(where), w.least, w.limit, c.Known) {
			continue
		}
		for g := range w.crowds {
			c.sendAhead(g)
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
