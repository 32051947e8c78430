package journal

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/persistence/postgres"
)

// Pauses between tries while the database is away.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 2 * time.Second
	// A transaction that takes longer is given up and tried again: the database may hang.
	transactionDeadline = 30 * time.Second
)

type writer struct {
	pool *pgxpool.Pool
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds one token when the queue is not empty

	mu      sync.Mutex
	queue   []*Entry
	stopped bool
	counts  Stats
}

func (w *writer) submit(e *Entry) error {
	w.mu.Lock()
	switch {
	case w.stopped:
		w.mu.Unlock()
		return ErrStopped
	case len(w.queue) >= w.cfg.MaxQueue:
		w.mu.Unlock()
		return ErrFull
	}
	w.queue = append(w.queue, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

func (w *writer) stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.counts
	s.Queued = len(w.queue)
	return s
}

func (w *writer) count(f func(*Stats)) {
	w.mu.Lock()
	f(&w.counts)
	w.mu.Unlock()
}

// take removes up to a batch of entries.
func (w *writer) take() []*Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), w.cfg.MaxBatch)
	batch := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil // let go of the array that the batch still uses
	}
	return batch
}

func (w *writer) run(ctx context.Context) {
	defer w.close()
	var p pace
	for {
		batch := w.take()
		if len(batch) == 0 {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		w.commit(ctx, batch)
		if ctx.Err() == nil {
			w.gather(ctx, p.pause(w.queued()))
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// gather lets entries pile up for a while, or until there are enough.
func (w *writer) gather(ctx context.Context, pause time.Duration) {
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for w.queued() < enough {
		select {
		case <-w.wake:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (w *writer) queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

func (w *writer) close() {
	w.mu.Lock()
	w.stopped = true
	rest := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, e := range rest {
		finish(e, ErrStopped)
	}
}

func finish(e *Entry, err error) {
	if e.Done != nil {
		e.Done(err)
	}
}

// commit writes the batch, however long the database is away, and tells every
// entry. When the database refuses the batch itself, halves of it are tried, down
// to the one entry that is at fault.
func (w *writer) commit(ctx context.Context, batch []*Entry) {
	pause := firstPause
	for {
		refusals, err := w.try(ctx, batch)
		switch {
		case err == nil:
			w.count(func(s *Stats) {
				s.Batches++
				s.Entries += int64(len(batch) - len(refusals))
				s.Refused += int64(len(refusals))
			})
			for _, e := range batch {
				finish(e, refusals[e])
			}
			return
		case ctx.Err() != nil:
			for _, e := range batch {
				finish(e, ErrStopped)
			}
			return
		case retryable(err):
			w.count(func(s *Stats) { s.Retries++ })
			w.log.Warn("the journal's transaction failed; trying again", "error", err, "entries", len(batch), "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxPause)
		case len(batch) == 1:
			w.count(func(s *Stats) { s.Refused++ })
			if nameTaken(err) { // a rename; a new session's name is found out by its insert
				err = ErrNameTaken
			} else {
				w.log.Error("the database refuses an entry", "error", err)
			}
			finish(batch[0], err)
			return
		default:
			half := len(batch) / 2
			w.commit(ctx, batch[:half])
			w.commit(ctx, batch[half:])
			return
		}
	}
}

// try runs one transaction. A nil error means committed, but for the entries in the returned map.
func (w *writer) try(ctx context.Context, batch []*Entry) (map[*Entry]error, error) {
	ctx, cancel := context.WithTimeout(ctx, transactionDeadline)
	defer cancel()
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // one that is still in a transaction is closed, which rolls back
	refusals := make(map[*Entry]error)
	epochs, agreed := epochsOf(batch)
	if len(epochs) == 0 {
		return refusals, nil
	}
	if agreed {
		err := write(ctx, conn, batch, refusals, epochs)
		if !raised(err) {
			return refusals, err
		}
		if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
			return refusals, err
		}
	}
	if err := begin(ctx, conn, batch, refusals); err != nil {
		return refusals, err
	}
	return refusals, write(ctx, conn, batch, refusals, nil)
}

// epochsOf are the shards that a batch stands under, and the epochs in which its entries were made; agreed is false when entries of
// one shard were made in different ones. There are none when no entry has rows.
func epochsOf(batch []*Entry) (epochs map[int32]int64, agreed bool) {
	epochs, agreed = make(map[int32]int64), true
	for _, e := range batch {
		for _, g := range e.guards() {
			if epoch, ok := epochs[g.Shard]; ok && epoch != g.Epoch {
				agreed = false
			}
			epochs[g.Shard] = g.Epoch
		}
	}
	return epochs, agreed
}

// retryable tells failures of the connection, the server's state or the
// concurrency of others from those of the data itself.
func retryable(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true // the connection broke, or timed out
	}
	switch pg.Code[:2] {
	case "08", "40", "53", "55", "57": // connection, rollback, resources, not in state, operator intervention
		return true
	}
	switch pg.Code {
	case "25006", // a server that follows as a read-only standby until it is promoted
		"25P03": // the transaction was idle for too long (IdleTimeout): this process, or the way to the server, stood still
		return true
	}
	return false
}

func nameTaken(err error) bool {
	constraint, ok := postgres.UniqueViolation(err)
	return ok && constraint == "ix_kernels_unique_sess_token"
}

// open begins a transaction.
func open(b *pgx.Batch) {
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	// Every row is found by its key. A plan that was made while the table was almost empty would read all of it, and a connection
	// keeps its plans until the server's next look at the table: a minute, or many thousand sessions, later.
	b.Queue(`SET LOCAL enable_seqscan = off`)
}

// guard locks the shards' rows, and fails when one of them has another epoch than it should: nothing that comes after it is done.
// ORDER BY, here and in begin: all writers lock in one order, so that they cannot deadlock with a raise.
const guard = `SELECT 1 / (count(*) = cardinality($1::int[]))::int FROM (
 SELECT s.shard FROM backendai_actors.shards s JOIN unnest($1::int[], $2::bigint[]) AS g(shard, epoch) ON s.shard = g.shard AND s.epoch = g.epoch
 WHERE s.shard = ANY($1::int[]) ORDER BY s.shard FOR SHARE OF s) AS held`

// raised tells whether it was guard that failed.
func raised(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "22012" // division by zero: no other statement divides
}

func queueGuard(b *pgx.Batch, epochs map[int32]int64) {
	shards := slices.Sorted(maps.Keys(epochs))
	list := make([]int64, len(shards))
	for i, s := range shards {
		list[i] = epochs[s]
	}
	b.Queue(guard, shards, list)
}

// begin opens a transaction, locks the shards' rows and refuses the entries made under another epoch.
func begin(ctx context.Context, conn *pgxpool.Conn, batch []*Entry, refusals map[*Entry]error) error {
	seen, _ := epochsOf(batch)
	shards := slices.Sorted(maps.Keys(seen))
	for s := range seen {
		seen[s] = 0
	}
	var b pgx.Batch
	open(&b)
	b.Queue(`SELECT shard, epoch FROM backendai_actors.shards WHERE shard = ANY($1) ORDER BY shard FOR SHARE`, shards).Query(func(rows pgx.Rows) error {
		var shard int32
		var epoch int64
		_, err := pgx.ForEachRow(rows, []any{&shard, &epoch}, func() error {
			seen[shard] = epoch
			return nil
		})
		return err
	})
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	for _, e := range batch {
		for i, g := range e.guards() {
			if seen[g.Shard] == g.Epoch {
				continue
			}
			if i == 0 {
				refusals[e] = ErrDeposed
				break // its own shard is what counts
			}
			refusals[e] = ErrSchedulerDeposed
		}
	}
	return nil
}

// guards lists the shards an entry stands under; an entry without rows has none, unless it wants to be sure.
func (e *Entry) guards() []Guard {
	switch {
	case !e.Sure && len(e.Sessions) == 0 && len(e.Kernels) == 0 && len(e.Agents) == 0 && len(e.Uses) == 0:
		return nil
	case e.Also != nil:
		return []Guard{e.Guard, *e.Also}
	default:
		return []Guard{e.Guard}
	}
}
