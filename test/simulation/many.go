package simulation

import (
	"runtime"
	"sync"
)

// RunMany simulates n seeds from one on, a world per processor at a time, and hands every result to each, in the order in which they end.
// keep is how many of the last events a failed run tells. It stops early when each returns false.
func RunMany(from uint64, n int, opts Options, keep int, each func(*Result) bool) {
	results := make(chan *Result)
	next := make(chan uint64)
	quit := make(chan struct{})
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := range next {
				select {
				case results <- Run(seed, opts, keep):
				case <-quit:
					return
				}
			}
		})
	}
	go func() {
		defer close(next)
		for i := range n {
			select {
			case next <- from + uint64(i):
			case <-quit:
				return
			}
		}
	}()
	go func() {
		workers.Wait()
		close(results)
	}()
	stopped := false
	for r := range results {
		if !stopped && !each(r) {
			stopped = true
			close(quit)
		}
	}
}
