package accounts

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Use says what a keypair did since the last batch.
type Use struct {
	AccessKey backendai.AccessKey
	Queries   int64
	Last      time.Time
}

// Usage gathers how often keypairs are used and writes it now and then. A request costs a map entry, never a statement.
//
//	requests ──Note──▶ gathered ──every Interval──▶ sinks (rows, Redis)
type Usage struct {
	interval time.Duration
	sinks    []func(context.Context, []Use) error

	mu       sync.Mutex
	gathered map[backendai.AccessKey]Use
	lost     int64

	stop, done chan struct{}
}

const (
	// UsageInterval is how often batches are written.
	UsageInterval = 5 * time.Second
	// mostUsed bounds a batch; uses of further keys are not counted.
	mostUsed   = 20_000
	writeLimit = 5 * time.Second
)

// NewUsage makes a gatherer that hands each batch to every sink. A batch that a sink fails to write is lost: these are statistics.
func NewUsage(sinks ...func(context.Context, []Use) error) *Usage {
	return &Usage{interval: UsageInterval, sinks: sinks, gathered: map[backendai.AccessKey]Use{}, stop: make(chan struct{}), done: make(chan struct{})}
}

// Note counts one signed request. It never waits.
func (u *Usage) Note(key backendai.AccessKey, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use, known := u.gathered[key]
	if !known && len(u.gathered) >= mostUsed {
		u.lost++
		return
	}
	u.gathered[key] = Use{AccessKey: key, Queries: use.Queries + 1, Last: at}
}

// Start begins to write batches.
func (u *Usage) Start(context.Context) error {
	go u.run()
	return nil
}

// Stop writes what is left and ends.
func (u *Usage) Stop(ctx context.Context) error {
	close(u.stop)
	select {
	case <-u.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *Usage) run() {
	defer close(u.done)
	tick := time.NewTicker(u.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.write()
		case <-u.stop:
			u.write()
			return
		}
	}
}

func (u *Usage) write() {
	u.mu.Lock()
	gathered, lost := u.gathered, u.lost
	if len(gathered) == 0 {
		u.mu.Unlock()
		return
	}
	u.gathered, u.lost = make(map[backendai.AccessKey]Use, len(gathered)), 0
	u.mu.Unlock()
	batch := make([]Use, 0, len(gathered))
	for _, use := range gathered {
		batch = append(batch, use)
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	for _, sink := range u.sinks {
		if err := sink(ctx, batch); err != nil {
			slog.Warn("uses of keypairs were not counted", "keypairs", len(batch), "error", err)
		}
	}
	if lost > 0 {
		slog.Warn("uses of keypairs were not counted", "requests", lost, "error", "too many keypairs at once")
	}
}

// SaveUsage is the sink that writes to keypairs.last_used and num_queries, which the original left alone. It announces no change: nothing
// cached depends on these columns.
func SaveUsage(pool *pgxpool.Pool) func(context.Context, []Use) error {
	return func(ctx context.Context, batch []Use) error {
		keys, queries, last := make([]string, len(batch)), make([]int64, len(batch)), make([]time.Time, len(batch))
		for i, use := range batch {
			keys[i], queries[i], last[i] = string(use.AccessKey), use.Queries, use.Last
		}
		// Rows in the order of their keys: nodes that write at the same time do not deadlock.
		_, err := pool.Exec(ctx, `WITH batch AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS b(access_key, queries, last)),
 locked AS (SELECT k.access_key FROM public.keypairs k JOIN batch b ON b.access_key = k.access_key ORDER BY k.access_key FOR NO KEY UPDATE OF k)
UPDATE public.keypairs k SET last_used = greatest(k.last_used, b.last), num_queries = least(coalesce(k.num_queries, 0) + b.queries, 2147483647)
FROM batch b JOIN locked l ON l.access_key = b.access_key WHERE k.access_key = b.access_key`, keys, queries, last)
		return postgres.AsError(err)
	}
}
