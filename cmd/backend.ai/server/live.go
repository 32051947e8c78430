package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
)

const (
	// gather is how long notes are gathered before they are written together.
	gather = 100 * time.Millisecond
	// idleLimit is the idle time that session keys are kept for when the checker's own is not known here.
	idleLimit = 10 * time.Minute
)

// live is services.Live on Redis. Notes are gathered in maps, the latest of each counts, and written a few times a second:
// actors never wait for Redis, and what Redis loses is noted again.
type live struct {
	set *redis.Set
	log *slog.Logger

	mu          sync.Mutex
	seen        map[backendai.AgentID]time.Time
	forgotten   map[backendai.AgentID]bool
	images      map[backendai.AgentID][]string
	known       map[backendai.AgentID][]string // as written last
	concurrency map[backendai.AccessKey]int
	accessed    map[backendai.SessionID]bool // busy or not

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

var _ services.Live = (*live)(nil)

func newLive(set *redis.Set, log *slog.Logger) *live {
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{set: set, log: log, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), known: make(map[backendai.AgentID][]string)}
	l.reset()
	go l.run(ctx)
	return l
}

func (l *live) reset() {
	l.seen, l.forgotten, l.images = make(map[backendai.AgentID]time.Time), make(map[backendai.AgentID]bool), make(map[backendai.AgentID][]string)
	l.concurrency, l.accessed = make(map[backendai.AccessKey]int), make(map[backendai.SessionID]bool)
}

func (l *live) stop() {
	l.cancel()
	<-l.done
}

func (l *live) note(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *live) Seen(agent string, at time.Time) {
	l.note(func() {
		l.seen[backendai.AgentID(agent)] = at
		delete(l.forgotten, backendai.AgentID(agent))
	})
}

func (l *live) Forget(agent string) {
	l.note(func() {
		id := backendai.AgentID(agent)
		l.forgotten[id] = true
		delete(l.seen, id)
		delete(l.images, id)
	})
}

func (l *live) Images(agent string, images []string) {
	l.note(func() { l.images[backendai.AgentID(agent)] = images })
}

func (l *live) Concurrency(accessKey string, sessions int) {
	l.note(func() { l.concurrency[backendai.AccessKey(accessKey)] = sessions })
}

func (l *live) Accessed(session uuid.UUID, busy bool) {
	l.note(func() { l.accessed[backendai.SessionID{UUID: session}] = busy })
}

func (l *live) run(ctx context.Context) {
	defer close(l.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		l.flush(ctx)
		pause.Reset(gather)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// flush writes what has gathered. Failures are logged: the next heartbeat or change writes again.
func (l *live) flush(ctx context.Context) {
	l.mu.Lock()
	seen, forgotten, images, concurrency, accessed := l.seen, l.forgotten, l.images, l.concurrency, l.accessed
	l.reset()
	l.mu.Unlock()
	warn := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			l.log.Warn(what, "error", err)
		}
	}
	warn("heartbeat times were not noted", l.set.SeeAgents(ctx, seen))
	if len(forgotten) > 0 {
		ids := make([]backendai.AgentID, 0, len(forgotten))
		for id := range forgotten {
			ids = append(ids, id)
			warn("an agent's images were not removed", l.set.RemoveAgentImages(ctx, id))
			delete(l.known, id)
		}
		warn("lost agents were not removed", l.set.ForgetAgents(ctx, ids...))
	}
	for id, now := range images {
		err := l.set.UpdateAgentImages(ctx, id, l.known[id], now)
		warn("an agent's images were not noted", err)
		if err == nil {
			l.known[id] = now
		}
	}
	warn("numbers of sessions were not noted", l.set.SetConcurrency(ctx, concurrency))
	for id, busy := range accessed {
		if busy {
			warn("a session's use was not noted", l.set.HoldSession(ctx, id))
		} else {
			warn("a session's use was not noted", l.set.TouchSession(ctx, id, idleLimit))
		}
	}
}

// Statistics reads a kernel's last statistics.
func (l *live) Statistics(ctx context.Context, kernel uuid.UUID) (json.RawMessage, error) {
	id := backendai.KernelID{UUID: kernel}
	stats, err := l.set.KernelStats(ctx, []backendai.KernelID{id})
	if err != nil {
		return nil, err
	}
	object, ok := stats[id]
	if !ok {
		return nil, nil
	}
	return json.Marshal(object)
}

// ContainerLog hands over the log that a container has left; it is removed once store has it.
func (l *live) ContainerLog(ctx context.Context, container string, store func([]byte) error) error {
	return l.set.DrainLog(ctx, container, store)
}

// bus is services.Bus on the event stream.
type bus struct {
	producer *redis.Producer
	log      *slog.Logger
}

func (b bus) Publish(e event.Event, source string) {
	if source == "" {
		source = redis.SourceManager
	}
	if err := b.producer.Publish(e, source); err != nil {
		b.log.Debug("an event was not published", "event", event.Name(e), "error", err)
	}
}

// limiter is api.RateLimiter on Redis.
type limiter struct{ set *redis.Set }

func (l limiter) Check(ctx context.Context, key string, _ int, _ time.Duration) (int, error) {
	n, err := l.set.Hit(ctx, backendai.AccessKey(key), time.Now())
	return int(n), err
}

// countQueries is the sink of accounts.Usage that keeps the counters in Redis.
func countQueries(set *redis.Set) func(context.Context, []accounts.Use) error {
	return func(ctx context.Context, batch []accounts.Use) error {
		added := make(map[backendai.AccessKey]int, len(batch))
		for _, u := range batch {
			added[u.AccessKey] = int(u.Queries)
		}
		return set.CountQueries(ctx, added)
	}
}
