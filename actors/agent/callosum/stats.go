package callosum

import (
	"fmt"
	"sync"
	"time"
)

// LinkState is the state of a link's connection.
type LinkState uint8

// The states, see the package's drawing.
const (
	LinkConnecting LinkState = iota + 1
	LinkUp
	LinkWaiting
)

func (s LinkState) String() string {
	switch s {
	case LinkConnecting:
		return "connecting"
	case LinkUp:
		return "up"
	case LinkWaiting:
		return "waiting"
	}
	return fmt.Sprintf("LinkState(%d)", uint8(s))
}

// LinkStats is what can be seen of a link from outside. Counters count since the link was made.
type LinkStats struct {
	Peer           Peer
	State          LinkState
	Since          time.Time // of State
	Waiting        int       // calls not yet sent
	InFlight       int       // calls sent and not answered
	Calls          uint64    // taken on, probes included
	Sent           uint64
	Received       uint64 // answers of any kind
	Late           uint64 // answers that nobody waited for any more
	RemoteErrors   uint64 // FAILURE and ERROR answers
	TimedOut       uint64
	Failed         uint64 // calls that ended without an answer, of any cause
	Connects       uint64
	LastError      string
	LastErrorAt    time.Time
	RoundTrip      time.Duration // moving average over all answered calls, long ones included; weight of the newest ⅛
	Breaker        BreakerState
	BreakerRetryAt time.Time // of an open breaker
}

func (s *LinkStats) note(took time.Duration) {
	if s.RoundTrip == 0 {
		s.RoundTrip = took
		return
	}
	s.RoundTrip += (took - s.RoundTrip) / 8
}

// statsTable lets other goroutines find the links of a pump.
type statsTable struct {
	mu    sync.Mutex
	links map[Peer]*link
}

func (t *statsTable) add(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.links[l.peer] = l
}

func (t *statsTable) remove(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.links, l.peer)
}

func (t *statsTable) get(peer Peer) (LinkStats, bool) {
	t.mu.Lock()
	l := t.links[peer]
	t.mu.Unlock()
	if l == nil {
		return LinkStats{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats, true
}

func (t *statsTable) appendTo(all []LinkStats) []LinkStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.links {
		l.mu.Lock()
		all = append(all, l.stats)
		l.mu.Unlock()
	}
	return all
}

// fifo is a queue whose entries may end out of turn; those are skipped when their turn comes.
type fifo struct {
	items []*pending
	live  int // entries that have not ended
}

func (f *fifo) push(q *pending) {
	f.items = append(f.items, q)
	f.live++
}

// front returns the first that has not ended, nil if there is none.
func (f *fifo) front() *pending {
	for len(f.items) > 0 && f.items[0].finished {
		f.shift()
	}
	if len(f.items) == 0 {
		f.items = nil
		return nil
	}
	return f.items[0]
}

// pop takes the first out, which front has returned.
func (f *fifo) pop() {
	f.shift()
	f.live--
}

func (f *fifo) shift() {
	f.items[0] = nil
	f.items = f.items[1:]
}

// gone notes that an entry has ended in the queue.
func (f *fifo) gone() {
	f.live--
	if len(f.items) <= 2*f.live+64 {
		return
	}
	// Nothing is taken out while the link is down, so the ended ones would pile up.
	left := make([]*pending, 0, f.live)
	for _, q := range f.items {
		if !q.finished {
			left = append(left, q)
		}
	}
	f.items = left
}
