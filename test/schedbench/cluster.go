package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
)

const group = "default"

var (
	known     = backendai.NewKnownSlots(backendai.KnownSlot{Name: "cuda.device", Type: backendai.SlotCount})
	unlimited = func() backendai.ResourceSlots {
		free, err := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, known)
		if err != nil {
			panic(err)
		}
		return free
	}()
	rights = map[string][]backendai.SessionType{group: backendai.SessionTypes}
)

// hardware is what agents there are, of a hundred.
var hardware = []struct {
	of    int
	slots backendai.ResourceSlots
}{
	{55, backendai.SlotsOf("cpu", "32", "mem", "128g")},
	{25, backendai.SlotsOf("cpu", "64", "mem", "256g")},
	{12, backendai.SlotsOf("cpu", "64", "mem", "512g", "cuda.device", "8")},
	{8, backendai.SlotsOf("cpu", "48", "mem", "384g", "cuda.device", "4")},
}

// world is a scheduler with sessions that come and go.
type world struct {
	core    *scheduler.Core
	r       *rand.Rand
	now     time.Time
	made    uint64
	queued  map[uuid.UUID][]uuid.UUID // kernels of the sessions that wait
	running [][]uuid.UUID             // kernels of those that run
	options protocol.Options
	slots   map[uuid.UUID]backendai.ResourceSlots // of kernels, where the options are on
	sizes   []backendai.ResourceSlots
}

// policyOf is a policy by its name, with an option behind each plus: fifo+spread+backfill.
func policyOf(name string) protocol.Policy {
	words := strings.Split(name, "+")
	p := protocol.Policy{Name: words[0]}
	for _, option := range words[1:] {
		switch o := &p.Options; option {
		case "priority":
			o.Priority = true
		case "share":
			o.FairShareHalfLife = 24 * time.Hour
		case "spread", "pack":
			o.Placement = option
		case "backfill":
			o.Backfill = true
		case "preemption":
			o.Preemption = true
		}
	}
	return p
}

func newWorld(policy string, agents int) *world {
	p := policyOf(policy)
	w := &world{options: p.Options, core: scheduler.NewCore(group, p, known), r: rand.New(rand.NewPCG(1, 2)),
		now: time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC), queued: make(map[uuid.UUID][]uuid.UUID),
		slots: make(map[uuid.UUID]backendai.ResourceSlots)}
	for i := range agents {
		w.core.Apply(&protocol.AgentState{ID: fmt.Sprintf("i-%05d", w.r.IntN(1<<16)<<13|i), Addr: "tcp://10.0.0.1:6001", ScalingGroup: group,
			Architecture: "x86_64", Alive: true, Schedulable: true, Available: w.machine()}, w.now)
	}
	for _, cpu := range []int{1, 2, 4, 8, 16} {
		for _, gib := range []int{2, 4, 8} {
			w.sizes = append(w.sizes, backendai.SlotsOf("cpu", fmt.Sprint(cpu), "mem", fmt.Sprint(cpu*gib/2+1, "g")))
		}
	}
	for _, gpus := range []int{1, 1, 2, 4} {
		w.sizes = append(w.sizes, backendai.SlotsOf("cpu", fmt.Sprint(4*gpus), "mem", fmt.Sprint(32*gpus, "g"), "cuda.device", fmt.Sprint(gpus)))
	}
	return w
}

func (w *world) machine() backendai.ResourceSlots {
	at := w.r.IntN(100)
	for _, h := range hardware {
		if at -= h.of; at < 0 {
			return h.slots
		}
	}
	return hardware[0].slots
}

func (w *world) id() (id uuid.UUID) {
	w.made++
	binary.BigEndian.PutUint64(id[:], w.r.Uint64())
	binary.BigEndian.PutUint64(id[8:], w.made)
	return id
}

// session is one of mixed size; one in twenty is a cluster of two to eight containers on as many agents.
func (w *world) session() protocol.PendingSession {
	w.now = w.now.Add(time.Millisecond)
	s := protocol.PendingSession{ID: w.id(), Type: backendai.Interactive, AccessKey: fmt.Sprintf("AKIA%04d", w.r.IntN(200)),
		GroupID: uuid.UUID{byte(w.r.IntN(20))}, DomainName: "default", ScalingGroup: group, ClusterMode: backendai.SingleNode, CreatedAt: w.now,
		Limits: protocol.Limits{MaxConcurrentSessions: 1 << 20, Keypair: unlimited, Group: unlimited, Domain: unlimited, ScalingGroups: rights}}
	s.Wishes.Priority = len(w.queued) % 5 // without chance, so that all policies see the same sessions
	n := 1
	if w.r.IntN(20) == 0 {
		n, s.ClusterMode = 2+w.r.IntN(7), backendai.MultiNode
	}
	w.kernels(&s, n, w.sizes[w.r.IntN(len(w.sizes))])
	if o := w.options; o.Backfill || o.Preemption {
		s.Wishes = protocol.Wishes{Priority: w.r.IntN(5), Preemptible: w.r.IntN(3) == 0, TimeLimit: time.Duration(1+w.r.IntN(600)) * time.Minute}
	}
	return s
}

func (w *world) kernels(s *protocol.PendingSession, n int, size backendai.ResourceSlots) {
	for range n {
		s.Kernels = append(s.Kernels, protocol.PendingKernel{ID: w.id(), Image: "python", Architecture: "x86_64", Slots: size})
	}
}

func (w *world) enqueue(s protocol.PendingSession) {
	ids := make([]uuid.UUID, len(s.Kernels))
	for i, k := range s.Kernels {
		ids[i] = k.ID
		if s.Wishes.TimeLimit > 0 {
			w.slots[k.ID] = k.Slots
		}
	}
	w.queued[s.ID] = ids
	w.core.Apply(&protocol.Enqueue{Session: s}, w.now)
}

// pass makes one and answers its placements; it tells how many sessions were looked at, and how many placed.
func (w *world) pass() (decisions, placed int) {
	effects, err := w.core.Pass(w.now)
	if err != nil {
		panic(err)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case scheduler.Place:
			decisions++
			placed++
			w.core.Apply(&protocol.Placed{SessionID: e.SessionID, Committed: true}, w.now)
			w.running = append(w.running, w.queued[e.SessionID])
			if o := w.options; o.Backfill || o.Preemption {
				for _, k := range w.queued[e.SessionID] {
					w.core.Apply(&protocol.Settle{KernelID: k, Slots: w.slots[k], Since: w.now}, w.now)
				}
			}
			delete(w.queued, e.SessionID)
		case scheduler.Report:
			decisions++
		}
	}
	return decisions, placed
}

// end lets sessions that run end, chosen at random.
func (w *world) end(n int) {
	for range min(n, len(w.running)) {
		i := w.r.IntN(len(w.running))
		kernels := w.running[i]
		w.running[i] = w.running[len(w.running)-1]
		w.running = w.running[:len(w.running)-1]
		w.core.Apply(&protocol.Ending{KernelIDs: kernels}, w.now)
		w.core.Apply(&protocol.Release{KernelIDs: kernels}, w.now)
	}
}

// park fills the queue with sessions that wait for something else than an agent: a start time, a dependency, an access, or a
// quota that is used up: of a user of their own, of a user who has many, of the domain in which everything else runs.
func (w *world) park(n int) {
	far := w.now.Add(1000 * time.Hour)
	for i := range n {
		s := w.session()
		s.AccessKey = fmt.Sprintf("PARKED%04d", i%1000)
		switch i % 6 {
		case 0:
			s.Type, s.StartsAt = backendai.Batch, &far
		case 1:
			s.DependsOn = []protocol.Dependency{{ID: uuid.UUID{1}, Name: "never"}}
		case 2:
			s.Limits.ScalingGroups = map[string][]backendai.SessionType{"other": backendai.SessionTypes}
		case 3:
			s.Limits.Keypair = backendai.ResourceSlots{}
		case 4:
			s.AccessKey, s.Limits.Keypair = "AKIA0000", backendai.SlotsOf("cpu", "1", "mem", "1g")
		case 5:
			s.Limits.Domain = backendai.SlotsOf("cpu", "1", "mem", "1g")
		}
		w.core.Apply(&protocol.Enqueue{Session: s}, w.now) // they never start: nothing of them need be kept here
	}
	w.pass()
}
