package live

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/record"
)

// PastUses reads what owners had used of a scaling group when its scheduler last wrote it down, without those whose last use was before
// a time: of that nothing would be left.
func PastUses(ctx context.Context, pool *pgxpool.Pool, scalingGroup string, since time.Time) ([]record.PastUse, error) {
	rows, _ := pool.Query(ctx, `SELECT access_key, slot_seconds, at FROM backendai_actors.past_uses WHERE scaling_group = $1 AND at > $2`, scalingGroup, since)
	return postgres.Collect("live: past uses", rows, func(row pgx.CollectableRow) (u record.PastUse, err error) {
		var doc []byte
		u.ScalingGroup = scalingGroup
		if err = row.Scan(&u.AccessKey, &doc, &u.At); err != nil {
			return u, err
		}
		return u, json.Unmarshal(doc, &u.SlotSeconds)
	})
}

// Waiting counts the sessions that wait in a scaling group, and those of an access key among them.
func Waiting(ctx context.Context, pool *pgxpool.Pool, scalingGroup, accessKey string) (all, own int, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE access_key = $2) FROM public.kernels
 WHERE status = 'PENDING' AND cluster_role = 'main' AND scaling_group = $1`, scalingGroup, accessKey).Scan(&all, &own)
	if err != nil {
		return 0, 0, fmt.Errorf("live: waiting sessions: %w", postgres.AsError(err))
	}
	return all, own, nil
}
