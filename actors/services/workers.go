package services

import (
	"context"
	"sync"
	"time"
)

// Workers carry out what waits, outside of actors: a bounded number at a time,
// from a bounded queue, each with a deadline.
//
//	NewWorkers ──▶ running ── Stop ──▶ stopped (queued work is dropped, running work is cancelled and awaited)
type Workers struct {
	queue  chan func(context.Context)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// workDeadline bounds one piece of work.
const workDeadline = 60 * time.Second

// NewWorkers starts n workers with room for queued pieces of work.
func NewWorkers(n, queued int) *Workers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Workers{queue: make(chan func(context.Context), queued), ctx: ctx, cancel: cancel}
	for range n {
		w.wg.Go(w.run)
	}
	return w
}

func (w *Workers) run() {
	for {
		select {
		case <-w.ctx.Done():
			return
		case f := <-w.queue:
			ctx, cancel := context.WithTimeout(w.ctx, workDeadline)
			f(ctx)
			cancel()
		}
	}
}

// Go hands work over and reports whether there was room. It never blocks.
func (w *Workers) Go(f func(context.Context)) bool {
	select {
	case w.queue <- f:
		return true
	default:
		return false
	}
}

// Queued is how many pieces of work wait.
func (w *Workers) Queued() int { return len(w.queue) }

// Stop cancels the work in hand and waits for it.
func (w *Workers) Stop() {
	w.cancel()
	w.wg.Wait()
}
