package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/persistence/postgres/errorlog"
	"backend.ai/manager/persistence/redis/event"
)

// agentErrors keeps the errors of agents in error_logs, where administrators look for them.
type agentErrors struct {
	pool   *pgxpool.Pool
	log    *slog.Logger
	queue  chan errorlog.Entry
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newErrorLog(pool *pgxpool.Pool, log *slog.Logger) *agentErrors {
	ctx, cancel := context.WithCancel(context.Background())
	a := &agentErrors{pool: pool, log: log, queue: make(chan errorlog.Entry, 1024), cancel: cancel}
	a.wg.Go(func() { a.run(ctx) })
	return a
}

// AgentError queues an error; when too many wait it is only logged.
func (a *agentErrors) AgentError(agent string, e event.AgentError) {
	entry := errorlog.Entry{Severity: e.Severity, Source: agent, Message: e.Message, Language: "python", Context: e.Context, Traceback: e.Traceback, User: e.User}
	select {
	case a.queue <- entry:
	default:
		a.log.Warn("an agent's error was not stored: too many are waiting", "agent", agent, "message", e.Message)
	}
}

func (a *agentErrors) stop() {
	a.cancel()
	a.wg.Wait()
}

func (a *agentErrors) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.queue:
			writing, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := errorlog.Insert(writing, a.pool, e); err != nil {
				a.log.Warn("an agent's error was not stored", "agent", e.Source, "error", err)
			}
			cancel()
		}
	}
}
