package changes

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/persistence/postgres/schema"
)

// Listener hears which tables change and tells those who cache their rows.
//
//	new ──Start──▶ listening ◀──▶ reconnecting ──Stop──▶ stopped
type Listener struct {
	config *pgx.ConnConfig

	mu          sync.Mutex
	subscribers []subscriber

	cancel context.CancelFunc
	done   chan struct{}
	heard  chan struct{} // closed when the first LISTEN stands
}

type subscriber struct {
	tables map[string]bool
	drop   func()
}

// NewListener makes a listener with a connection of its own, configured as those of the pool.
func NewListener(pool *pgxpool.Pool) *Listener {
	return &Listener{config: pool.Config().ConnConfig, heard: make(chan struct{})}
}

// Subscribe has drop called whenever one of the tables has changed, or may have. drop must be quick. Call it before Start.
func (l *Listener) Subscribe(drop func(), tables ...string) {
	s := subscriber{tables: make(map[string]bool, len(tables)), drop: drop}
	for _, t := range tables {
		s.tables[t] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subscribers = append(l.subscribers, s)
}

// Start begins to listen. It does not wait for the connection: caches are right without it, only younger.
func (l *Listener) Start(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan struct{})
	go l.run(ctx)
	return nil
}

// Listening is closed once the listener hears changes for the first time.
func (l *Listener) Listening() <-chan struct{} { return l.heard }

// Stop ends the connection and waits for the goroutine.
func (l *Listener) Stop(ctx context.Context) error {
	if l.cancel == nil {
		return nil
	}
	l.cancel()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	connectLimit = 5 * time.Second
	shortestWait = 50 * time.Millisecond
	longestWait  = 2 * time.Second
)

func (l *Listener) run(ctx context.Context) {
	defer close(l.done)
	wait := shortestWait
	for {
		listened, err := l.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if listened {
			wait = shortestWait
		}
		slog.Warn("lost the connection that hears of changed tables", "error", err, "again_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

// listen holds one connection until it breaks.
func (l *Listener) listen(ctx context.Context) (listened bool, err error) {
	dial, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := pgx.ConnectConfig(dial, l.config)
	if err != nil {
		return false, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(end) // it is broken or unwanted
	}()
	if _, err := conn.Exec(dial, "LISTEN "+schema.Channel); err != nil {
		return false, err
	}
	l.tell("") // whatever changed meanwhile was not heard
	select {
	case <-l.heard:
	default:
		close(l.heard)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, err
		}
		l.tell(n.Payload)
	}
}

// tell drops what depends on a table; all of it for the empty name.
func (l *Listener) tell(table string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.subscribers {
		if table == "" || s.tables[table] {
			s.drop()
		}
	}
}
