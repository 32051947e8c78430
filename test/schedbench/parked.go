package main

import (
	"runtime"
	"runtime/debug"
	"time"
)

// A stretch is so many decisions, about 30 ms: a noisy machine then disturbs both of what is compared alike.
const stretch, stretches = 2000, 300

// parkedCost is the part of the throughput that 100,000 parked sessions take from fifo on 5,000 agents with 10,000 sessions ready. Two
// schedulers, with and without them, work in turn. As they share a collector of garbage, that rests meanwhile, and what it would
// cost each is added: a collection of what lives in it, as often as so much is allocated (Go's default pace).
func parkedCost() float64 {
	without, with := parkedWorld(0), parkedWorld(100_000)
	var work, workWith time.Duration
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := memory()
	for i := range stretches {
		work += without.work(stretch)
		workWith += with.work(stretch)
		if i%10 == 9 {
			runtime.GC()
		}
	}
	allocated := float64(memory().TotalAlloc-before.TotalAlloc) / (2 * stretch * stretches) // per decision
	garbage := func(w *world) float64 {
		cost, live := collection()
		runtime.KeepAlive(w)
		return cost * allocated / live
	}
	with = nil
	collecting := garbage(without)
	without = nil
	with = parkedWorld(100_000)
	collectingWith := garbage(with)
	return 1 - (work.Seconds()/(stretch*stretches)+collecting)/(workWith.Seconds()/(stretch*stretches)+collectingWith)
}

func parkedWorld(parked int) *world {
	w := newWorld("fifo", 5000)
	w.park(parked)
	w.fill(10_000)
	return w
}

// work is the processor time of so many decisions in steady state.
func (w *world) work(decisions int) time.Duration {
	begin, made := spent(), 0
	for made < decisions {
		made += w.turn()
	}
	return (spent() - begin) * time.Duration(decisions) / time.Duration(made)
}

// collection tells the seconds that one takes now, the least of some, and the bytes that live.
func collection() (seconds, live float64) {
	runtime.GC()
	least := time.Hour
	for range 25 {
		begin := spent()
		runtime.GC()
		least = min(least, spent()-begin)
	}
	return least.Seconds(), float64(memory().HeapAlloc)
}

func memory() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}
