package simulation

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Options say what a run is like.
type Options struct {
	// ReliableNetwork: no message between managers is lost while both ends live and the shard does not move.
	ReliableNetwork bool
	// Blind leaves out the check of I9, so that a bug in it must show by what comes of it.
	Blind bool
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string        `json:"invariant"`
	Text      string        `json:"text"`
	At        time.Duration `json:"at"` // virtual time
}

func (v Violation) String() string { return fmt.Sprintf("%s at %v: %s", v.Invariant, v.At, v.Text) }

// Stats count what a run has seen.
type Stats struct {
	Events      int `json:"events"`
	Sessions    int `json:"sessions"`
	Containers  int `json:"containers"`
	Deposed     int `json:"deposed"` // writes refused because of their epoch
	GaveUp      int `json:"gave_up"`
	Crashes     int `json:"crashes"` // of actors
	Quarantined int `json:"quarantined"`
	Retries     int `json:"retries"`    // transactions tried again
	Lost        int `json:"lost"`       // messages between managers
	Unowned     int `json:"unowned"`    // messages to shards that nobody owned
	Fenced      int `json:"fenced"`     // commands that an agent has refused because of their epoch
	Duplicates  int `json:"duplicates"` // creations that an official agent has refused
	Orphans     int `json:"orphans"`    // containers by deposed owners on agents that know no epoch
	HealSeconds int `json:"heal_seconds"`
}

// Add sums counts; the time to heal is the longest.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	s.Sessions += o.Sessions
	s.Containers += o.Containers
	s.Deposed += o.Deposed
	s.GaveUp += o.GaveUp
	s.Crashes += o.Crashes
	s.Quarantined += o.Quarantined
	s.Retries += o.Retries
	s.Lost += o.Lost
	s.Unowned += o.Unowned
	s.Fenced += o.Fenced
	s.Duplicates += o.Duplicates
	s.Orphans += o.Orphans
	s.HealSeconds = max(s.HealSeconds, o.HealSeconds)
}

// Result is what came of one seed.
type Result struct {
	Seed       uint64      `json:"seed"`
	Violations []Violation `json:"violations,omitempty"`
	Stats      Stats       `json:"stats"`
	Digest     uint64      `json:"digest"`
	// Trace is what happened last, of a run with violations.
	Trace []string `json:"trace,omitempty"`
}

// Failed tells whether an invariant was violated.
func (r *Result) Failed() bool { return len(r.Violations) > 0 }

// Run simulates one seed. A seed that fails is run again for the last events, keep of them.
func Run(seed uint64, opts Options, keep int) *Result {
	r := run(seed, opts, nil)
	if r.Failed() && keep > 0 {
		t := &trace{keep: keep}
		again := run(seed, opts, t)
		r.Trace = t.last()
		if again.Digest != r.Digest {
			r.Violations = append(r.Violations, Violation{Invariant: "determinism", Text: "a second run went another way"})
		}
	}
	return r
}

// Replay simulates one seed and tells everything that happens, line by line.
func Replay(seed uint64, opts Options, print func(string)) *Result {
	return run(seed, opts, &trace{print: print})
}

func run(seed uint64, opts Options, t *trace) *Result {
	w := newWorld(seed, opts, t)
	w.build()
	chaos := w.between(30*time.Second, 4*time.Minute)
	w.drawFaults()
	w.unleash(chaos)
	w.invite(chaos)
	w.runUntil(chaos, nil)
	if !w.stopped {
		w.heal()
		w.settle()
	}
	if !w.stopped {
		w.sweep()
	}
	return &Result{Seed: seed, Violations: w.found, Stats: w.stats, Digest: w.digest}
}

var (
	sizes = []backendai.ResourceSlots{slotsOf("1", "1"), slotsOf("2", "1"), slotsOf("1", "4")}
	whole = []backendai.ResourceSlots{slotsOf("4", "8"), slotsOf("6", "6"), slotsOf("8", "16")}
)

// build makes nodes, agents and the rows that administrators make.
func (w *World) build() {
	w.db = newDatabase(w, 3+w.rng.IntN(6))
	w.etcd = newRegistry(w)
	for i := range 1 + w.rng.IntN(2) {
		g := fmt.Sprintf("group%d", i)
		w.db.groups = append(w.db.groups, g)
		p := protocol.Policy{Name: pick(w, []string{"fifo", "lifo", "drf", "mof"})}
		if w.rng.IntN(4) == 0 {
			p.PendingTimeout = w.between(20*time.Second, 2*time.Minute)
		}
		if w.rng.IntN(4) == 0 {
			p.RetriesToSkip = 2
		}
		w.db.policies[g] = p
	}
	for i := range 2 {
		w.db.limits[fmt.Sprintf("KEY%d", i)] = w.drawLimits()
	}
	for i := range 1 + w.rng.IntN(4) {
		w.nodes = append(w.nodes, &node{w: w, name: fmt.Sprintf("m%d", i)})
	}
	for _, n := range w.nodes {
		n.start()
	}
	bundled := w.rng.IntN(3)
	for i := range len(w.db.groups) + w.rng.IntN(3) {
		a := &fakeAgent{w: w, id: fmt.Sprintf("a%d", i), group: w.db.groups[i%len(w.db.groups)], bundled: bundled == 0 || bundled == 1 && w.rng.IntN(2) == 0,
			capacity: pick(w, whole), high: make(map[uint32]uint64), cutFrom: make(map[string]int64)}
		a.containers = make(map[uuid.UUID]*container)
		w.agents = append(w.agents, a)
		w.after(w.between(0, 3*time.Second), nil, a.beatForEver)
	}
	w.etcd.expire()
}

// drawLimits makes quotas that one session of any size fits into.
func (w *World) drawLimits() protocol.Limits {
	l := protocol.Limits{ScalingGroups: make(map[string][]backendai.SessionType)}
	for _, g := range w.db.groups {
		l.ScalingGroups[g] = backendai.SessionTypes
	}
	free := backendai.ResourceSlots{}.With(backendai.CPU, backendai.Infinity()).With(backendai.Mem, backendai.Infinity())
	l.Keypair, l.Group, l.Domain = free, free, free
	switch w.rng.IntN(3) {
	case 0:
		l.MaxConcurrentSessions = 1 + w.rng.IntN(4)
	case 1:
		l.Keypair = slotsOf("6", "16")
	default:
	}
	return l
}

// invite makes the clients.
func (w *World) invite(until time.Duration) {
	for i := range 8 + w.rng.IntN(18) {
		c := &client{w: w, n: i, key: fmt.Sprintf("KEY%d", w.rng.IntN(2)), group: pick(w, w.db.groups), name: fmt.Sprintf("n%d", i), kernels: 1,
			mode: backendai.SingleNode, kind: backendai.Interactive, slots: pick(w, sizes), forced: w.rng.IntN(4) == 0, hold: w.between(0, until/2)}
		if w.rng.IntN(6) == 0 && i > 0 {
			c.name = fmt.Sprintf("n%d", w.rng.IntN(i))
		}
		if w.rng.IntN(3) == 0 {
			c.kernels, c.slots = 2+w.rng.IntN(2), sizes[0]
			if w.rng.IntN(2) == 0 {
				c.mode = backendai.MultiNode
			}
		}
		if c.kernels == 1 && w.rng.IntN(5) == 0 {
			c.kind = backendai.Batch
		}
		if before := len(w.clients); before > 0 && w.clients[before-1].kind == backendai.Batch && w.rng.IntN(2) == 0 {
			c.after = w.clients[before-1]
		}
		w.clients = append(w.clients, c)
		w.after(w.between(0, until*3/4), nil, c.start)
	}
}
