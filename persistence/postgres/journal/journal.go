package journal

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// IdleTimeout is what the connections of a journal need as the limit of idle transactions (postgres.Config.IdleTimeout): a process that is
// stopped in the midst of one keeps its shards from being taken for so long.
const IdleTimeout = 2 * time.Second

// Config bounds a journal. Zero values take the defaults.
type Config struct {
	Writers  int // goroutines that commit, each with one connection; default 2
	MaxBatch int // entries in one transaction; default 512
	MaxQueue int // entries waiting for one writer; default 65536
}

func (c Config) withDefaults() Config {
	if c.Writers <= 0 {
		c.Writers = 2
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = 512
	}
	if c.MaxQueue <= 0 {
		c.MaxQueue = 65536
	}
	return c
}

// Journal commits entries of actors through a few writers.
//
//	New ── Start ──▶ running ── Stop ──▶ stopped (queued entries get ErrStopped)
type Journal struct {
	writers []*writer
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// New makes a journal on pool; it does nothing until Start.
func New(pool *pgxpool.Pool, cfg Config, log *slog.Logger) *Journal {
	cfg = cfg.withDefaults()
	j := &Journal{}
	for i := range cfg.Writers {
		j.writers = append(j.writers, &writer{
			pool: pool, cfg: cfg, log: log.With("journal_writer", i),
			wake: make(chan struct{}, 1),
		})
	}
	return j
}

// Start begins to commit.
func (j *Journal) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	j.cancel = cancel
	for _, w := range j.writers {
		j.wg.Go(func() { w.run(ctx) })
	}
}

// Submit hands an entry over. It never blocks: it returns ErrFull (try again
// later) or ErrStopped and then has taken nothing, else the entry's Done will be
// called exactly once. Entries of one shard commit in the order of their Submits.
func (j *Journal) Submit(e *Entry) error {
	return j.writers[int(e.Guard.Shard)%len(j.writers)].submit(e)
}

// Flush waits until everything submitted before it has been committed or
// refused, or ctx ends. It is the "flush" of a planned hand-over.
func (j *Journal) Flush(ctx context.Context) error {
	for _, w := range j.writers {
		done := make(chan struct{})
		if err := w.submit(&Entry{Done: func(error) { close(done) }}); err != nil {
			return err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("journal: flush: %w", ctx.Err())
		}
	}
	return nil
}

// Stop ends the writers after the transaction they are in. What still waits gets ErrStopped.
func (j *Journal) Stop() {
	if j.cancel != nil {
		j.cancel()
	}
	j.wg.Wait()
}

// Stats says what the journal has done so far, summed over its writers.
func (j *Journal) Stats() Stats {
	var s Stats
	for _, w := range j.writers {
		s.add(w.stats())
	}
	return s
}

// Stats counts the work of a journal.
type Stats struct {
	Queued  int   `json:"queued"`  // entries waiting now
	Batches int64 `json:"batches"` // transactions committed
	Entries int64 `json:"entries"` // entries committed
	Refused int64 `json:"refused"` // entries refused (deposed, name taken, …)
	Retries int64 `json:"retries"` // transactions tried again
}

func (s *Stats) add(o Stats) {
	s.Queued += o.Queued
	s.Batches += o.Batches
	s.Entries += o.Entries
	s.Refused += o.Refused
	s.Retries += o.Retries
}
