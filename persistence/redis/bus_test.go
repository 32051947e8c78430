package redis_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	raw "github.com/redis/rueidis"

	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/persistence/redis/redistest"
)

const patience = 60 * time.Second

// inbox collects what a handler is given.
type inbox struct {
	mu   sync.Mutex
	got  []string
	seen map[string]int
	c    chan struct{}
}

func newInbox() *inbox { return &inbox{seen: map[string]int{}, c: make(chan struct{}, 1)} }

func (b *inbox) handle(e event.Event, source string) {
	text := fmt.Sprintf("%s %+v", source, e)
	b.mu.Lock()
	b.got = append(b.got, text)
	b.seen[text]++
	b.mu.Unlock()
	select {
	case b.c <- struct{}{}:
	default:
	}
}

// await waits until the condition holds, looking again at each event.
func (b *inbox) await(t *testing.T, what string, holds func(got []string, seen map[string]int) bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		done := holds(b.got, b.seen)
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-b.c:
		case <-limit:
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("%s: got %d events, at last %v", what, len(b.got), b.got[max(0, len(b.got)-10):])
		}
	}
}

func has(text string) func([]string, map[string]int) bool {
	return func(_ []string, seen map[string]int) bool { return seen[text] > 0 }
}

func reason(n int) event.Event { return event.AgentStarted{Reason: fmt.Sprint(n)} }

func startConsumer(t *testing.T, s *redis.Set, name string, h redis.Handler) *redis.Consumer {
	t.Helper()
	c := redis.NewConsumer(s, redis.ConsumerConfig{Name: redis.ConsumerName(name), Block: 200 * time.Millisecond, ClaimIdle: 300 * time.Millisecond, Housekeeping: 50 * time.Millisecond, MaxLen: 100000}, h, nil)
	ok(t, c.Start(t.Context()))
	t.Cleanup(c.Stop)
	return c
}

func startProducer(t *testing.T, s *redis.Set) *redis.Producer {
	t.Helper()
	p := redis.NewProducer(s, redis.ProducerConfig{Patience: patience}, nil)
	p.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.Stop(ctx)
	})
	return p
}

func TestBusKeepsOrderAndShares(t *testing.T) {
	server := redistest.New(t)
	s, stream := open(t, server.Addr()), direct(t, server.Addr(), 4)
	ok(t, stream("XADD", "events", "*", "name", "agent_started", "source", "i-0", "args", "\x91\xa7history").Error())
	shared, broadcast := newInbox(), newInbox()
	one := startConsumer(t, s, "one", shared.handle)
	startConsumer(t, s, "two", shared.handle)
	sub := redis.NewSubscriber(s, redis.SubscriberConfig{Block: 200 * time.Millisecond}, nil)
	ok(t, sub.Start(t.Context()))
	defer sub.Stop()
	all := sub.Listen(10000, nil)
	picky := sub.Listen(1, func(e event.Event, _ string) bool { _, is := e.(event.DoSchedule); return is })
	p := startProducer(t, s)
	const n = 3000
	for i := range n {
		ok(t, p.Publish(reason(i), "i-1"))
	}
	ok(t, p.Publish(event.DoSchedule{}, ""))
	ok(t, p.Publish(event.DoSchedule{}, ""))
	for i := range n + 2 {
		m := <-all.C
		if i < n && m.Event != reason(i) || m.Source == "" {
			t.Fatalf("event %d is %v", i, m)
		}
		broadcast.handle(m.Event, m.Source)
	}
	shared.await(t, "shared", func(got []string, _ map[string]int) bool { return len(got) >= n+2 })
	if len(shared.seen) != n+1 || shared.seen["manager {}"] != 2 || shared.seen["i-0 {Reason:history}"] != 0 {
		t.Error(len(shared.seen), shared.seen["manager {}"])
	}
	if m := <-picky.C; m.Event != (event.DoSchedule{}) || m.Source != redis.SourceManager || picky.Lost() != 1 {
		t.Error(m, picky.Lost())
	}
	if p.Sent() != n+2 || p.Dropped() != 0 {
		t.Error(p.Sent(), p.Dropped())
	}
	one.Stop()
	picky.Close()
	picky.Close()
	sub.Stop()
	if _, open := <-all.C; open {
		t.Error("a stopped subscriber closes its listeners")
	}
}

func TestHandlerMayPanicAndEventsMayBeOdd(t *testing.T) {
	server := redistest.New(t)
	s, stream, box := open(t, server.Addr()), direct(t, server.Addr(), 4), newInbox()
	c := startConsumer(t, s, "one", func(e event.Event, source string) {
		if e == reason(1) {
			panic("oh")
		}
		box.handle(e, source)
	})
	ok(t, stream("XADD", "events", "*", "name", "of_tomorrow", "source", "x", "args", "\x90").Error())
	ok(t, stream("XADD", "events", "*", "name", "agent_started", "source", "x", "args", "\x90").Error())
	ok(t, stream("XADD", "events", "*", "something", "else").Error())
	p := startProducer(t, s)
	for i := range 3 {
		ok(t, p.Publish(reason(i), "i-1"))
	}
	box.await(t, "after the panic", has("i-1 {Reason:2}"))
	if got := c.Counts(); got != (redis.Counts{Handled: 3, Unknown: 1, Malformed: 1, Panicked: 1}) {
		t.Error(got)
	}
	c.Stop()
	if pending, err := stream("XPENDING", "events", redis.Group).ToArray(); err != nil {
		t.Error(err)
	} else if n, _ := pending[0].AsInt64(); n != 0 {
		t.Error(n, "entries were not acknowledged")
	}
}

// TestDeadConsumersEntriesAreClaimed: also those of the same consumer before its restart.
func TestDeadConsumersEntriesAreClaimed(t *testing.T) {
	server := redistest.New(t)
	s, stream, box := open(t, server.Addr()), direct(t, server.Addr(), 4), newInbox()
	ok(t, stream("XGROUP", "CREATE", "events", redis.Group, "$", "MKSTREAM").Error())
	for i := range 5 {
		ok(t, stream("XADD", "events", "*", "name", "agent_started", "source", fmt.Sprint("i-", i), "args", "\x91\xa1x").Error())
	}
	ok(t, stream("XREADGROUP", "GROUP", redis.Group, "dead", "COUNT", "2", "STREAMS", "events", ">").Error())
	ok(t, stream("XREADGROUP", "GROUP", redis.Group, redis.ConsumerName("one"), "COUNT", "2", "STREAMS", "events", ">").Error())
	c := startConsumer(t, s, "one", box.handle)
	box.await(t, "all of both", func(_ []string, seen map[string]int) bool { return len(seen) == 5 })
	c.Stop()
	for text, n := range box.seen {
		if n != 1 {
			t.Error(text, n)
		}
	}
	pending, err := stream("XPENDING", "events", redis.Group).ToArray()
	ok(t, err)
	if n, _ := pending[0].AsInt64(); n != 0 {
		t.Error("claimed entries are not acknowledged:", n)
	}
}

// clock is the server's, in milliseconds, of which ids of entries are made.
func clock(t *testing.T, do func(words ...string) raw.RedisResult) int64 {
	t.Helper()
	now, err := do("TIME").AsIntSlice()
	ok(t, err)
	return now[0]*1000 + now[1]/1000
}

// TestBusSurvivesRestartAndFlush: what is published after it, at the latest a millisecond after, arrives.
func TestBusSurvivesRestartAndFlush(t *testing.T) {
	server := redistest.New(t)
	s, box := open(t, server.Addr()), newInbox()
	startConsumer(t, s, "one", box.handle)
	sub := redis.NewSubscriber(s, redis.SubscriberConfig{Block: 200 * time.Millisecond}, nil)
	ok(t, sub.Start(t.Context()))
	defer sub.Stop()
	heard := newInbox()
	listener := sub.Listen(100000, nil)
	var pump sync.WaitGroup
	pump.Go(func() {
		for m := range listener.C {
			heard.handle(m.Event, m.Source)
		}
	})
	defer pump.Wait()
	defer sub.Stop()
	p := startProducer(t, s)
	ok(t, p.Publish(reason(1), "before"))
	box.await(t, "before", has("before {Reason:1}"))
	server.Stop()
	ok(t, p.Publish(reason(2), "while away"))
	server.Start()
	box.await(t, "while away", has("while away {Reason:2}"))
	heard.await(t, "while away", has("while away {Reason:2}"))
	// Flushed while events stream: what is published after the flush has returned arrives, all of it.
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		// Less than a busy machine can handle: a stream that grows past its bound is trimmed, and the mark with it.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = p.Publish(reason(i), "load")
			}
		}
	})
	stream := direct(t, server.Addr(), 4)
	for round := range 3 {
		ok(t, stream("FLUSHALL").Error())
		flushed := clock(t, stream)
		for clock(t, stream) == flushed { // within one millisecond ids begin again below those that were read (Subscriber)
		}
		mark := fmt.Sprint("after ", round)
		ok(t, stream("XADD", "events", "*", "name", "agent_started", "source", mark, "args", "\x91\xa1x").Error())
		box.await(t, mark, has(mark+" {Reason:x}"))
		heard.await(t, mark, has(mark+" {Reason:x}"))
	}
	close(stop)
	load.Wait()
	server.Restart()
	for publishing := true; publishing; {
		publishing = p.Publish(reason(3), "last") != nil // the queue may still be full of load
	}
	box.await(t, "last", has("last {Reason:3}"))
}

func TestSlowHandlerHoldsBackAndStreamIsTrimmed(t *testing.T) {
	server := redistest.New(t)
	s, stream := open(t, server.Addr()), direct(t, server.Addr(), 4)
	gate, box := make(chan struct{}), newInbox()
	c := redis.NewConsumer(s, redis.ConsumerConfig{Name: "slow", Block: 100 * time.Millisecond, Batch: 10, Queue: 10, ClaimIdle: time.Millisecond, Housekeeping: 20 * time.Millisecond, MaxLen: 200},
		func(e event.Event, source string) {
			<-gate
			box.handle(e, source)
		}, nil)
	ok(t, c.Start(t.Context()))
	defer c.Stop()
	for range 1000 {
		ok(t, stream("XADD", "events", "*", "name", "do_schedule", "source", "m", "args", "\x90").Error())
	}
	deadline := time.Now().Add(patience)
	for n := int64(1000); n > 400; n, _ = stream("XLEN", "events").AsInt64() {
		if time.Now().After(deadline) {
			t.Fatal("the stream is not trimmed:", n)
		}
	}
	pending, err := stream("XPENDING", "events", redis.Group).ToArray()
	ok(t, err)
	if n, _ := pending[0].AsInt64(); n > 40 {
		t.Error("read far ahead of the handler:", n)
	}
	close(gate)
	ok(t, stream("XADD", "events", "*", "name", "do_prepare", "source", "end", "args", "\x90").Error())
	box.await(t, "the end", has("end {}"))
}

func TestProducerDropsAndCounts(t *testing.T) {
	server := redistest.New(t)
	s := open(t, server.Addr())
	p := redis.NewProducer(s, redis.ProducerConfig{Queue: 4, Batch: 2, Patience: 200 * time.Millisecond}, nil)
	for i := range 6 { // not started yet: the queue fills
		if err := p.Publish(reason(i), "i"); (err != nil) != (i >= 4) {
			t.Error(i, err)
		}
	}
	server.Stop()
	p.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.Stop(ctx)
	server.Start()
	if p.Dropped() != 6 || p.Sent() != 0 || p.Publish(reason(1), "") == nil {
		t.Error(p.Dropped(), p.Sent())
	}
}
