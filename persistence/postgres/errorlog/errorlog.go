package errorlog

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/persistence/postgres"
)

// Entry is one error.
type Entry struct {
	Severity  string // critical, error, warning; what else agents say counts as error
	Source    string
	User      *string // uuid
	Message   string
	Language  string // of the traceback
	Context   any    // encoded as JSON
	Traceback *string
	// RequestURL and RequestStatus of an error that a client met.
	RequestURL    *string
	RequestStatus *int
}

// Insert writes an entry.
func Insert(ctx context.Context, pool *pgxpool.Pool, e Entry) error {
	severity := e.Severity
	if severity != "critical" && severity != "warning" {
		severity = "error"
	}
	doc, err := json.Marshal(e.Context)
	if err != nil {
		doc = []byte(`{}`)
	}
	var user *uuid.UUID
	if e.User != nil {
		if id, err := uuid.Parse(*e.User); err == nil {
			user = &id
		}
	}
	_, err = pool.Exec(ctx, `INSERT INTO public.error_logs (severity, source, "user", is_read, is_cleared, message, context_lang, context_env, request_url, request_status, traceback)
 VALUES ($1::text::errorlog_severity, $2, $3, false, false, $4, $5, $6, $7, $8, $9)`,
		severity, e.Source, user, e.Message, e.Language, string(doc), e.RequestURL, e.RequestStatus, e.Traceback)
	return postgres.AsError(err)
}
