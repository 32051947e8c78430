package sessions

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Match is a session that a reference leads to.
type Match struct {
	ID        uuid.UUID
	Name      string
	Status    backendai.KernelStatus
	CreatedAt time.Time
}

// inOrder has how many sessions a reference may match before the rest is cut off (spec/rest-session §2.2).
const inOrder = ` ORDER BY k.created_at DESC, k.session_id LIMIT 10`

const selectMatch = `SELECT k.session_id, coalesce(k.session_name, ''), k.status::text, coalesce(k.created_at, 'epoch') FROM public.kernels k
 WHERE k.access_key = $1 AND `

// Both are written so that the index of roles can't serve them: to a database without statistics of the table yet, that one looks as
// good as the indexes of names, and has it read every session there is; a connection then keeps that plan.
const (
	// ofLive is for an index of the schema that has just these rows.
	ofLive = ` AND (k.cluster_role = 'main' OR 'main' = k.cluster_role) AND k.status NOT IN ('TERMINATED', 'CANCELLED')`
	ofAll  = ` AND (k.cluster_role = 'main') IS TRUE`
)

// Find looks a reference up among the sessions of an access key: a session's id, its name, a prefix of either, or a prefix
// of a kernel's id; the first kind that finds something decides. A whole id and a whole name go before prefixes, so that no
// foreign id hides a name. Dead sessions are found only when stale is set. The newest come first.
// (spec/rest-session §2.2)
func Find(ctx context.Context, db Querier, ref, accessKey string, stale bool) ([]Match, error) {
	filter := ofLive
	if stale {
		filter = ofAll
	}
	type search struct {
		where string
		args  []any
	}
	var searches []search
	low, high, isPrefix := uuidRange(ref)
	if isPrefix && low == high {
		searches = append(searches, search{`k.session_id = $2`, []any{low}})
	}
	searches = append(searches, search{`k.session_name = $2`, []any{ref}})
	if isPrefix && low != high {
		searches = append(searches, search{`k.session_id BETWEEN $2 AND $3`, []any{low, high}})
	}
	searches = append(searches, search{`k.session_name LIKE $2`, []any{likePrefix(ref)}})
	if isPrefix {
		searches = append(searches, search{`k.session_id IN (SELECT s.session_id FROM public.kernels s WHERE s.id BETWEEN $2 AND $3)`, []any{low, high}})
	}
	for _, s := range searches {
		rows, err := db.Query(ctx, selectMatch+s.where+filter+inOrder, append([]any{accessKey}, s.args...)...)
		if err != nil {
			return nil, postgres.AsError(err)
		}
		list, err := pgx.CollectRows(rows, scanMatch)
		if err != nil {
			return nil, postgres.AsError(err)
		}
		if len(list) > 0 {
			return list, nil
		}
	}
	return nil, nil
}

func scanMatch(row pgx.CollectableRow) (m Match, err error) {
	var status string
	if err = row.Scan(&m.ID, &m.Name, &status, &m.CreatedAt); err != nil {
		return m, err
	}
	m.Status, err = backendai.ParseKernelStatus(status)
	return m, err
}

// One is Find for a reference that must lead to a single session. Errors: SessionNotFound, TooManySessionsMatched with the matches.
func One(ctx context.Context, db Querier, ref, accessKey string, stale bool) (Match, error) {
	list, err := Find(ctx, db, ref, accessKey, stale)
	switch {
	case err != nil:
		return Match{}, err
	case len(list) == 0:
		return Match{}, backendai.NewError(backendai.SessionNotFound)
	case len(list) > 1:
		matches := make([]map[string]any, len(list))
		for i, m := range list {
			matches[i] = map[string]any{"id": m.ID.String(), "name": m.Name, "status": string(m.Status), "created_at": m.CreatedAt.Format("2006-01-02T15:04:05.999999-07:00")}
		}
		return Match{}, backendai.NewError(backendai.TooManySessionsMatched).WithData(map[string]any{"matches": matches})
	}
	return list[0], nil
}

// Live finds the live session of exactly that name (spec/rest-session §3.4 step 5); nil if there is none.
func Live(ctx context.Context, db Querier, name, accessKey string) (*Match, error) {
	rows, err := db.Query(ctx, selectMatch+`k.session_name = $2`+ofLive, accessKey, name)
	if err != nil {
		return nil, postgres.AsError(err)
	}
	list, err := pgx.CollectRows(rows, scanMatch)
	if err != nil || len(list) == 0 {
		return nil, postgres.AsError(err)
	}
	return &list[0], nil
}

// uuidRange is the range of ids that begin with a text. ok is false if no id does: ids are lower-case with hyphens.
func uuidRange(prefix string) (low, high uuid.UUID, ok bool) {
	const shape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	if prefix == "" || len(prefix) > len(shape) {
		return low, high, false
	}
	for i := range len(prefix) {
		c := prefix[i]
		if shape[i] == '-' && c != '-' || shape[i] == 'x' && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return low, high, false
		}
	}
	rest := shape[len(prefix):]
	low = uuid.MustParse(prefix + strings.ReplaceAll(rest, "x", "0"))
	high = uuid.MustParse(prefix + strings.ReplaceAll(rest, "x", "f"))
	return low, high, true
}

var likeSpecial = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func likePrefix(s string) string { return likeSpecial.Replace(s) + "%" }
