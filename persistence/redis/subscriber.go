package redis

import (
	"cmp"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"backend.ai/manager/persistence/redis/event"
)

// Subscriber gives every event to every listener of this process, from the moment of Start on: for server-sent events and for those
// who wait for something to happen.
//
//	XREAD ─► one goroutine ─► each Listener's own bounded channel
//
// A listener that does not keep up loses events and is told how many; it never holds the others up. When Redis is flushed, ids of
// entries begin again within the same millisecond, below those that were read: what is published in the rest of that millisecond is
// not seen. A Consumer loses nothing, its group knows no ids then.
type Subscriber struct {
	set  *Set
	cfg  SubscriberConfig
	log  *slog.Logger
	last string
	counters

	mu        sync.RWMutex
	listeners map[*Listener]struct{}

	cancel context.CancelFunc
	done   chan struct{}
}

// SubscriberConfig has defaults for all its fields.
type SubscriberConfig struct {
	// Block is how long one read waits; default 2 s.
	Block time.Duration
	// Batch is how many entries one read takes at most; default 512.
	Batch int
}

// Message is an event as a listener gets it.
type Message struct {
	Event  event.Event
	Source string
}

// Listener gets the events it wants.
type Listener struct {
	// C is closed by Close and when the subscriber stops.
	C    <-chan Message
	c    chan Message
	want func(event.Event, string) bool
	lost atomic.Int64
	s    *Subscriber
}

// NewSubscriber makes one; Start it. log may be nil.
func NewSubscriber(set *Set, cfg SubscriberConfig, log *slog.Logger) *Subscriber {
	cfg.Block, cfg.Batch = cmp.Or(cfg.Block, 2*time.Second), cmp.Or(cfg.Batch, 512)
	return &Subscriber{set: set, cfg: cfg, log: orDiscard(log), listeners: map[*Listener]struct{}{}, done: make(chan struct{})}
}

// Start finds the stream's end and begins there; an event published after Start has returned is seen. Errors: ServiceUnavailable.
func (s *Subscriber) Start(ctx context.Context) (err error) {
	// "$" would mean the end at each read, and lose what comes between two of them.
	if s.last, err = s.end(ctx); err != nil {
		return err
	}
	ctx, s.cancel = context.WithCancel(context.Background())
	go s.run(ctx)
	return nil
}

// Stop ends reading and closes all listeners.
func (s *Subscriber) Stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		close(l.c)
	}
	clear(s.listeners)
}

// Counts tells what happened since the start.
func (s *Subscriber) Counts() Counts { return s.counts() }

// Listen adds a listener with room for buffer events. want picks events on the reader's goroutine and must be quick; nil = all.
func (s *Subscriber) Listen(buffer int, want func(e event.Event, source string) bool) *Listener {
	c := make(chan Message, max(buffer, 1))
	l := &Listener{C: c, c: c, want: want, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
	return l
}

// Lost is how many events did not find room.
func (l *Listener) Lost() int64 { return l.lost.Load() }

// Close ends the listening; safe to call again.
func (l *Listener) Close() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if _, ok := l.s.listeners[l]; ok {
		delete(l.s.listeners, l)
		close(l.c)
	}
}

// end is the id of the newest entry, "0-0" for none.
func (s *Subscriber) end(ctx context.Context) (string, error) {
	r := s.set.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed {
		return b.Xrevrange().Key(StreamKey).End("+").Start("-").Count(1).Build()
	})
	if r.Error() != nil {
		return "", r.Error()
	}
	entries, err := r.AsXRange()
	if err != nil || len(entries) == 0 {
		return "0-0", err
	}
	return entries[0].ID, nil
}

func (s *Subscriber) run(ctx context.Context) {
	defer close(s.done)
	client := s.set.db[dbStream]
	for ctx.Err() == nil {
		limit, cancel := context.WithTimeout(ctx, s.cfg.Block+s.set.cfg.Timeout)
		streams, err := client.Do(limit, client.B().Xread().Count(int64(s.cfg.Batch)).Block(s.cfg.Block.Milliseconds()).Streams().Key(StreamKey).Id(s.last).Build()).AsXRead()
		cancel()
		switch {
		case rueidis.IsRedisNil(err):
			s.rewind(ctx)
		case err != nil:
			if ctx.Err() == nil {
				pause(ctx, retryEvery)
			}
		}
		for _, x := range streams[StreamKey] {
			s.last = x.ID
			s.deliver(s.fan, s.log, x)
		}
	}
}

// rewind notices a stream that was flushed and began again with smaller ids (the server's clock went back): silence would last until
// the old id is reached.
func (s *Subscriber) rewind(ctx context.Context) {
	if end, err := s.end(ctx); err == nil && idLess(end, s.last) && end != "0-0" {
		s.last = "0-0"
	}
}

// idLess compares entry ids, "milliseconds-sequence".
func idLess(a, b string) bool {
	part := func(id string) (ms, seq uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		seq, _ = strconv.ParseUint(right, 10, 64)
		return ms, seq
	}
	am, as := part(a)
	bm, bs := part(b)
	return am < bm || am == bm && as < bs
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (s *Subscriber) fan(e event.Event, source string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for l := range s.listeners {
		if l.want != nil && !l.want(e, source) {
			continue
		}
		select {
		case l.c <- Message{e, source}:
		default:
			l.lost.Add(1)
		}
	}
}
