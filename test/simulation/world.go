package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// began is when every world begins; the real clock is never asked.
var began = time.Date(2022, 3, 1, 0, 0, 0, 0, time.UTC)

// event is something that will happen. Events of a process wait while it is paused and vanish when it has been killed.
type event struct {
	at  int64 // nanoseconds since began
	seq uint64
	of  *process // nil: of the world outside of managers
	run func()
}

// World is one cluster in virtual time. It is used by one goroutine.
type World struct {
	seed   uint64
	opts   Options
	rng    *rand.Rand
	now    int64
	queue  []event
	seq    uint64
	digest uint64 // of everything that has happened: two runs of a seed must agree

	faults   faults
	healed   bool
	healedAt int64
	db       *database
	procs    map[string]*process // by address, dead ones too
	nodes    []*node
	agents   []*fakeAgent
	etcd     *registry
	clients  []*client

	names   map[uuid.UUID]string
	created map[uuid.UUID]bool // kernels that some agent has created
	trace   *trace
	found   []Violation
	stats   Stats
	stopped bool
}

func newWorld(seed uint64, opts Options, t *trace) *World {
	w := &World{
		seed: seed, opts: opts, rng: rand.New(rand.NewPCG(seed, 0x5eed)), trace: t,
		procs: make(map[string]*process), names: make(map[uuid.UUID]string), created: make(map[uuid.UUID]bool), digest: 14695981039346656037,
	}
	return w
}

// after makes something happen later. of is the process that it belongs to, nil for the world outside.
func (w *World) after(d time.Duration, of *process, run func()) {
	w.seq++
	w.push(event{at: w.now + int64(max(d, 0)), seq: w.seq, of: of, run: run})
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (w *World) push(e event) {
	w.queue = append(w.queue, e)
	for i := len(w.queue) - 1; i > 0; {
		up := (i - 1) / 2
		if !w.queue[i].before(&w.queue[up]) {
			break
		}
		w.queue[i], w.queue[up] = w.queue[up], w.queue[i]
		i = up
	}
}

func (w *World) pop() event {
	q := w.queue
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q[last] = event{}
	w.queue = q[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if q[c].before(&q[least]) {
				least = c
			}
		}
		if least == i {
			return top
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}

// step lets the next thing happen and reports whether there was one.
func (w *World) step() bool {
	if len(w.queue) == 0 || w.stopped {
		return false
	}
	e := w.pop()
	w.now = e.at
	if e.of != nil {
		if e.of.dead {
			return true
		}
		if e.of.paused {
			e.of.deferred = append(e.of.deferred, e)
			return true
		}
	}
	w.stats.Events++
	w.mix(uint64(e.at) ^ e.seq<<20)
	e.run()
	return true
}

func (w *World) mix(v uint64) { w.digest = (w.digest ^ v) * 1099511628211 }

// runUntil lets time pass until a moment, or until done holds; done is asked every few seconds.
func (w *World) runUntil(at time.Duration, done func() bool) bool {
	const every = int64(5 * time.Second)
	next := w.now + every
	for len(w.queue) > 0 && w.queue[0].at <= int64(at) && !w.stopped {
		if done != nil && w.queue[0].at > next {
			if done() {
				return true
			}
			next += every
		}
		w.step()
	}
	if done != nil {
		return done()
	}
	return true
}

func (w *World) time() time.Time { return began.Add(time.Duration(w.now)) }

// chance is true with probability p; a p of 0 draws nothing, so that faults that are off change no other choice.
func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a duration.
func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

// newID draws a UUID of version 4.
func (w *World) newID() (id uuid.UUID) {
	a, b := w.rng.Uint64(), w.rng.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func pick[T any](w *World, list []T) T { return list[w.rng.IntN(len(list))] }

// name is how a trace calls a session or kernel.
func (w *World) name(id uuid.UUID) string {
	if n := w.names[id]; n != "" {
		return n
	}
	return id.String()[:8]
}

func (w *World) log(format string, args ...any) {
	if w.trace != nil {
		w.trace.add(w.now, fmt.Sprintf(format, args...))
	}
}

// violate notes that an invariant does not hold; the first one ends the run.
func (w *World) violate(invariant, format string, args ...any) {
	v := Violation{Invariant: invariant, Text: fmt.Sprintf(format, args...), At: time.Duration(w.now)}
	w.log("VIOLATION %s: %s", v.Invariant, v.Text)
	if w.trace != nil {
		w.log("shards:%s", w.shardStates())
	}
	w.found = append(w.found, v)
	w.stopped = true
}
