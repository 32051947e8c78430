package redis

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Group is the consumer group of all managers, of either generation.
const Group = "manager"

// ConsumerName makes a stable name of a node's name. It has the shape of the original's, three parts.
func ConsumerName(node string) string {
	sum := sha1.Sum([]byte(node)) //nolint:gosec // a name, no secret
	return hex.EncodeToString(sum[:]) + ":backend.ai-manager:0"
}

// ConsumerConfig has defaults for all fields but Name.
type ConsumerConfig struct {
	// Name is the consumer's, the same over restarts (ConsumerName), so that it finds what it was given before.
	Name string
	// Block is how long one read waits; default 2 s.
	Block time.Duration
	// Batch is how many entries one read takes at most, and Queue how many may wait for the handler; default 256 and 1024.
	Batch, Queue int
	// ClaimIdle is how long an entry may lie unacknowledged with some consumer before another takes it; default 30 s. Keep it above what a
	// full queue takes to handle.
	ClaimIdle time.Duration
	// Housekeeping is the pause between claiming and trimming; default 1 s.
	Housekeeping time.Duration
	// MaxLen is what the stream is trimmed to, roughly; default 16384. The original trims to 128, which loses events to a reader that
	// pauses for a second; keep that only while original managers share the stream, since the smallest bound counts.
	MaxLen int64
}

// Consumer takes part in the group: each event reaches one consumer of the cluster.
//
//	XREADGROUP ─┐
//	            ├─► bounded queue ─► handler ─► XACK
//	XAUTOCLAIM ─┘   (full: reading waits)
//
// An entry is acknowledged after the handler returned, in the order of reading, so that a crash between leads to a second delivery and
// not to none. Claimed entries are acknowledged too; the original never does, and gets them again every second. First of all a
// consumer takes what it had been given before it was restarted.
//
// # The group
//
// Where there is no group when the consumer starts, it is made at the stream's end ("$"): what lies there is history that the rows
// already reflect. Where it vanishes while we run, somebody flushed Redis; the new group begins at "0", because every entry there was
// written after the flush, while "$" would skip those written before we noticed.
type Consumer struct {
	set     *Set
	cfg     ConsumerConfig
	handler Handler
	log     *slog.Logger
	counters

	queue    chan rueidis.XRangeEntry
	mu       sync.Mutex
	inFlight map[string]struct{} // ids read and not yet acknowledged

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewConsumer makes one; Start it. log may be nil.
func NewConsumer(set *Set, cfg ConsumerConfig, handler Handler, log *slog.Logger) *Consumer {
	cfg.Block, cfg.Batch, cfg.Queue = cmp.Or(cfg.Block, 2*time.Second), cmp.Or(cfg.Batch, 256), cmp.Or(cfg.Queue, 1024)
	cfg.ClaimIdle, cfg.Housekeeping, cfg.MaxLen = cmp.Or(cfg.ClaimIdle, 30*time.Second), cmp.Or(cfg.Housekeeping, time.Second), cmp.Or(cfg.MaxLen, 16384)
	return &Consumer{set: set, cfg: cfg, handler: handler, log: orDiscard(log), queue: make(chan rueidis.XRangeEntry, cfg.Queue), inFlight: map[string]struct{}{}}
}

// Start makes the group where it is missing and begins. Errors: ServiceUnavailable.
func (c *Consumer) Start(ctx context.Context) error {
	if err := c.makeGroup(ctx, "$"); err != nil {
		return err
	}
	ctx, c.cancel = context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() { c.read(ctx) })
	readers.Go(func() { c.keepHouse(ctx) })
	c.wg.Go(func() {
		readers.Wait()
		close(c.queue)
	})
	c.wg.Go(c.handle)
	return nil
}

// Stop ends reading, lets the handler finish what is queued, acknowledges it and returns.
func (c *Consumer) Stop() {
	if c.cancel != nil {
		c.cancel()
		c.wg.Wait()
	}
}

// Counts tells what happened since the start.
func (c *Consumer) Counts() Counts { return c.counts() }

// makeGroup tolerates a group that exists.
func (c *Consumer) makeGroup(ctx context.Context, from string) error {
	err := c.set.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed {
		return b.XgroupCreate().Key(StreamKey).Group(Group).Id(from).Mkstream().Build()
	}).Error()
	if err != nil && strings.Contains(err.Error(), "BUSYGROUP") {
		return nil
	}
	return err
}

// groupIsGone tells the errors of a flushed Redis: NOGROUP for a new command, UNBLOCKED for one that was waiting.
func groupIsGone(err error) bool {
	re, ok := rueidis.IsRedisErr(err)
	return ok && (strings.HasPrefix(re.Error(), "NOGROUP") || strings.HasPrefix(re.Error(), "UNBLOCKED"))
}

// mend answers an error of a loop: a new group, or a pause.
func (c *Consumer) mend(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if groupIsGone(err) {
		if err = c.makeGroup(ctx, "0"); err == nil {
			c.log.Warn("Redis was flushed: the consumer group was made anew")
			return
		}
	}
	pause(ctx, retryEvery)
}

func (c *Consumer) read(ctx context.Context) {
	client := c.set.db[dbStream]
	// "0…" = given to this name earlier and not acknowledged; ">" = new.
	for from := "0"; ctx.Err() == nil; {
		limit, cancel := context.WithTimeout(ctx, c.cfg.Block+c.set.cfg.Timeout)
		streams, err := client.Do(limit, client.B().Xreadgroup().Group(Group, c.cfg.Name).Count(int64(c.cfg.Batch)).Block(c.cfg.Block.Milliseconds()).Streams().Key(StreamKey).Id(from).Build()).AsXRead()
		cancel()
		if err != nil && !rueidis.IsRedisNil(err) {
			c.mend(ctx, err)
			from = "0" // the answer may have been lost on its way
			continue
		}
		entries := streams[StreamKey]
		if from != ">" {
			if len(entries) == 0 {
				from = ">"
				continue
			}
			from = entries[len(entries)-1].ID
		}
		for _, x := range entries {
			c.enqueue(ctx, x)
		}
	}
}

// depart marks an entry as on its way; false when it already is.
func (c *Consumer) depart(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.inFlight[id]
	c.inFlight[id] = struct{}{}
	return !known
}

// offer is enqueue without waiting: housekeeping must go on while a handler is slow. An entry without room is claimed again later.
func (c *Consumer) offer(x rueidis.XRangeEntry) (room bool) {
	if !c.depart(x.ID) {
		return true
	}
	select {
	case c.queue <- x:
		return true
	default:
		c.landed([]string{x.ID})
		return false
	}
}

// enqueue waits for room; an entry that is already on its way is left out.
func (c *Consumer) enqueue(ctx context.Context, x rueidis.XRangeEntry) {
	if !c.depart(x.ID) {
		return
	}
	select {
	case c.queue <- x:
	case <-ctx.Done():
		c.landed([]string{x.ID}) // stays unacknowledged: the next start finds it
	}
}

func (c *Consumer) landed(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.inFlight, id)
	}
}

func (c *Consumer) handle() {
	var ids []string
	for x := range c.queue {
		c.deliver(c.handler, c.log, x)
		ids = append(ids, x.ID)
		if len(c.queue) == 0 || len(ids) >= c.cfg.Batch {
			c.acknowledge(ids)
			ids = ids[:0]
		}
	}
	c.acknowledge(ids)
}

// acknowledge may fail: the entries are then claimed later and handled again.
func (c *Consumer) acknowledge(ids []string) {
	if len(ids) == 0 {
		return
	}
	err := c.set.do(context.Background(), dbStream, func(b rueidis.Builder) rueidis.Completed {
		return b.Xack().Key(StreamKey).Group(Group).Id(ids...).Build()
	}).Error()
	if err != nil {
		c.log.Warn("handled events could not be acknowledged; they will come again", "events", len(ids), "error", err)
	}
	c.landed(ids)
}

// keepHouse claims what dead consumers left and trims the stream.
func (c *Consumer) keepHouse(ctx context.Context) {
	for pause(ctx, c.cfg.Housekeeping) {
		if err := c.claim(ctx); err != nil {
			c.mend(ctx, err)
		}
		err := c.set.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed {
			return b.Xtrim().Key(StreamKey).Maxlen().Almost().Threshold(itoa(c.cfg.MaxLen)).Build()
		}).Error()
		if err != nil && ctx.Err() == nil {
			c.log.Debug("the event stream could not be trimmed", "error", err)
		}
	}
}

func (c *Consumer) claim(ctx context.Context) error {
	client := c.set.db[dbStream]
	for cursor := "0-0"; ; {
		limit, cancel := context.WithTimeout(ctx, c.set.cfg.Timeout)
		answer, err := client.Do(limit, client.B().Xautoclaim().Key(StreamKey).Group(Group).Consumer(c.cfg.Name).MinIdleTime(itoa(c.cfg.ClaimIdle.Milliseconds())).Start(cursor).Count(int64(c.cfg.Batch)).Build()).ToArray()
		cancel()
		if err != nil || len(answer) < 2 {
			return err
		}
		entries, err := answer[1].ToArray()
		if err != nil {
			return err
		}
		for _, m := range entries {
			if x, err := m.AsXRangeEntry(); err == nil && !c.offer(x) {
				return nil
			}
		}
		if cursor, err = answer[0].ToString(); err != nil || cursor == "0-0" || ctx.Err() != nil {
			return err
		}
	}
}
