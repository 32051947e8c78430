package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/api"
	"backend.ai/manager/persistence/postgres/errorlog"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
)

// errorLog keeps the errors of agents, and those that clients met, in error_logs, where administrators look for them.
type errorLog struct {
	pool   *pgxpool.Pool
	log    *slog.Logger
	queue  chan errorlog.Entry
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newErrorLog(pool *pgxpool.Pool, log *slog.Logger) *errorLog {
	ctx, cancel := context.WithCancel(context.Background())
	a := &errorLog{pool: pool, log: log, queue: make(chan errorlog.Entry, 1024), cancel: cancel}
	a.wg.Go(func() { a.run(ctx) })
	return a
}

// AgentError queues an error; when too many wait it is only logged.
func (a *errorLog) AgentError(agent string, e event.AgentError) {
	a.put(errorlog.Entry{Severity: e.Severity, Source: agent, Message: e.Message, Language: "python", Context: e.Context, Traceback: e.Traceback, User: e.User})
}

// Failed queues an error that a client met; its cause and stack are for administrators only.
func (a *errorLog) Failed(f api.Failure) {
	status := f.Err.HTTPStatus()
	a.put(errorlog.Entry{Severity: "error", Source: redis.SourceManager, Message: f.Err.Error(), Language: "go", Context: map[string]string{"method": f.Method},
		Traceback: &f.Stack, RequestURL: &f.Path, RequestStatus: &status})
}

func (a *errorLog) put(e errorlog.Entry) {
	select {
	case a.queue <- e:
	default:
		a.log.Warn("an error was not stored: too many are waiting", "source", e.Source, "message", e.Message)
	}
}

func (a *errorLog) stop() {
	a.cancel()
	a.wg.Wait()
}

func (a *errorLog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.queue:
			writing, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := errorlog.Insert(writing, a.pool, e); err != nil {
				a.log.Warn("an error was not stored", "source", e.Source, "error", err)
			}
			cancel()
		}
	}
}
