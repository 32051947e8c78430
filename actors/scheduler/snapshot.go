package scheduler

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/google/btree"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// snapshot is the whole state of a core as plain values, so that it can be written to a file and go on elsewhere to the same effects. What
// is not here is made of what is: the index, the queue's trees, drf's sums. A test holds the list of both against the fields of Core.
type snapshot struct {
	Group       string
	Policy      protocol.Policy
	Known       *backendai.KnownSlots
	Agents      []agentDoc
	Allocations []*protocol.Allocation // by kernel
	Keys        []usageDoc
	Groups      []usageDoc
	Domains     []usageDoc
	Pending     []pendingDoc // by age
	Crowds      []crowdDoc
	Nowhere     []string
	Changes     uint64
	HoldsUp     uuid.UUID `json:",omitzero"`
	Due         bool
	Blocked     bool
	Touched     []string
	Owners      []string
	Doubts      []doubtDoc
	AgentDoubts []protocol.AgentState
	Problem     string `json:",omitempty"` // of the policy that was read last
	Understood  bool
	// What a fair share needs.
	HalfLife   time.Duration `json:",omitempty"` // that the uses decay by; 0: none are kept
	Uses       []useDoc      `json:",omitempty"` // by owner
	UsesTold   time.Time     `json:",omitzero"`
	UsesWanted bool          `json:",omitempty"`
	// What backfill and preemption need.
	At          time.Time `json:",omitzero"`
	Tracked     bool      `json:",omitempty"` // that anything of it is kept
	Tenures     []tenureDoc
	Leaving     map[uuid.UUID]time.Time
	Dismissed   map[uuid.UUID]time.Time
	Reservation *reservationDoc `json:",omitempty"`
	Held        *holdDoc        `json:",omitempty"`
	Vain        vainDoc
	Books       uint64
	Backfilled  int
	Preempted   int
}

type useDoc struct {
	Owner   string
	At      time.Time
	Kernels int
	Known   time.Time `json:",omitzero"`
	Changed bool      `json:",omitempty"`
	Slots   []usedSlotDoc
}

type usedSlotDoc struct {
	Name      backendai.SlotName
	Sum       float64
	PerSecond backendai.Decimal
}

type agentDoc struct {
	protocol.AgentState
	Occupied backendai.ResourceSlots
}

type usageDoc struct {
	Name     string
	Sessions int
	Slots    backendai.ResourceSlots
}

type pendingDoc struct {
	protocol.PendingSession
	Parked   parking
	Stale    bool                `json:",omitempty"`
	Crowd    int                 `json:",omitempty"` // number of the crowd it is parked in, from 1
	Leads    int                 `json:",omitempty"`
	Placing  *protocol.Placement `json:",omitempty"`
	PlacedAt time.Time           `json:",omitzero"`
	Told     time.Time           `json:",omitzero"`
	Found    *findingDoc         `json:",omitempty"`
}

type findingDoc struct {
	At       time.Time
	Changes  uint64
	Since    time.Time
	Failing  failing      `json:",omitempty"`
	Obstacle *obstacleDoc `json:",omitempty"`
}

type obstacleDoc struct {
	Kind   ReasonKind
	Text   string
	Kernel uuid.UUID  `json:",omitzero"`
	Agent  string     `json:",omitempty"`
	Short  []Shortage `json:",omitempty"`
	Delay  *Delay     `json:",omitempty"`
}

type crowdDoc struct {
	Scope scopeKind
	Name  string    `json:",omitempty"`
	Group uuid.UUID `json:",omitzero"`
	Limit string
	Size  string `json:",omitempty"`
	Owner string `json:",omitempty"`
	// Of the quota's watch.
	Watched backendai.ResourceSlots
	Least   backendai.ResourceSlots
}

type doubtDoc struct {
	ID   uuid.UUID
	Kind doubt
}

type tenureDoc struct {
	Session uuid.UUID
	Kernels []uuid.UUID
	Wishes  protocol.Wishes
	End     time.Time `json:",omitzero"`
	Ending  bool      `json:",omitempty"`
}

type reservationDoc struct {
	Head    uuid.UUID
	At      time.Time
	Kernels []protocol.KernelPlacement
	Claims  map[string]claimDoc
	Basis   []EndsAt
}

type claimDoc struct{ Share, Freed backendai.ResourceSlots }

type holdDoc struct {
	Head    uuid.UUID
	Victims []uuid.UUID
	Leaving []uuid.UUID
	Kernels []protocol.KernelPlacement
	Shares  map[string]backendai.ResourceSlots
	Since   time.Time
	Told    time.Time
}

type vainDoc struct {
	Head     uuid.UUID `json:",omitzero"`
	Priority int
	Books    uint64
	Again    time.Time `json:",omitzero"`
}

// snapshot writes the state down.
func (c *Core) snapshot() snapshot {
	s := snapshot{Group: c.Group, Policy: c.Policy, Known: c.Known, Changes: c.changes, Due: c.due, Blocked: c.blocked,
		Keys: usageDocs(c.keys, func(k string) string { return k }), Domains: usageDocs(c.domains, func(k string) string { return k }),
		Groups:  usageDocs(c.groups, uuid.UUID.String),
		Nowhere: slices.Sorted(maps.Keys(c.nowhere)), Touched: slices.Sorted(maps.Keys(c.touched)), Owners: slices.Sorted(maps.Keys(c.owners))}
	for _, id := range c.order {
		a := c.agents[id]
		s.Agents = append(s.Agents, agentDoc{a.AgentState, a.Occupied})
	}
	for id := range sortedIDs(maps.Keys(c.allocs)) {
		a := *c.allocs[id]
		s.Allocations = append(s.Allocations, &a)
	}
	if c.holdsUp != nil && c.byID[c.holdsUp.ID] == c.holdsUp {
		s.HoldsUp = c.holdsUp.ID
	}
	crowds := make(map[*crowd]int, len(c.crowds))
	for _, g := range slices.SortedFunc(maps.Values(c.crowds), func(a, b *crowd) int { return a.key.compare(b.key) }) {
		k, w := g.key, c.watchOf(g.key.watched)
		s.Crowds = append(s.Crowds, crowdDoc{Scope: k.scope.kind, Name: k.scope.name, Group: k.scope.group, Limit: k.limit, Size: k.size, Owner: k.owner, Watched: w.limit, Least: w.least})
		crowds[g] = len(s.Crowds)
	}
	for _, p := range slices.SortedFunc(maps.Values(c.byID), compareAge) {
		d := pendingDoc{PendingSession: p.PendingSession, Parked: p.parked, Stale: p.stale, Crowd: crowds[p.crowd], Leads: crowds[p.leads], Placing: p.placing, PlacedAt: p.placedAt.time(), Told: p.told.time()}
		if f := p.found; f.at != 0 {
			d.Found = &findingDoc{At: f.at.time(), Changes: f.changes, Since: f.since.time(), Failing: f.failing}
			if o := f.obstacle; o != nil {
				d.Found.Obstacle = &obstacleDoc{o.kind, o.text, o.kernel, o.agent, o.short, o.delay}
			}
		}
		s.Pending = append(s.Pending, d)
	}
	for id := range sortedIDs(maps.Keys(c.doubts)) {
		s.Doubts = append(s.Doubts, doubtDoc{id, c.doubts[id]})
	}
	for _, id := range slices.Sorted(maps.Keys(c.agentDoubts)) {
		s.AgentDoubts = append(s.AgentDoubts, c.agentDoubts[id])
	}
	c.snapshotUses(&s)
	c.snapshotTenures(&s)
	return s
}

func (c *Core) snapshotUses(s *snapshot) {
	s.Problem, s.Understood = c.problem, c.understood
	s.HalfLife, s.UsesTold, s.UsesWanted = time.Duration(c.halving), c.usesTold, c.usesWanted
	for _, owner := range slices.Sorted(maps.Keys(c.uses)) {
		u := c.uses[owner]
		d := useDoc{Owner: owner, At: u.at, Kernels: u.kernels, Known: u.known, Changed: u.changed}
		for _, slot := range u.slots {
			d.Slots = append(d.Slots, usedSlotDoc{slot.name, slot.sum, slot.perSecond})
		}
		s.Uses = append(s.Uses, d)
	}
}

func (s *snapshot) restoreUses(c *Core) {
	c.problem, c.understood = s.Problem, s.Understood
	c.uses, c.halving, c.usesTold, c.usesWanted = nil, halving(s.HalfLife), s.UsesTold, s.UsesWanted
	if s.HalfLife > 0 {
		c.uses = make(map[string]*use, len(s.Uses))
	}
	for _, d := range s.Uses {
		if s.HalfLife <= 0 {
			break
		}
		u := &use{at: d.At, kernels: d.Kernels, known: d.Known, changed: d.Changed}
		for _, slot := range d.Slots {
			u.slots = append(u.slots, usedSlot{slot.Name, slot.Sum, slot.PerSecond})
		}
		c.uses[d.Owner] = u
	}
}

func (c *Core) snapshotTenures(s *snapshot) {
	s.At, s.Tracked, s.Leaving, s.Dismissed = c.now, c.tenures != nil, maps.Clone(c.leaving), maps.Clone(c.dismissed)
	s.Books, s.Backfilled, s.Preempted = c.bookings, c.backfilled, c.preempted
	s.Vain = vainDoc{c.vain.head, c.vain.priority, c.vain.bookings, c.vain.again}
	for id := range sortedIDs(maps.Keys(c.tenures)) {
		t := c.tenures[id]
		s.Tenures = append(s.Tenures, tenureDoc{t.session, slices.Clone(t.kernels), t.wishes, t.end, t.ending})
	}
	if r := c.reservation; r != nil {
		s.Reservation = &reservationDoc{r.head, r.at, r.kernels, make(map[string]claimDoc, len(r.claims)), r.basis}
		for agent, cl := range r.claims {
			s.Reservation.Claims[agent] = claimDoc{cl.share, cl.freed}
		}
	}
	if h := c.held; h != nil {
		s.Held = &holdDoc{h.head, h.victims, h.leaving, h.kernels, h.shares, h.since, h.told}
	}
}

func (s *snapshot) restoreTenures(c *Core) {
	c.now, c.bookings, c.backfilled, c.preempted = s.At, s.Books, s.Backfilled, s.Preempted
	c.vain = vain{s.Vain.Head, s.Vain.Priority, s.Vain.Books, s.Vain.Again}
	c.tenures, c.ends, c.leaving, c.dismissed = nil, nil, nil, nil
	if s.Tracked {
		c.tenures, c.ends = make(map[uuid.UUID]*tenure, len(s.Tenures)), btree.NewG(degree, endsEarlier)
		c.leaving, c.dismissed = make(map[uuid.UUID]time.Time), make(map[uuid.UUID]time.Time)
		maps.Copy(c.leaving, s.Leaving)
		maps.Copy(c.dismissed, s.Dismissed)
	}
	for _, d := range s.Tenures {
		if !s.Tracked {
			break
		}
		t := &tenure{d.Session, d.Kernels, d.Wishes, d.End, d.Ending}
		c.tenures[t.session] = t
		if !t.end.IsZero() {
			c.ends.ReplaceOrInsert(t)
		}
	}
	if d := s.Reservation; d != nil {
		c.reservation = &reservation{d.Head, d.At, d.Kernels, make(map[string]claim, len(d.Claims)), d.Basis}
		for agent, cl := range d.Claims {
			c.reservation.claims[agent] = claim{cl.Share, cl.Freed}
		}
	}
	if d := s.Held; d != nil {
		c.held = &hold{d.Head, d.Victims, d.Leaving, d.Kernels, d.Shares, d.Since, d.Told}
	}
}

func usageDocs[K comparable](m map[K]*usage, name func(K) string) []usageDoc {
	list := make([]usageDoc, 0, len(m))
	for k, u := range m {
		list = append(list, usageDoc{name(k), u.sessions, u.slots.resourceSlots()})
	}
	slices.SortFunc(list, func(a, b usageDoc) int { return compareTexts(a.Name, b.Name) })
	return list
}

func compareTexts(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (k crowdKey) compare(o crowdKey) int {
	for _, n := range []int{int(k.scope.kind) - int(o.scope.kind), compareTexts(k.scope.name, o.scope.name), compareIDs(k.scope.group, o.scope.group),
		compareTexts(k.limit, o.limit), compareTexts(k.size, o.size), compareTexts(k.owner, o.owner)} {
		if n != 0 {
			return n
		}
	}
	return 0
}

// core makes a core of a snapshot. Errors: InvalidArgument for one that does not fit together.
func (s *snapshot) core() (*Core, error) {
	c := NewCore(s.Group, s.Policy, s.Known)
	c.changes, c.due, c.blocked = s.Changes, s.Due, s.Blocked
	for _, d := range s.Agents {
		a := &Agent{AgentState: d.AgentState, Occupied: d.Occupied}
		c.agents[a.ID] = a
		c.order = append(c.order, a.ID)
		if a.Alive {
			c.alive++
		}
		if a.candidate() {
			c.index.put(a)
		}
	}
	slices.Sort(c.order)
	for _, a := range s.Allocations {
		c.allocs[a.KernelID] = a
	}
	c.regroupHoldings()
	for _, u := range s.Keys {
		c.keys[u.Name] = u.usage()
	}
	for _, u := range s.Domains {
		c.domains[u.Name] = u.usage()
	}
	for _, u := range s.Groups {
		id, err := uuid.Parse(u.Name)
		if err != nil {
			return nil, backendai.Errorf(backendai.InvalidArgument, "The project %s is no id.", u.Name)
		}
		c.groups[id] = u.usage()
	}
	crowds := make([]*crowd, len(s.Crowds)+1)
	for i, d := range s.Crowds {
		crowds[i+1] = c.restoreCrowd(d)
	}
	for _, d := range s.Pending {
		if d.Crowd < 0 || d.Crowd >= len(crowds) || d.Leads < 0 || d.Leads >= len(crowds) || len(d.Kernels) == 0 {
			return nil, backendai.Errorf(backendai.InvalidArgument, "The session %s does not fit into the state.", d.ID)
		}
		c.restorePending(d, crowds)
	}
	c.holdsUp = c.byID[s.HoldsUp]
	s.restoreUses(c)
	s.restoreTenures(c)
	for _, x := range s.Nowhere {
		c.nowhere[x] = true
	}
	for _, x := range s.Touched {
		c.touched[x] = true
	}
	for _, x := range s.Owners {
		c.owners[x] = true
	}
	c.doubts, c.agentDoubts = make(map[uuid.UUID]doubt), make(map[string]protocol.AgentState)
	for _, d := range s.Doubts {
		c.doubts[d.ID] = d.Kind
	}
	for _, d := range s.AgentDoubts {
		c.agentDoubts[d.ID] = d
	}
	return c, nil
}

func (u usageDoc) usage() *usage {
	n := &usage{sessions: u.Sessions}
	n.slots.add(u.Slots, false)
	return n
}

func (c *Core) restoreCrowd(d crowdDoc) *crowd {
	where := scope{kind: d.Scope, name: d.Name, group: d.Group}
	g := &crowd{key: crowdKey{watched: watched{scope: where, limit: d.Limit}, size: d.Size, owner: d.Owner}, members: c.sorted(c.turns())}
	c.crowds[g.key] = g
	w := c.watchOf(g.key.watched)
	if w == nil {
		w = c.watch(g.key.watched, d.Watched, d.Least)
	}
	w.crowds[g] = true
	return g
}

func (c *Core) restorePending(d pendingDoc, crowds []*crowd) {
	p := &pending{PendingSession: d.PendingSession, parked: d.Parked, stale: d.Stale, crowd: crowds[d.Crowd], leads: crowds[d.Leads], placing: d.Placing, placedAt: momentOf(d.PlacedAt), told: momentOf(d.Told)}
	for _, k := range p.Kernels {
		p.requested = p.requested.Add(k.Slots)
	}
	if f := d.Found; f != nil {
		p.found = finding{at: momentOf(f.At), changes: f.Changes, since: momentOf(f.Since), failing: f.Failing}
		if o := f.Obstacle; o != nil {
			p.found.obstacle = &obstacle{kind: o.Kind, text: o.Text, kernel: o.Kernel, agent: o.Agent, short: o.Short, delay: o.Delay}
		}
	}
	c.byID[p.ID] = p
	if p.leads != nil {
		p.leads.ahead = p
	}
	if p.placing != nil {
		c.placing[p.ID] = p
		return
	}
	c.queue.ReplaceOrInsert(p)
	for _, on := range p.DependsOn {
		if c.dependents[on.ID] == nil {
			c.dependents[on.ID] = make(map[*pending]bool)
		}
		c.dependents[on.ID][p] = true
	}
	if p.parked != notParked {
		c.parked++
		switch p.parked {
		case forClock:
			c.clock.ReplaceOrInsert(p)
		case forQuota:
			p.crowd.members.ReplaceOrInsert(p)
		}
		return
	}
	trees := []*btree.BTreeG[*pending]{c.fresh}
	if p.stale {
		trees[0] = c.stale
	}
	if c.ownersCompete() {
		if c.ofOwner[p.AccessKey] == nil {
			c.ofOwner[p.AccessKey] = c.sorted(c.turns())
		}
		trees = append(trees, c.ofOwner[p.AccessKey])
	}
	for _, t := range trees {
		t.ReplaceOrInsert(p)
	}
}

// scopeDoc is a scope that can be written.
type scopeDoc struct {
	Kind  scopeKind
	Name  string    `json:",omitempty"`
	Group uuid.UUID `json:",omitzero"`
}

// MarshalJSON writes the scopes for a record.
func (e quotaFreed) MarshalJSON() ([]byte, error) {
	list := make([]scopeDoc, len(e.scopes))
	for i, s := range e.scopes {
		list[i] = scopeDoc{s.kind, s.name, s.group}
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *quotaFreed) UnmarshalJSON(raw []byte) error {
	var list []scopeDoc
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	e.scopes = nil
	for _, s := range list {
		e.scopes = append(e.scopes, scope{kind: s.Kind, name: s.Name, group: s.Group})
	}
	return nil
}
