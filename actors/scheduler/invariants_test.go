package scheduler

import (
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Sequences of about a thousand steps, enough for the 100,000 that the test asks for: requests, cancellations, ends, agents that come, go
// and change, other policies, other limits, placements that are committed and others that are not.
const (
	invariantRuns  = 150
	invariantSteps = 1000
)

// model is what must be true of a scheduler, in the plainest books.
type model struct {
	core    *Core
	now     time.Time
	made    uint64
	policy  protocol.Policy
	agents  map[string]protocol.AgentState
	pending map[uuid.UUID]protocol.PendingSession // asked for, and neither committed nor withdrawn
	placed  map[uuid.UUID]protocol.Placement      // not acknowledged yet
	held    map[uuid.UUID]*held                   // by kernel
	done    int
	steps   int
}

// held is what one kernel takes.
type held struct {
	session protocol.PendingSession
	agent   string
	slots   backendai.ResourceSlots
	ending  bool
}

var (
	invariantKnown = backendai.NewKnownSlots(backendai.KnownSlot{Name: "cuda.device", Type: backendai.SlotCount})
	invariantWide  = func() backendai.ResourceSlots {
		s, err := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, invariantKnown)
		if err != nil {
			panic(err)
		}
		return s
	}()
)

func (m *model) id() (id uuid.UUID) {
	m.made++
	binary.BigEndian.PutUint64(id[8:], m.made)
	return id
}

// do applies an event and one pass, as the shell does, and looks at what comes of it.
func (m *model) do(t *rapid.T, event any) {
	m.now = m.now.Add(time.Second)
	m.effects(t, m.core.Apply(event, m.now))
	if m.core.Due() {
		m.pass(t)
	}
}

func (m *model) pass(t *rapid.T) {
	effects, err := m.core.Pass(m.now)
	if err != nil {
		t.Fatal(err)
	}
	m.effects(t, effects)
}

func (m *model) effects(t *rapid.T, effects []Effect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case Place:
			m.place(t, e)
		case Report:
			if _, ok := m.pending[e.SessionID]; !ok {
				t.Fatalf("a report about %s, which does not wait", e.SessionID)
			}
		case TimeOut:
			if s, ok := m.pending[e.SessionID]; !ok || m.now.Sub(s.CreatedAt) < m.policy.PendingTimeout {
				t.Fatalf("%s timed out at %s", e.SessionID, m.now)
			}
			delete(m.pending, e.SessionID)
		case Occupied:
			if taken := m.takenOf(e.Agent); !taken.Equal(e.Slots) {
				t.Fatalf("%s is said to have %s taken, it has %s", e.Agent, e.Slots, taken)
			}
		}
	}
}

// place checks a placement against the books: I1, I3, I5, I7.
func (m *model) place(t *rapid.T, e Place) {
	s, ok := m.pending[e.SessionID]
	if !ok {
		t.Fatalf("%s is placed and does not wait", e.SessionID)
	}
	if again, ok := m.placed[s.ID]; ok {
		if !slices.Equal(again.Kernels, e.Placement.Kernels) {
			t.Fatalf("%s is placed again, elsewhere", s.ID)
		}
		return
	}
	if len(e.Placement.Kernels) != len(s.Kernels) {
		t.Fatalf("%d of %d kernels of %s are placed", len(e.Placement.Kernels), len(s.Kernels), s.ID)
	}
	m.withinQuotas(t, s)
	for i, where := range e.Placement.Kernels {
		k := s.Kernels[i]
		a, ok := m.agents[where.Agent]
		switch {
		case where.KernelID != k.ID || m.held[k.ID] != nil:
			t.Fatalf("kernel %s is placed as %s, or twice", k.ID, where.KernelID)
		case !ok || !a.Alive || !a.Schedulable || a.Architecture != k.Architecture:
			t.Fatalf("kernel %s is placed on %+v", k.ID, a)
		}
		m.held[k.ID] = &held{session: s, agent: where.Agent, slots: k.Slots}
	}
	for _, where := range e.Placement.Kernels {
		if taken := m.takenOf(where.Agent); !taken.LessEq(m.agents[where.Agent].Available) {
			t.Fatalf("%s has %s, and %s of it are taken", where.Agent, m.agents[where.Agent].Available, taken)
		}
	}
	if s.ClusterMode == backendai.SingleNode && slices.ContainsFunc(e.Placement.Kernels, func(k protocol.KernelPlacement) bool { return k.Agent != e.Placement.Kernels[0].Agent }) {
		t.Fatalf("%s of a single node is placed on several", s.ID)
	}
	m.placed[s.ID] = *e.Placement
}

func (m *model) takenOf(agent string) (taken backendai.ResourceSlots) {
	for _, h := range m.held {
		if h.agent == agent {
			taken = taken.Add(h.slots)
		}
	}
	return taken
}

// withinQuotas checks that a session that is placed finds room in every quota beside those that count.
func (m *model) withinQuotas(t *rapid.T, s protocol.PendingSession) {
	sessions := make(map[uuid.UUID]bool)
	var key, group, domain, wanted backendai.ResourceSlots
	for _, k := range s.Kernels {
		wanted = wanted.Add(k.Slots)
	}
	for _, h := range m.held {
		o := h.session
		if h.ending {
			continue
		}
		if o.AccessKey == s.AccessKey {
			key = key.Add(h.slots)
			sessions[o.ID] = true
		}
		if o.GroupID == s.GroupID {
			group = group.Add(h.slots)
		}
		if o.DomainName == s.DomainName {
			domain = domain.Add(h.slots)
		}
	}
	for what, q := range map[string]struct{ used, limit backendai.ResourceSlots }{"keypair": {key, s.Limits.Keypair}, "group": {group, s.Limits.Group}, "domain": {domain, s.Limits.Domain}} {
		if sum := q.used.Add(wanted); !sum.LessEq(q.limit) {
			t.Fatalf("%s is placed and brings the %s to %s of %s", s.ID, what, sum, q.limit)
		}
	}
	if limit := s.Limits.MaxConcurrentSessions; limit > 0 && len(sessions) >= limit {
		t.Fatalf("%s is placed as number %d of at most %d sessions", s.ID, len(sessions)+1, limit)
	}
	if _, ok := s.Limits.ScalingGroups[m.core.Group]; !ok {
		t.Fatalf("%s is placed without access", s.ID)
	}
	if s.StartsAt != nil && m.now.Before(*s.StartsAt) {
		t.Fatalf("%s is placed before its time", s.ID)
	}
}

// check compares the books with the scheduler's after a step.
func (m *model) check(t *rapid.T) {
	m.steps++
	waiting, _ := m.core.QueueLength()
	if waiting+len(m.placed) != len(m.pending) {
		t.Fatalf("%d wait and %d are placed, of %d that are asked for", waiting, len(m.placed), len(m.pending))
	}
	if len(m.core.allocs) != len(m.held) {
		t.Fatalf("%d allocations, %d kernels", len(m.core.allocs), len(m.held))
	}
	for _, a := range m.core.Agents() {
		if taken := m.takenOf(a.ID); !taken.Equal(a.Occupied) {
			t.Fatalf("%s: %s are taken, not %s", a.ID, taken, a.Occupied)
		}
	}
}

func oneOf[T any](t *rapid.T, list []T, what string) T { return rapid.SampledFrom(list).Draw(t, what) }

// anyOf takes one of a map's keys, the same for the same draws.
func anyOf[V any](t *rapid.T, from map[uuid.UUID]V, what string) (id uuid.UUID) {
	if len(from) == 0 {
		t.Skip("none")
	}
	keys := slices.SortedFunc(maps.Keys(from), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return oneOf(t, keys, what)
}

func (m *model) limits(t *rapid.T) protocol.Limits {
	l := protocol.Limits{Keypair: invariantWide, Group: invariantWide, Domain: invariantWide,
		ScalingGroups: map[string][]backendai.SessionType{"default": backendai.SessionTypes}}
	narrow := func(s backendai.ResourceSlots, cpu int) backendai.ResourceSlots {
		return s.With("cpu", backendai.DecimalOf(int64(cpu)))
	}
	switch rapid.IntRange(0, 6).Draw(t, "limit") {
	case 0:
		l.MaxConcurrentSessions = rapid.IntRange(1, 3).Draw(t, "sessions")
	case 1:
		l.Keypair = narrow(l.Keypair, rapid.IntRange(1, 8).Draw(t, "cpu"))
	case 2:
		l.Group = narrow(l.Group, rapid.IntRange(2, 12).Draw(t, "cpu"))
	case 3:
		l.Domain = narrow(l.Domain, rapid.IntRange(4, 16).Draw(t, "cpu"))
	case 4:
		if rapid.IntRange(0, 3).Draw(t, "access") == 0 {
			l.ScalingGroups = nil
		}
	}
	return l
}

func (m *model) enqueue(t *rapid.T) {
	s := protocol.PendingSession{ID: m.id(), Type: backendai.Interactive, AccessKey: "AK" + strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "key")),
		GroupID: uuid.UUID{byte(rapid.IntRange(0, 2).Draw(t, "group"))}, DomainName: "default", ScalingGroup: "default", ClusterMode: backendai.SingleNode,
		CreatedAt: m.now, Limits: m.limits(t)}
	if rapid.IntRange(0, 9).Draw(t, "batch") == 0 {
		at := m.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "in")) * time.Second)
		s.Type, s.StartsAt = backendai.Batch, &at
	}
	n, slots := 1, backendai.SlotsOf("cpu", strconv.Itoa(rapid.IntRange(1, 4).Draw(t, "cpu")), "mem", strconv.Itoa(rapid.IntRange(1, 4).Draw(t, "mem")))
	if rapid.IntRange(0, 4).Draw(t, "gpu") == 0 {
		slots = slots.With("cuda.device", backendai.DecimalOf(1))
	}
	if rapid.IntRange(0, 3).Draw(t, "cluster") == 0 {
		n = rapid.IntRange(2, 4).Draw(t, "kernels")
		s.ClusterMode = oneOf(t, backendai.ClusterModes, "mode")
	}
	for range n {
		s.Kernels = append(s.Kernels, protocol.PendingKernel{ID: m.id(), Image: "i", Architecture: "x", Slots: slots})
	}
	if rapid.IntRange(0, 9).Draw(t, "depends") == 0 && len(m.pending) > 0 {
		s.DependsOn = []protocol.Dependency{{ID: anyOf(t, m.pending, "on"), Name: "other"}}
	}
	m.pending[s.ID] = s
	m.do(t, &protocol.Enqueue{Session: s})
}

// ofSession lists the kernels that a session holds.
func (m *model) ofSession(id uuid.UUID) (kernels []uuid.UUID) {
	for k, h := range m.held {
		if h.session.ID == id {
			kernels = append(kernels, k)
		}
	}
	return kernels
}

func (m *model) acknowledge(t *rapid.T, id uuid.UUID, committed bool) {
	delete(m.placed, id)
	if delete(m.pending, id); !committed {
		for _, k := range m.ofSession(id) {
			delete(m.held, k)
		}
	}
	m.do(t, &protocol.Placed{SessionID: id, Committed: committed})
}

// running are the sessions that hold slots and are not just being placed.
func (m *model) running() map[uuid.UUID]bool {
	list := make(map[uuid.UUID]bool)
	for _, h := range m.held {
		if _, placing := m.placed[h.session.ID]; !placing {
			list[h.session.ID] = true
		}
	}
	return list
}

func (m *model) end(t *rapid.T, id uuid.UUID) {
	kernels := m.ofSession(id)
	for _, k := range kernels {
		m.held[k].ending = true
	}
	m.do(t, &protocol.Ending{KernelIDs: kernels})
	for _, k := range kernels {
		delete(m.held, k)
	}
	m.done++
	m.do(t, &protocol.Release{KernelIDs: kernels})
}

func (m *model) agent(t *rapid.T) {
	s := protocol.AgentState{ID: "a" + strconv.Itoa(rapid.IntRange(0, 5).Draw(t, "agent")), ScalingGroup: "default", Architecture: "x",
		Alive: rapid.IntRange(0, 5).Draw(t, "alive") > 0, Schedulable: rapid.IntRange(0, 7).Draw(t, "schedulable") > 0,
		Available: backendai.SlotsOf("cpu", strconv.Itoa(rapid.IntRange(1, 8).Draw(t, "cpu")), "mem", strconv.Itoa(rapid.IntRange(1, 12).Draw(t, "mem")))}
	if rapid.IntRange(0, 2).Draw(t, "gpus") == 0 {
		s.Available = s.Available.With("cuda.device", backendai.DecimalOf(int64(rapid.IntRange(1, 4).Draw(t, "gpu"))))
	}
	if rapid.IntRange(0, 15).Draw(t, "moves") == 0 {
		s.ScalingGroup = "other"
		delete(m.agents, s.ID)
	} else {
		m.agents[s.ID] = s
	}
	m.do(t, &s)
}

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": m.check, "ask": m.enqueue, "ask for another": m.enqueue, "agent": m.agent,
		"commit":         func(t *rapid.T) { m.acknowledge(t, anyOf(t, m.placed, "session"), true) },
		"commit another": func(t *rapid.T) { m.acknowledge(t, anyOf(t, m.placed, "session"), true) },
		"refuse":         func(t *rapid.T) { m.acknowledge(t, anyOf(t, m.placed, "session"), false) },
		"end":            func(t *rapid.T) { m.end(t, anyOf(t, m.running(), "session")) },
		"cancel": func(t *rapid.T) {
			id := anyOf(t, m.pending, "session")
			for _, k := range m.ofSession(id) {
				delete(m.held, k)
			}
			delete(m.placed, id)
			delete(m.pending, id)
			m.do(t, &protocol.Withdraw{SessionID: id})
		},
		"limits": func(t *rapid.T) {
			s := m.pending[anyOf(t, m.pending, "session")]
			s.Limits = m.limits(t)
			if _, placing := m.placed[s.ID]; placing {
				t.Skip("it is decided on")
			}
			m.pending[s.ID] = s
			m.do(t, &protocol.LimitsChanged{SessionID: s.ID, Limits: s.Limits})
		},
		"dependency": func(t *rapid.T) {
			m.do(t, &protocol.DependencyDone{SessionID: anyOf(t, m.pending, "session"), Failed: rapid.Bool().Draw(t, "failed")})
		},
		"policy": func(t *rapid.T) {
			m.policy = protocol.Policy{Name: oneOf(t, policies, "policy"), RetriesToSkip: rapid.IntRange(0, 3).Draw(t, "skip")}
			if rapid.Bool().Draw(t, "options") {
				m.policy.Options = protocol.Options{Priority: rapid.Bool().Draw(t, "priority"), Placement: oneOf(t, []string{"", placeSpread, placePack}, "placement"),
					FairShareHalfLife: oneOf(t, []time.Duration{0, time.Minute, time.Hour}, "half-life")}
			}
			if rapid.IntRange(0, 4).Draw(t, "timeout") == 0 {
				m.policy.PendingTimeout = 2 * time.Minute
			}
			m.do(t, &protocol.PolicyChanged{Policy: m.policy})
		},
		"wishes": func(t *rapid.T) {
			m.do(t, &protocol.WishesChanged{SessionID: anyOf(t, m.pending, "session"), Wishes: protocol.Wishes{Priority: rapid.IntRange(-2, 2).Draw(t, "priority")}})
		},
		"tick": func(t *rapid.T) {
			m.now = m.now.Add(10 * time.Second)
			m.do(t, &protocol.Tick{Now: m.now})
		},
		"settle": func(t *rapid.T) {
			k := anyOf(t, m.held, "kernel")
			h := m.held[k]
			if _, placing := m.placed[h.session.ID]; placing || h.ending {
				t.Skip("it does not run")
			}
			h.slots = h.slots.With("cpu", backendai.DecimalOf(1)) // an agent gives no more than was asked for
			m.do(t, &protocol.Settle{KernelID: k, Slots: h.slots})
		},
	}
}

// I1 allocated ≤ capacity, I3 one incarnation, I5 no quota exceeded, I7 all or nothing, after every step; I4 in the end: whoever may start, starts.
func TestInvariants(t *testing.T) {
	set := func(name, value string) {
		f := flag.Lookup(name)
		if before := f.Value.String(); f.Value.Set(value) == nil {
			t.Cleanup(func() { _ = f.Value.Set(before) })
		}
	}
	set("rapid.steps", strconv.Itoa(invariantSteps))
	set("rapid.checks", strconv.Itoa(invariantRuns))
	placed, ended, steps := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := &model{core: NewCore("default", protocol.Policy{}, invariantKnown), now: time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC),
			agents: make(map[string]protocol.AgentState), pending: make(map[uuid.UUID]protocol.PendingSession), placed: make(map[uuid.UUID]protocol.Placement), held: make(map[uuid.UUID]*held)}
		t.Repeat(m.actions())
		ended += m.done
		steps += m.steps
		placed += m.finish(t)
	})
	t.Logf("%d steps; %d sessions ended meanwhile, %d more were placed in the end", steps, ended, placed)
	if steps < 100_000 {
		t.Errorf("only %d steps", steps)
	}
}

// finish makes room for everyone, and all start but those who wait for something else than room.
func (m *model) finish(t *rapid.T) (placed int) {
	m.policy = protocol.Policy{Name: "fifo", RetriesToSkip: 1} // nobody is held up for ever
	m.do(t, &protocol.PolicyChanged{Policy: m.policy})
	for i := range 4 {
		s := protocol.AgentState{ID: fmt.Sprintf("large%d", i), ScalingGroup: "default", Architecture: "x", Alive: true, Schedulable: true, Available: backendai.SlotsOf("cpu", "4000", "mem", "4000", "cuda.device", "4000")}
		m.agents[s.ID] = s
		m.do(t, &s)
	}
	m.now = m.now.Add(time.Hour)
	for before := -1; before != len(m.pending) || len(m.placed) > 0; {
		before = len(m.pending)
		for id := range m.running() {
			m.end(t, id)
		}
		for _, id := range slices.Collect(maps.Keys(m.placed)) {
			m.acknowledge(t, id, true)
			placed++
		}
		m.do(t, &protocol.Tick{Now: m.now})
	}
	for id, s := range m.pending {
		e, ok := m.core.Explain(id, m.now)
		if !ok {
			t.Fatalf("%s is lost", id)
		}
		for _, r := range e.Reasons {
			switch r.Kind {
			case WaitsForDependency, WaitsForAccess:
			case WaitsForQuota:
				if !r.Never {
					t.Fatalf("%s waits for a quota of which nothing is used: %+v", id, r)
				}
			default:
				t.Fatalf("%s waits with %d kernels: %+v", id, len(s.Kernels), r)
			}
		}
		if len(e.Reasons) == 0 {
			t.Fatalf("%s waits for nothing", id)
		}
	}
	return placed
}
