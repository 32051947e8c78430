package callosum

import (
	"container/heap"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"
)

type commandKind uint8

const (
	commandCall commandKind = iota + 1
	commandCancel
	commandDrop
	commandStop
)

// command is what other goroutines ask of a pump.
type command struct {
	kind    commandKind
	peer    Peer
	pending *pending
}

// pending is a call whose outcome is not known. After it was handed in it belongs to the pump.
type pending struct {
	method   string
	payload  []byte
	fence    Fence
	deadline time.Time
	handedIn time.Time // by the wall clock
	done     func(Outcome)

	link     *link
	probe    bool // a breaker's ping, not a caller's
	finished bool
	queued   bool // in the link's queue
	sent     bool
	seq      uint32
	sentAt   time.Time

	at    time.Time // when the pump has to look at it
	index int       // in the pump's heap, -1: not in it
}

// pump is one I/O goroutine. All fields below `links` are its own; nobody else may touch a socket.
type pump struct {
	id     int
	config ClientConfig
	log    *slog.Logger
	zctx   *zmq.Context
	waker  *waker
	done   chan struct{}
	stats  statsTable

	queue  chan command // bounded
	mu     sync.Mutex
	urgent []command // drop and stop, which are few and must get through

	links    map[Peer]*link
	sockets  map[*zmq.Socket]*link
	poller   *zmq.Poller
	timers   timerHeap
	monitors int // makes the monitors' addresses unique
	stopping bool
}

func newPump(zctx *zmq.Context, id int, config ClientConfig) (*pump, error) {
	w, err := newWaker(zctx, fmt.Sprintf("pump-%d", id))
	if err != nil {
		return nil, err
	}
	p := &pump{
		id: id, config: config, log: config.Logger, zctx: zctx, waker: w, done: make(chan struct{}),
		queue: make(chan command, config.QueueSize),
		links: map[Peer]*link{}, sockets: map[*zmq.Socket]*link{}, poller: zmq.NewPoller(),
	}
	p.stats.links = map[Peer]*link{}
	p.poller.Add(w.receive, zmq.POLLIN)
	return p, nil
}

func (p *pump) closeUnstarted() {
	p.waker.close()
	p.waker.receive.Close()
}

// put hands a command in; false when the queue is full.
func (p *pump) put(c command) bool {
	select {
	case p.queue <- c:
		p.waker.wake()
		return true
	default:
		return false
	}
}

func (p *pump) putAlways(c command) {
	p.mu.Lock()
	p.urgent = append(p.urgent, c)
	p.mu.Unlock()
	p.waker.wake()
}

func (p *pump) stop() { p.putAlways(command{kind: commandStop}) }

func (p *pump) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	for !p.stopping {
		polled, err := p.poller.Poll(p.pollTimeout(time.Now()))
		if err != nil && zmq.AsErrno(err) != zmq.Errno(syscall.EINTR) {
			p.log.Error("callosum: poll failed", "pump", p.id, "err", err)
		}
		for _, item := range polled {
			if item.Socket == p.waker.receive {
				p.waker.drain()
				continue
			}
			// A link that was closed a moment ago is in the list but no longer in the map.
			if l := p.sockets[item.Socket]; l != nil {
				if item.Socket == l.monitor {
					p.onMonitor(l)
				} else {
					p.onSocket(l, item.Events)
				}
			}
		}
		p.takeCommands()
		p.fireTimers(time.Now())
	}
	p.shutdown()
}

// pollTimeout rounds up, because libzmq counts in milliseconds and zero would spin until the timer is due.
func (p *pump) pollTimeout(now time.Time) time.Duration {
	wait := time.Second
	if len(p.timers) > 0 {
		wait = min(wait, p.timers[0].due().Sub(now))
	}
	if wait <= 0 {
		return 0
	}
	return (wait + time.Millisecond - 1).Truncate(time.Millisecond)
}

func (p *pump) takeCommands() {
	p.mu.Lock()
	urgent := p.urgent
	p.urgent = nil
	p.mu.Unlock()
	// As many as there are now, so that a flood of calls does not keep the pump from its sockets.
	for range len(p.queue) {
		p.obey(<-p.queue)
	}
	for _, c := range urgent {
		p.obey(c)
	}
}

func (p *pump) obey(c command) {
	switch c.kind {
	case commandCall:
		p.accept(c.peer, c.pending)
	case commandCancel:
		if q := c.pending; q.link != nil && !q.finished {
			p.sendCancel(q)
			p.finish(q, CauseCancelled, nil)
		}
	case commandDrop:
		if l := p.links[c.peer]; l != nil {
			p.remove(l, nil)
		}
	case commandStop:
		p.stopping = true
	}
}

// accept takes a new call on: refuses it, sends it, or lets it wait for the connection.
func (p *pump) accept(peer Peer, q *pending) {
	now := time.Now()
	l := p.links[peer]
	if l == nil {
		l = p.newLink(peer, now)
	}
	q.link = l
	switch {
	case l.outstanding() >= p.config.MaxOutstanding:
		p.finish(q, CauseOverloaded, fmt.Errorf("%d calls are outstanding", l.outstanding()))
		return
	case !l.breaker.Allows() && !q.probe:
		p.finish(q, CauseBreakerOpen, nil)
		return
	}
	if !q.probe {
		l.lastCall = now
	}
	q.at = q.deadline
	if l.state != LinkUp {
		q.at = minTime(q.deadline, now.Add(p.config.ConnectTimeout))
	}
	heap.Push(&p.timers, q)
	q.queued = true
	l.waiting.push(q)
	p.flush(l)
	l.publish(func(s *LinkStats) { s.Calls++ })
}

func (p *pump) shutdown() {
	for _, l := range p.links {
		p.remove(l, nil)
	}
	for {
		select {
		case c := <-p.queue:
			if c.kind == commandCall {
				c.pending.link = &link{peer: c.peer}
				p.finish(c.pending, CauseStopped, nil)
			}
			continue
		default:
		}
		break
	}
	p.waker.receive.Close()
}

// finish ends a call without an answer.
func (p *pump) finish(q *pending, cause Cause, err error) {
	p.deliver(q, Outcome{Err: &LinkError{Cause: cause, Agent: q.link.peer.AgentID, Method: q.method, Sent: q.sent, Err: err}}, func(s *LinkStats) {
		if !q.probe {
			s.Failed++
		}
		if cause == CauseDeadline {
			s.TimedOut++
		}
	})
}

// deliver ends a call: the only place that calls back, so that it happens once. The link's counters are changed before, so
// that a caller who looks sees its own call done.
func (p *pump) deliver(q *pending, o Outcome, count func(*LinkStats)) {
	if q.finished {
		return
	}
	q.finished = true
	if q.index >= 0 {
		heap.Remove(&p.timers, q.index)
	}
	if q.sent {
		delete(q.link.inFlight, q.seq)
	} else if q.queued {
		q.link.waiting.gone()
	}
	q.payload = nil
	if q.link.publish != nil {
		q.link.publish(count)
	}
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("callosum: callback panicked", "method", q.method, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	q.done(o)
}

// timed is what has a place in the heap of timers.
type timed interface {
	due() time.Time
	place() *int
	fire(p *pump, now time.Time)
}

func (q *pending) due() time.Time { return q.at }
func (q *pending) place() *int    { return &q.index }

// fire is called when the deadline, or the time to wait for a connection, has passed.
func (q *pending) fire(p *pump, now time.Time) {
	switch {
	case now.Before(q.deadline) && !q.sent && q.link.state != LinkUp:
		p.finish(q, CauseUnreachable, q.link.lastError)
	case now.Before(q.deadline):
		q.at = q.deadline
		heap.Push(&p.timers, q)
	default:
		p.expire(q, now)
	}
}

func (p *pump) fireTimers(now time.Time) {
	for len(p.timers) > 0 && !now.Before(p.timers[0].due()) {
		heap.Pop(&p.timers).(timed).fire(p, now)
	}
}

type timerHeap []timed

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].due().Before(h[j].due()) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].place(), *h[j].place() = i, j
}

// Push is for container/heap.
func (h *timerHeap) Push(x any) {
	*x.(timed).place() = len(*h)
	*h = append(*h, x.(timed))
}

// Pop is for container/heap.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	*x.place() = -1
	return x
}

// wall is a time without the monotonic clock, which stands still while the machine sleeps.
func wall(t time.Time) time.Time { return t.Round(0) }

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
