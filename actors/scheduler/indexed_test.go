package scheduler

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

var policies = []string{policyFIFO, policyLIFO, policyMOF, policyDRF}

var indexed = map[string]policy{policyFIFO: fifo{}, policyLIFO: lifo{}, policyMOF: mof{},
	policyDRF: fifo{}, spread: ranked{fifo{}}, pack: ranked{fifo{}}}

// Placement that overrides the policies' own is under its own name here.
const spread, pack = "fifo, spread", "fifo, pack"

var choices = append(slices.Clone(policies), spread, pack)

var arrangements = map[string]arrangement{policyFIFO: byKinds, policyLIFO: byKinds, policyMOF: byOccupancy, policyDRF: byCapacity,
	spread: byLeastUsed, pack: byMostUsed}

var naive = map[string]naivePolicy{policyFIFO: naiveFIFO{}, policyLIFO: naiveLIFO{}, policyMOF: naiveMOF{}, policyDRF: &naiveDRF{},
	spread: naivePlacement{naiveFIFO{}, false}, pack: naivePlacement{naiveFIFO{}, true}}

// The agent found by the index is the one that a scan of all finds, whatever the agents have and has been taken of them.
func TestChoiceEqualsScan(t *testing.T) {
	const clusters, states = 2500, 20 // 50,000 in all
	found := 0
	for seed := range uint64(clusters) {
		r := rand.New(rand.NewPCG(seed, 1))
		name := choices[r.IntN(len(choices))]
		x := newIndex()
		x.arrange(arrangements[name])
		var all []*naiveAgent
		var own []*Agent
		strange := r.IntN(4) == 0
		few := r.IntN(2) == 0 // few capacities, as in real clusters
		for i := range 1 + r.IntN(24) {
			capacity := anySlots(r, 4, strange, few)
			taken := part(r, capacity, strange)
			s := protocol.AgentState{ID: fmt.Sprintf("a%03d", r.IntN(1000)*100+i), Architecture: "x", Available: capacity, Alive: true, Schedulable: true}
			all = append(all, &naiveAgent{AgentState: s, Occupied: taken})
			a := &Agent{AgentState: s, Occupied: taken}
			own = append(own, a)
			x.put(a)
		}
		slices.SortFunc(all, func(a, b *naiveAgent) int {
			return compareID(&Agent{AgentState: a.AgentState}, &Agent{AgentState: b.AgentState})
		})
		slices.SortFunc(own, compareID)
		for range states {
			want := anySlots(r, 3, strange && r.IntN(3) == 0, false)
			var theirs, ours string
			if a := naive[name].choose(all, want); a != nil {
				theirs = a.ID
				found++
			}
			if a := indexed[name].choose(x, "x", want); a != nil {
				ours = a.ID
			}
			if ours != theirs {
				for _, a := range all {
					t.Logf("%s: %s | %s", a.ID, a.Available, a.Occupied)
				}
				t.Fatalf("seed %d, %s, request %s: the index finds %q, the scan %q", seed, name, want, ours, theirs)
			}
			// Something changes between two questions.
			i := r.IntN(len(all))
			taken := part(r, all[i].Available, strange)
			all[i].Occupied, own[i].Occupied = taken, taken
			x.changed(own[i])
			if r.IntN(10) == 0 {
				i := r.IntN(len(all))
				x.take(own[i])
				all, own = slices.Delete(all, i, i+1), slices.Delete(own, i, i+1)
			}
			if len(all) == 0 {
				break
			}
		}
	}
	if found < clusters*states/4 {
		t.Errorf("only %d of the choices have found an agent: the states are too tight to mean much", found)
	}
}

var slotNames = []string{"cpu", "mem", "cuda.shares", "rocm.device", "tpu.device"}

func anySlots(r *rand.Rand, most int, strange, few bool) backendai.ResourceSlots {
	var s backendai.ResourceSlots
	for _, name := range slotNames[:1+r.IntN(len(slotNames))] {
		if r.IntN(4) == 0 {
			continue
		}
		s = s.With(backendai.SlotName(name), anyAmount(r, most, strange, few))
	}
	return s
}

func anyAmount(r *rand.Rand, most int, strange, few bool) backendai.Decimal {
	if strange && r.IntN(6) == 0 {
		return []backendai.Decimal{backendai.Infinity(), backendai.NaN(), backendai.DecimalOf(-2), backendai.DecimalOf(1 << 62), backendai.DecimalOf(1<<62 + 1),
			backendai.MustDecimal("0.1234567890123"), backendai.MustDecimal("1.1234567890123"), backendai.MustDecimal("12345678901234567890123"), backendai.NegativeInfinity()}[r.IntN(9)]
	}
	if few {
		return backendai.DecimalOf(int64(2 * (1 + r.IntN(2))))
	}
	if r.IntN(3) == 0 {
		return backendai.DecimalScaled(int64(r.IntN(most*1000)), 3)
	}
	return backendai.DecimalOf(int64(r.IntN(most + 1)))
}

// part is what may be taken of a capacity; now and then more than it is.
func part(r *rand.Rand, capacity backendai.ResourceSlots, strange bool) (s backendai.ResourceSlots) {
	for name, amount := range capacity.All() {
		n, ok := amount.Int64()
		if r.IntN(3) > 0 && ok && n >= 0 && n < 1000 {
			s = s.With(name, backendai.DecimalOf(int64(r.IntN(int(n)+1))))
		}
		if strange && r.IntN(20) == 0 {
			s = s.With(name, anyAmount(r, 5, true, false))
		}
	}
	if strange && r.IntN(20) == 0 {
		s = s.With("other", backendai.DecimalOf(int64(r.IntN(3)-1)))
	}
	return s
}

// pair drives both schedulers with the same events.
type pair struct {
	t *testing.T
	// origin is what makes the same pair again. Several tests have pairs, each with seeds of its own.
	origin string
	r      *rand.Rand
	core   *Core
	naive  *naiveCore
	now    time.Time
	known  *backendai.KnownSlots

	waiting, placed []uuid.UUID
	running         []uuid.UUID // kernels
	kernels         map[uuid.UUID][]uuid.UUID
	created         int
	predicates      bool
	placements      int
	preempted       int
	backfilled      int
	told            []uuid.UUID // sessions that have to go
	tight           bool        // much waits for room
	log             []string
	quiet           bool // the caller makes the passes
	alone           bool // without the scan
}

func newPair(t *testing.T, seed uint64) *pair {
	r := rand.New(rand.NewPCG(seed, 2))
	p := &pair{t: t, origin: fmt.Sprintf("newPair(t, %d)", seed), r: r, now: time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC), kernels: map[uuid.UUID][]uuid.UUID{}}
	p.known = backendai.NewKnownSlots(backendai.KnownSlot{Name: "cuda.shares", Type: backendai.SlotCount})
	policy := protocol.Policy{Name: policies[r.IntN(4)]}
	p.predicates = true
	if policy.Name == policyFIFO && r.IntN(2) == 0 {
		// Who has failed how often depends on how often the predicates of those who wait for a quota are tried: there
		// the two differ by intention.
		policy.RetriesToSkip, p.predicates = 1+r.IntN(3), false
	}
	if policy.Options = p.options(); !p.predicates { // nor does backfill report to everybody as often
		policy.Options.Backfill, policy.Options.Preemption = false, false
	}
	if r.IntN(3) == 0 {
		policy.PendingTimeout = time.Minute
	}
	p.core, p.naive = NewCore("g", policy, p.known), newNaive("g", policy, p.known)
	for i := range 1 + r.IntN(6) {
		p.agent(i)
	}
	return p
}

// newTight makes a pair with some of the options on, in which much waits for room.
func newTight(t *testing.T, seed uint64) *pair {
	r := rand.New(rand.NewPCG(seed, 3))
	p := &pair{t: t, origin: fmt.Sprintf("newTight(t, %d)", seed), r: r, now: time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC), kernels: map[uuid.UUID][]uuid.UUID{}, tight: true, predicates: true}
	p.known = backendai.NewKnownSlots(backendai.KnownSlot{Name: "cuda.shares", Type: backendai.SlotCount})
	policy := protocol.Policy{Name: policies[r.IntN(4)], Options: p.options()}
	p.core, p.naive = NewCore("g", policy, p.known), newNaive("g", policy, p.known)
	for i := range 1 + r.IntN(3) {
		p.agent(i)
	}
	return p
}

// options are on in most cases: those that bear on order and placement, and those that look ahead.
func (p *pair) options() (o protocol.Options) {
	if p.r.IntN(2) == 0 {
		o.Priority = p.r.IntN(2) == 0
		if p.r.IntN(2) == 0 {
			o.FairShareHalfLife = 30 * time.Second
		}
		o.Placement = []string{"", placeSpread, placePack}[p.r.IntN(3)]
	}
	n := p.r.IntN(6)
	if p.tight {
		n = p.r.IntN(4)
	}
	switch n {
	case 0, 1:
		o.Backfill = true
	case 2:
		o.Preemption = true
	case 3:
		o.Backfill, o.Preemption = true, true
	}
	if o.Preemption && p.r.IntN(2) == 0 {
		o.PreemptionMinRuntime = time.Duration(p.r.IntN(10)) * time.Second
	}
	return o
}

func (p *pair) wishes() (w protocol.Wishes) {
	w.Priority, w.Preemptible = p.r.IntN(8)-2, p.r.IntN(3) > 0 || p.tight && p.r.IntN(2) > 0
	if p.r.IntN(3) > 0 || p.tight && p.r.IntN(4) > 0 {
		w.TimeLimit = time.Duration(1+p.r.IntN(60)) * time.Second
	}
	return w
}

func (p *pair) id(kind byte) uuid.UUID {
	p.created++
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], p.r.Uint64())
	id[15] = kind
	binary.BigEndian.PutUint32(id[8:], uint32(p.created))
	return id
}

func (p *pair) apply(event func() any) {
	a, b := event(), event()
	p.log = append(p.log, fmt.Sprintf("%T %+v", a, a))
	p.core.Apply(a, p.now)
	if !p.alone {
		p.naive.Apply(b, p.now)
	}
}

func (p *pair) agent(i int) {
	s := protocol.AgentState{ID: fmt.Sprintf("agent%d", i), ScalingGroup: "g", Architecture: "x", Alive: p.r.IntN(8) > 0, Schedulable: p.r.IntN(8) > 0,
		Available: backendai.SlotsOf("cpu", fmt.Sprint(4*(1+p.r.IntN(2))), "mem", fmt.Sprint(4*(1+p.r.IntN(2)), "g"))}
	if p.r.IntN(3) == 0 {
		s.Available = s.Available.With("cuda.shares", backendai.DecimalOf(int64(1+p.r.IntN(2))))
	}
	if p.r.IntN(5) == 0 {
		s.Architecture = "y"
	}
	if p.r.IntN(20) == 0 {
		s.ScalingGroup = "elsewhere"
	}
	if p.tight && p.r.IntN(8) > 0 {
		s.Alive, s.Schedulable, s.Architecture, s.ScalingGroup = true, true, "x", "g"
	}
	p.apply(func() any { c := s; return &c })
}

func (p *pair) enqueue() {
	r := p.r
	s := protocol.PendingSession{ID: p.id(1), Type: backendai.Interactive, AccessKey: fmt.Sprintf("key%d", r.IntN(3)), DomainName: fmt.Sprintf("domain%d", r.IntN(2)),
		GroupID: uuid.UUID{byte(r.IntN(2))}, ScalingGroup: "g", ClusterMode: backendai.SingleNode,
		CreatedAt: p.now.Add(-time.Duration(r.IntN(50)) * time.Second), Limits: p.limits(), Wishes: p.wishes()}
	s.Limits.ScalingGroups = map[string][]backendai.SessionType{"g": backendai.SessionTypes}
	if p.predicates {
		if r.IntN(5) == 0 {
			at := p.now.Add(time.Duration(r.IntN(40)) * time.Second)
			s.Type, s.StartsAt = backendai.Batch, &at
		}
		if len(p.waiting) > 0 && r.IntN(6) == 0 {
			s.DependsOn = []protocol.Dependency{{ID: p.waiting[r.IntN(len(p.waiting))], Name: "d"}}
		}
	}
	arch := "x"
	if r.IntN(6) == 0 && !p.tight {
		arch = "y"
	}
	n := 1
	if r.IntN(4) == 0 {
		n = 2 + r.IntN(3)
		if r.IntN(2) == 0 {
			s.ClusterMode = backendai.MultiNode
		}
	}
	want := backendai.SlotsOf("cpu", fmt.Sprint(1+r.IntN(3)), "mem", fmt.Sprint(r.IntN(3), "g"))
	if p.tight && r.IntN(3) == 0 { // one that will have to wait
		want = backendai.SlotsOf("cpu", fmt.Sprint(3+r.IntN(3)), "mem", fmt.Sprint(r.IntN(3), "g"))
	}
	if r.IntN(5) == 0 {
		want = want.With("cuda.shares", backendai.DecimalScaled(int64(r.IntN(4)), 1))
	}
	for range n {
		s.Kernels = append(s.Kernels, protocol.PendingKernel{ID: p.id(2), Architecture: arch, Slots: want})
		p.kernels[s.ID] = append(p.kernels[s.ID], s.Kernels[len(s.Kernels)-1].ID)
	}
	if r.IntN(30) == 0 {
		s.Kernels[0].Agent = "agent0"
	}
	p.waiting = append(p.waiting, s.ID)
	p.apply(func() any {
		c := s
		c.DependsOn = slices.Clone(s.DependsOn)
		return &protocol.Enqueue{Session: c}
	})
}

func (p *pair) limits() (l protocol.Limits) {
	free, _ := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, p.known)
	l.Keypair, l.Group, l.Domain = free, free, free
	l.ScalingGroups = map[string][]backendai.SessionType{"g": backendai.SessionTypes}
	if !p.predicates {
		return l
	}
	quota := func() backendai.ResourceSlots { return free.With("cpu", backendai.DecimalOf(int64(2+p.r.IntN(10)))) }
	if p.tight && p.r.IntN(3) > 0 {
		return l
	}
	if p.r.IntN(3) == 0 {
		l.MaxConcurrentSessions = 1 + p.r.IntN(3)
	}
	if p.r.IntN(3) == 0 {
		l.Keypair = quota()
	}
	if p.r.IntN(3) == 0 {
		l.Group = quota()
	}
	if p.r.IntN(3) == 0 {
		l.Domain = quota()
	}
	if p.r.IntN(20) == 0 {
		l.ScalingGroups = map[string][]backendai.SessionType{"other": backendai.SessionTypes}
	}
	return l
}

func pick[T any](r *rand.Rand, list *[]T) (t T, ok bool) {
	if len(*list) == 0 {
		return t, false
	}
	i := r.IntN(len(*list))
	t = (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return t, true
}

func (p *pair) step() {
	r := p.r
	switch n := r.IntN(20); {
	case n < 7:
		p.enqueue()
	case n < 9:
		if id, ok := pick(r, &p.placed); ok {
			committed := r.IntN(4) > 0
			if committed {
				p.running = append(p.running, p.kernels[id]...)
			}
			p.apply(func() any { return &protocol.Placed{SessionID: id, Committed: committed} })
			if a := p.core.allocs[p.kernels[id][0]]; committed && a != nil && r.IntN(4) > 0 { // it is RUNNING at once
				slots := a.Slots
				for _, k := range p.kernels[id] {
					p.apply(func() any { return &protocol.Settle{KernelID: k, Slots: slots, Since: p.now} })
				}
			}
		}
	case n < 12 && p.tight && n > 9:
		p.now = p.now.Add(time.Duration(r.IntN(3)) * time.Second)
		p.apply(func() any { return &protocol.Tick{Now: p.now} })
	case n < 12:
		if id, ok := pick(r, &p.running); ok {
			p.apply(func() any { return &protocol.Release{KernelIDs: []uuid.UUID{id}} })
		}
	case n == 12:
		if len(p.running) > 0 {
			id := p.running[r.IntN(len(p.running))]
			p.apply(func() any { return &protocol.Ending{KernelIDs: []uuid.UUID{id}} })
		}
	case n == 13:
		if len(p.running) > 0 {
			id, slots := p.running[r.IntN(len(p.running))], backendai.SlotsOf("cpu", fmt.Sprint(1+r.IntN(3)), "mem", "1g")
			p.apply(func() any { return &protocol.Settle{KernelID: id, Slots: slots} })
		}
	case n == 14:
		p.agent(r.IntN(6))
	case n == 15:
		if len(p.waiting) > 0 {
			id := p.waiting[r.IntN(len(p.waiting))]
			switch r.IntN(4) {
			case 3:
				w := p.wishes()
				p.apply(func() any { return &protocol.WishesChanged{SessionID: id, Wishes: w} })
			case 0:
				p.apply(func() any { return &protocol.Withdraw{SessionID: id} })
			case 1:
				p.apply(func() any { return &protocol.DependencyDone{SessionID: id} })
			case 2:
				if l := p.limits(); p.predicates {
					p.apply(func() any { return &protocol.LimitsChanged{SessionID: id, Limits: l} })
				}
			}
		}
	case n == 16:
		if r.IntN(5) == 0 && p.predicates {
			policy := protocol.Policy{Name: policies[r.IntN(4)], Options: p.options()}
			p.apply(func() any { return &protocol.PolicyChanged{Policy: policy} })
		}
	case n < 19:
		p.now = p.now.Add(time.Duration(r.IntN(10)) * time.Second)
		p.apply(func() any { return &protocol.Tick{Now: p.now} })
	case n == 19:
		if id, ok := pick(r, &p.told); ok {
			p.apply(func() any { return &protocol.Ending{KernelIDs: p.kernels[id]} })
			if r.IntN(4) > 0 {
				p.apply(func() any { return &protocol.Release{KernelIDs: p.kernels[id]} })
			}
		}
	}
	if !p.quiet && (p.core.Due() || p.naive.due) {
		p.pass()
	}
}

func (p *pair) pass() []Effect {
	ours, errOurs := p.core.Pass(p.now)
	if p.alone {
		return ours
	}
	theirs, errTheirs := p.naive.Pass(p.now)
	if (errOurs == nil) != (errTheirs == nil) {
		p.t.Fatalf("%s: errors differ: %v, %v", p.origin, errOurs, errTheirs)
	}
	a, b := p.decisions(ours), p.decisions(theirs)
	if d := cmp.Diff(b, a); d != "" {
		for _, line := range p.log {
			p.t.Log(line)
		}
		p.t.Fatalf("%s: policy %+v: decisions differ (-scan +index):\n%s", p.origin, p.core.Policy, d)
	}
	for _, e := range ours {
		switch e := e.(type) {
		case Place:
			p.placed = append(p.placed, e.SessionID)
			p.placements++
		case Preempt:
			p.preempted++
			p.told = append(p.told, e.SessionID)
		}
	}
	p.backfilled = max(p.backfilled, p.core.backfilled)
	if d := cmp.Diff(p.naive.plans(), p.core.plans()); d != "" {
		for _, line := range p.log {
			p.t.Log(line)
		}
		p.t.Fatalf("%s: policy %+v: what is reserved differs (-scan +index):\n%s", p.origin, p.core.Policy, d)
	}
	for _, id := range p.core.order {
		if d := cmp.Diff(p.naive.agents[id].Occupied.String(), p.core.agents[id].Occupied.String()); d != "" {
			p.t.Fatalf("%s: what agent %s has occupied differs: %s", p.origin, id, d)
		}
	}
	if a, b := p.core.queue.Len(), len(p.naive.queue); a != b {
		p.t.Fatalf("%s: %d wait, and %d by the scan", p.origin, a, b)
	}
	return ours
}

// decisions are what both must agree on: placements, time-outs, and who holds the others up. Reports of failed predicates
// are not: those who cannot be helped by what has happened are not looked at again.
func (p *pair) decisions(effects []Effect) (list []string) {
	for _, e := range effects {
		switch e := e.(type) {
		case Place:
			text := "place " + e.SessionID.String()
			for _, k := range e.Placement.Kernels {
				text += " " + k.Agent
			}
			list = append(list, text)
		case TimeOut:
			list = append(list, "time out "+e.SessionID.String())
		case Preempt:
			list = append(list, "preempt "+e.SessionID.String()+" for "+e.For.String())
		case Report: // with backfill, who is told what is bounded in time
			if !p.core.Policy.Options.Backfill && *e.Attempt.StatusInfo == infoNoAgent {
				list = append(list, "blocked by "+e.SessionID.String()+" "+e.Attempt.Scheduler.Msg)
			}
		}
	}
	return list
}

// Whatever happens, the indexed scheduler with its parked sessions decides what one that looks at everything each time decides.
func TestDecisionsEqualScan(t *testing.T) {
	placements := 0
	for seed := range uint64(1000) {
		p := newPair(t, seed)
		for range 60 {
			p.step()
		}
		placements += p.placements
	}
	t.Logf("%d placements", placements)
}

// The same where there is little room, and sessions start ahead of others or have to go for them.
func TestDecisionsEqualScanWhereRoomIsShort(t *testing.T) {
	placements, preempted, backfilled := 0, 0, 0
	for seed := range uint64(400) {
		p := newTight(t, seed)
		for range 100 {
			p.step()
		}
		placements += p.placements
		preempted += p.preempted
		backfilled += p.backfilled
	}
	t.Logf("%d placements, %d of them behind a head that waits; %d preempted", placements, backfilled, preempted)
	if backfilled < 500 || preempted < 50 {
		t.Error("the states mean little")
	}
}

// What is counted is what is there.
func TestCounts(t *testing.T) {
	for seed := range uint64(200) {
		p := newPair(t, seed)
		for range 60 {
			p.step()
		}
		c := p.core
		parked, ready := 0, 0
		c.queue.Ascend(func(s *pending) bool {
			if s.parked != notParked {
				parked++
			} else {
				ready++
			}
			return true
		})
		if parked != c.parked || ready != c.fresh.Len()+c.stale.Len() {
			t.Fatalf("seed %d: %d parked, %d ready; counted are %d and %d", seed, parked, ready, c.parked, c.fresh.Len()+c.stale.Len())
		}
		members := 0
		for _, g := range c.crowds {
			members += g.members.Len()
			if !c.watchOf(g.key.watched).crowds[g] || g.ahead != nil && g.ahead.leads != g {
				t.Fatalf("seed %d: a crowd is lost", seed)
			}
		}
		alive := 0
		for a := range maps.Values(c.agents) {
			if a.Alive {
				alive++
			}
			if a.candidate() != (a.class != nil) {
				t.Fatalf("seed %d: the index does not have agent %s as it is", seed, a.ID)
			}
		}
		if alive != c.alive {
			t.Fatalf("seed %d: %d agents are alive; counted are %d", seed, alive, c.alive)
		}
	}
}
