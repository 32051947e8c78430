package redis

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis/event"
)

// taskTTL is how long a background task is remembered after its last word.
const taskTTL = 86400

// Task is the record of a background task (spec/config-cli-ops §9).
type Task struct {
	// Status is started, done, cancelled or failed.
	Status string
	// Current and Total are decimal texts.
	Current, Total     string
	Message            string
	Started, LastWrite time.Time
}

// Ended tells whether the task is over.
func (t Task) Ended() bool { return t.Status != "started" }

func (s *Set) setTask(ctx context.Context, id string, fields ...string) error {
	key := "bgtask." + id
	return firstError(s.multi(ctx, dbStream, func(b rueidis.Builder) rueidis.Commands {
		set := b.Hset().Key(key).FieldValue()
		for i := 0; i < len(fields); i += 2 {
			set = set.FieldValue(fields[i], fields[i+1])
		}
		return rueidis.Commands{set.Build(), b.Expire().Key(key).Seconds(taskTTL).Build()}
	}))
}

// StartTask records a new task.
func (s *Set) StartTask(ctx context.Context, id string, now time.Time) error {
	return s.setTask(ctx, id, "status", "started", "current", "0", "total", "0", "msg", "", "started_at", unix(now), "last_update", unix(now))
}

// UpdateTask records progress.
func (s *Set) UpdateTask(ctx context.Context, id string, current, total event.Number, message string, now time.Time) error {
	return s.setTask(ctx, id, "current", digits(current), "total", digits(total), "msg", message, "last_update", unix(now))
}

func digits(n event.Number) string {
	text, err := json.Marshal(n)
	if err != nil {
		return "0" // not a number
	}
	return string(text)
}

// EndTask records the end; status is done, cancelled or failed.
func (s *Set) EndTask(ctx context.Context, id, status, message string, now time.Time) error {
	return s.setTask(ctx, id, "status", status, "msg", message, "last_update", unix(now))
}

// Task reads a record. Errors: BackgroundTaskNotFound.
func (s *Set) Task(ctx context.Context, id string) (t Task, err error) {
	r := s.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed { return b.Hgetall().Key("bgtask." + id).Build() })
	if r.Error() != nil {
		return t, r.Error()
	}
	fields, err := r.AsStrMap()
	if err != nil {
		return t, backendai.Internal(err)
	}
	if len(fields) == 0 {
		return t, backendai.NewError(backendai.BackgroundTaskNotFound)
	}
	t = Task{Status: fields["status"], Current: fields["current"], Total: fields["total"], Message: fields["msg"]}
	t.Started, _ = fromUnix(fields["started_at"])
	t.LastWrite, _ = fromUnix(fields["last_update"])
	return t, nil
}
