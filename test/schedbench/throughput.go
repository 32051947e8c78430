package main

import (
	"runtime"
	"syscall"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// endsPerPass is how many sessions end between two passes: about what piles up in a busy scheduler's mailbox.
const endsPerPass = 8

// Throughput is one measurement in steady state.
type Throughput struct {
	Policy    string  `json:"policy"`
	Agents    int     `json:"agents"`
	Pending   int     `json:"pending"`
	Parked    int     `json:"parked"`
	Decisions int     `json:"decisions"`
	Seconds   float64 `json:"cpu_seconds"`
	PerSecond float64 `json:"decisions_per_second"` // of processor time
	FillRate  float64 `json:"fill_per_second"`      // placements per second while the empty cluster fills
}

// spent is the processor time this program has taken, garbage collection included: what others do on the machine does not count.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// steady is called when the steady state begins.
var steady = func() {}

// throughput fills a cluster, then keeps it at work for a while.
func throughput(policy string, agents, pending, parked int, during time.Duration) Throughput {
	w := newWorld(policy, agents)
	w.park(parked)
	t := Throughput{Policy: policy, Agents: agents, Pending: pending, Parked: parked, FillRate: w.fill(pending)}
	runtime.GC()
	steady()
	begin := spent()
	for {
		t.Decisions += w.turn()
		if taken := spent() - begin; taken >= during && t.Decisions > 0 {
			t.Seconds = taken.Seconds()
			t.PerSecond = float64(t.Decisions) / t.Seconds
			return t
		}
	}
}

// fill makes sessions until the cluster is full and so many wait; it tells how many were placed per second.
func (w *world) fill(pending int) float64 {
	filled := 0
	begin := spent()
	for {
		for range 1000 {
			w.enqueue(w.session())
		}
		_, placed := w.pass()
		filled += placed
		if placed < 1000 {
			break
		}
	}
	taken := (spent() - begin).Seconds()
	for len(w.queued) < pending {
		w.enqueue(w.session())
	}
	return float64(filled) / taken
}

// turn is one pass of the steady state: some sessions have ended, and as many are asked for as are placed.
func (w *world) turn() (decisions int) {
	w.end(endsPerPass)
	decisions, placed := w.pass()
	for range placed {
		w.enqueue(w.session())
	}
	return decisions
}

// Gang is one session of many containers.
type Gang struct {
	Policy       string  `json:"policy"`
	Agents       int     `json:"agents"`
	Kernels      int     `json:"kernels"`
	Milliseconds float64 `json:"milliseconds"`
	RefusedMS    float64 `json:"refused_milliseconds"` // when the last of them does not fit: all is undone
}

func gang(policy string, agents, kernels int) Gang {
	g := Gang{Policy: policy, Agents: agents, Kernels: kernels}
	time1 := func(room bool) float64 {
		w := newWorld(policy, agents)
		s := w.session()
		s.Kernels, s.ClusterMode = nil, backendai.MultiNode
		w.kernels(&s, kernels, backendai.SlotsOf("cpu", "4", "mem", "8g"))
		if !room {
			w.kernels(&s, 1, backendai.SlotsOf("cpu", "1000", "mem", "8g"))
		}
		w.core.Apply(&protocol.Enqueue{Session: s}, w.now)
		w.queued[s.ID] = make([]uuid.UUID, kernels)
		begin := spent()
		if _, placed := w.pass(); (placed == 1) != room {
			panic("the gang did not find what was expected")
		}
		return float64((spent() - begin).Microseconds()) / 1000
	}
	g.Milliseconds, g.RefusedMS = time1(true), time1(false)
	return g
}
