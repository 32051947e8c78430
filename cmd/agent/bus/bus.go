package bus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
	"github.com/redis/rueidis"
	"github.com/vmihailenco/msgpack/v5"
)

const (
	dbStat   = 0
	dbStream = 4

	maxQueued = 50000 // commands
	batch     = 256
	patience  = 3 * time.Second // with one attempt
	pause     = 300 * time.Millisecond
	logChunk  = 64 << 10
	logExpiry = time.Hour
	// staleAfter is how long heartbeats go on piling up unsent before they are left out.
	staleAfter = 64
)

// Where gives the present place of Redis: from the shared settings, or what the agent was told.
type Where func(context.Context) (redis.Config, error)

// Bus sends. New ── Start ──▶ sending ── Stop ──▶ ended.
type Bus struct {
	source string
	where  Where
	log    *slog.Logger

	mu      sync.Mutex
	queue   []command
	changed chan struct{} // closed and replaced when the queue has changed
	stat    rueidis.Client
	stopped bool

	cancel context.CancelFunc
	done   chan struct{}
}

// command is a Redis command to be, its words.
type command struct {
	words []string
}

// New makes a bus for the agent called source.
func New(source string, where Where, log *slog.Logger) *Bus {
	return &Bus{source: source, where: where, log: log, changed: make(chan struct{}), done: make(chan struct{})}
}

// Start begins to send; it does not wait for Redis.
func (b *Bus) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go b.run(ctx)
}

// Stop sends what waits, until ctx ends, and ends.
func (b *Bus) Stop(ctx context.Context) {
	b.Flush(ctx)
	b.mu.Lock()
	b.stopped = true
	left := len(b.queue)
	b.mu.Unlock()
	if left > 0 {
		b.log.Warn("events are lost: Redis did not take them before the end", "count", left)
	}
	b.cancel()
	<-b.done
}

func (b *Bus) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Bus) enqueue(list ...command) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || len(b.queue)+len(list) > maxQueued {
		b.log.Error("events are dropped: too many wait for Redis", "waiting", len(b.queue))
		return
	}
	b.queue = append(b.queue, list...)
	b.wake()
}

func (b *Bus) entry(name string, args []byte) command {
	return command{words: []string{"XADD", redis.StreamKey, "*", "name", name, "source", b.source, "args", string(args)}}
}

// Publish sends an event, after all that were published before it.
func (b *Bus) Publish(e event.Event) {
	name, args, err := event.Encode(e)
	if err != nil {
		b.log.Error("an event cannot be encoded", "err", err)
		return
	}
	b.enqueue(b.entry(name, args))
}

// Beat sends a heartbeat, with the agent's abilities beyond the original's under one more key, which official managers do not read.
// It is left out while much else waits: an old heartbeat tells nothing.
func (b *Bus) Beat(h event.Heartbeat, features []string) {
	name, args, err := event.Encode(event.AgentHeartbeat{Info: h})
	if err == nil {
		args, err = withFeatures(args, features)
	}
	if err != nil {
		b.log.Error("the heartbeat cannot be encoded", "err", err)
		return
	}
	b.mu.Lock()
	waiting := len(b.queue)
	b.mu.Unlock()
	if waiting < staleAfter {
		c := b.entry(name, args)
		b.enqueue(c)
	}
}

// withFeatures adds the key "features" to the map in an encoded array of one map.
func withFeatures(args []byte, features []string) ([]byte, error) {
	if len(args) < 2 || args[0] != 0x91 || args[1]&0xf0 != 0x80 || args[1] == 0x8f {
		return nil, errors.New("a heartbeat of another form")
	}
	args = bytes.Clone(args)
	args[1]++
	more, err := msgpack.Marshal(features)
	if err != nil {
		return nil, err
	}
	args = append(args, 0xa8)
	args = append(args, "features"...)
	return append(args, more...), nil
}

// PushLog leaves a container's log where the manager fetches it, and tells it so (spec/agent-protocol §11.5).
func (b *Bus) PushLog(e event.DoSyncKernelLogs, text []byte) {
	key := "containerlog." + e.Container
	var list []command
	for len(text) > 0 {
		n := min(logChunk, len(text))
		list = append(list, command{words: []string{"RPUSH", key, string(text[:n])}})
		text = text[n:]
	}
	if list != nil {
		list = append(list, command{words: []string{"EXPIRE", key, strconv.Itoa(int(logExpiry.Seconds()))}})
	}
	b.enqueue(list...)
	b.Publish(e)
}

// Flush waits until all that was published is sent, or ctx ends; it tells whether it is.
func (b *Bus) Flush(ctx context.Context) bool {
	for {
		b.mu.Lock()
		n, changed := len(b.queue), b.changed
		b.mu.Unlock()
		if n == 0 {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// StoreStats writes statistics under a key; ttl 0 means for good. Without Redis they are dropped.
func (b *Bus) StoreStats(ctx context.Context, key string, value []byte, ttl time.Duration) {
	b.mu.Lock()
	client := b.stat
	b.mu.Unlock()
	if client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	words := []string{key, rueidis.BinaryString(value)}
	if ttl > 0 {
		words = append(words, "EX", strconv.Itoa(int(ttl.Seconds())))
	}
	if err := client.Do(ctx, client.B().Arbitrary("SET").Args(words...).Build()).Error(); err != nil {
		b.log.Debug("statistics are dropped", "err", err)
	}
}

// run connects, sends, and connects again when that fails.
func (b *Bus) run(ctx context.Context) {
	defer close(b.done)
	complained := false
	for ctx.Err() == nil {
		err := b.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if !complained {
			b.log.Warn("Redis does not answer; events wait", "err", err)
		}
		complained = err != nil
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// session sends with one pair of connections until they fail.
func (b *Bus) session(ctx context.Context) error {
	cfg, err := b.where(ctx)
	if err != nil {
		return err
	}
	stat, err := rueidis.NewClient(option(cfg, dbStat))
	if err != nil {
		return err
	}
	defer stat.Close()
	stream, err := rueidis.NewClient(option(cfg, dbStream))
	if err != nil {
		return err
	}
	defer stream.Close()
	b.setStat(stat)
	defer b.setStat(nil)
	for {
		b.mu.Lock()
		waiting, changed := b.queue[:min(batch, len(b.queue))], b.changed
		b.mu.Unlock()
		if len(waiting) == 0 {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		sent, err := send(ctx, stream, waiting)
		b.mu.Lock()
		b.queue = b.queue[sent:]
		if len(b.queue) == 0 {
			b.queue = nil
		}
		b.wake()
		b.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (b *Bus) setStat(c rueidis.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stat = c
}

// send tells how many commands are done with: taken by Redis, or refused for good.
func send(ctx context.Context, client rueidis.Client, list []command) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	commands := make(rueidis.Commands, len(list))
	for i, c := range list {
		commands[i] = client.B().Arbitrary(c.words[0]).Keys(c.words[1]).Args(c.words[2:]...).Build()
	}
	for i, r := range client.DoMulti(ctx, commands...) {
		if err := r.Error(); err != nil {
			if re, ok := rueidis.IsRedisErr(err); ok && !transient(re.Error()) {
				continue
			}
			return i, err
		}
	}
	return len(list), nil
}

// transient errors pass when Redis has loaded, or another server is the master.
func transient(text string) bool {
	for _, prefix := range []string{"LOADING", "READONLY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOAUTH"} {
		if len(text) >= len(prefix) && text[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

func option(c redis.Config, db int) rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress: []string{c.Addr}, ForceSingleClient: true, SelectDB: db, Password: c.Password.Reveal(), ClientName: "backend.ai-agent",
		DisableCache: true, DisableRetry: true, ConnWriteTimeout: patience, Dialer: net.Dialer{Timeout: time.Second, KeepAlive: 5 * time.Second},
		ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 64 << 10,
	}
	if len(c.Sentinels) > 0 {
		o.InitAddress, o.ForceSingleClient = c.Sentinels, false
		o.Sentinel = rueidis.SentinelOption{MasterSet: c.ServiceName, Dialer: net.Dialer{Timeout: time.Second}}
	}
	return o
}
