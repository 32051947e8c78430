package redis

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis/event"
)

// StreamKey is the one stream of all events.
const StreamKey = "events"

// SourceManager is the source of events that no agent stands for.
const SourceManager = "manager"

// Producer publishes events without making anybody wait.
//
//	Publish ─► bounded queue ─► one goroutine ─► XADD, pipelined in batches
//
// The order of one producer's events is kept. When the queue is full or Redis is away for longer than Patience, events are dropped, the
// newest first in the one case and the oldest in the other, and counted: receivers reconcile anyway, and a manager must not stand still
// because of Redis. An event may be written twice when the connection broke before the answer came.
type Producer struct {
	set  *Set
	cfg  ProducerConfig
	log  *slog.Logger
	send chan entry

	dropped, sent atomic.Int64
	mu            sync.RWMutex // held for reading while publishing, for writing while closing
	closed        bool
	cancel        context.CancelFunc
	done          chan struct{}
}

// ProducerConfig has defaults for all its fields.
type ProducerConfig struct {
	// Queue is how many events may wait; default 8192.
	Queue int
	// Batch is how many go out together; default 256.
	Batch int
	// Patience is how long one batch is tried; default 10 s.
	Patience time.Duration
}

type entry struct {
	name, source string
	args         []byte
}

// NewProducer makes one; Start it. log may be nil.
func NewProducer(set *Set, cfg ProducerConfig, log *slog.Logger) *Producer {
	cfg.Queue, cfg.Batch, cfg.Patience = cmp.Or(cfg.Queue, 8192), cmp.Or(cfg.Batch, 256), cmp.Or(cfg.Patience, 10*time.Second)
	return &Producer{set: set, cfg: cfg, log: orDiscard(log), send: make(chan entry, cfg.Queue), done: make(chan struct{})}
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Start begins sending.
func (p *Producer) Start() {
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	go p.run(ctx)
}

// Publish queues an event. source is SourceManager, or the agent's id for agent events a manager sends on its behalf. Errors: Overloaded
// when the queue is full or the producer stopped (the event is lost), InvalidArgument.
func (p *Producer) Publish(e event.Event, source string) error {
	name, args, err := event.Encode(e)
	if err != nil {
		return err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.closed {
		select {
		case p.send <- entry{name, cmp.Or(source, SourceManager), args}:
			return nil
		default:
		}
	}
	p.dropped.Add(1)
	return backendai.Errorf(backendai.Overloaded, "the event %s was dropped: %d events already wait for Redis", name, len(p.send))
}

// Dropped and Sent count events since the start.
func (p *Producer) Dropped() int64 { return p.dropped.Load() }

// Sent counts the events that Redis has confirmed.
func (p *Producer) Sent() int64 { return p.sent.Load() }

// Stop sends what is queued and ends, at the latest when the context does; what is left then is dropped and counted.
func (p *Producer) Stop(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.send)
	}
	p.mu.Unlock()
	if p.cancel == nil {
		return
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.cancel()
		<-p.done
	}
	p.cancel()
}

func (p *Producer) run(ctx context.Context) {
	defer close(p.done)
	for first := range p.send {
		batch := []entry{first}
	fill:
		for len(batch) < p.cfg.Batch {
			select {
			case e, ok := <-p.send:
				if !ok {
					break fill
				}
				batch = append(batch, e)
			default:
				break fill
			}
		}
		p.write(ctx, batch)
	}
}

// write tries until every entry is in, from the first failed one on, so the order holds.
func (p *Producer) write(ctx context.Context, batch []entry) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Patience)
	defer cancel()
	for len(batch) > 0 {
		client := p.set.db[dbStream]
		cmds := make(rueidis.Commands, len(batch))
		for i, e := range batch {
			cmds[i] = client.B().Xadd().Key(StreamKey).Id("*").FieldValue().FieldValue("name", e.name).FieldValue("source", e.source).FieldValue("args", rueidis.BinaryString(e.args)).Build()
		}
		attempt, done := context.WithTimeout(ctx, p.set.cfg.Timeout)
		answers := client.DoMulti(attempt, cmds...)
		done()
		var err error
		for _, a := range answers {
			if err = a.Error(); err != nil {
				break
			}
			p.sent.Add(1)
			batch = batch[1:]
		}
		if err == nil {
			continue
		}
		if _, refused := rueidis.IsRedisErr(err); refused && !transient(err) || ctx.Err() != nil || !pause(ctx, retryEvery) {
			p.dropped.Add(int64(len(batch)))
			p.log.Warn("events were dropped: Redis did not take them", "events", len(batch), "error", err)
			return
		}
	}
}
