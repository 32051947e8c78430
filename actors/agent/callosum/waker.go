package callosum

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	zmq "github.com/pebbe/zmq4"
)

// waker ends another goroutine's poll: an inproc PAIR of which the poller owns the receiving end. The sending end is used
// under a mutex, which libzmq allows, and at most one wake-up is on its way at a time.
type waker struct {
	receive *zmq.Socket // the poller's

	pending atomic.Bool
	mu      sync.Mutex
	send    *zmq.Socket // nil after close
}

func newWaker(zctx *zmq.Context, name string) (*waker, error) {
	receive, err := zctx.NewSocket(zmq.PAIR)
	if err != nil {
		return nil, fmt.Errorf("callosum: wake-up socket: %w", err)
	}
	send, err := zctx.NewSocket(zmq.PAIR)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("callosum: wake-up socket: %w", err), receive.Close())
	}
	err = errors.Join(receive.SetLinger(0), send.SetLinger(0), receive.Bind("inproc://"+name))
	if err == nil {
		err = send.Connect("inproc://" + name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("callosum: wake-up socket: %w", err), send.Close(), receive.Close())
	}
	return &waker{receive: receive, send: send}, nil
}

// wake makes the poller look at its queues. What was put there before is seen.
func (w *waker) wake() {
	if w.pending.Swap(true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.send == nil {
		return
	}
	if _, err := w.send.SendBytes([]byte{1}, zmq.DONTWAIT); err != nil {
		w.pending.Store(false) // the next one tries again; pollers look at their queues every second anyhow
	}
}

// drain is called by the poller before it looks at its queues.
func (w *waker) drain() {
	for {
		if _, err := w.receive.RecvBytes(zmq.DONTWAIT); err != nil {
			break
		}
	}
	w.pending.Store(false)
}

// close closes the sending end; the poller closes its own.
func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.send != nil {
		w.send.Close()
		w.send = nil
	}
}
