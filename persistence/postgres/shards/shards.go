package shards

import (
	"context"
	"fmt"
	"time"

	"backend.ai/manager/persistence/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ensure fixes the number of shards at the first start and makes their rows.
// It returns the number in force, which may differ from want on a later start.
func Ensure(ctx context.Context, pool *pgxpool.Pool, want int) (int, error) {
	var count int
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO backendai_actors.cluster (key, value) VALUES ('shards', $1::text) ON CONFLICT DO NOTHING`, fmt.Sprint(want)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT value::int FROM backendai_actors.cluster WHERE key = 'shards'`).Scan(&count); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO backendai_actors.shards (shard) SELECT generate_series(0, $1::int - 1) ON CONFLICT DO NOTHING`, count)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("shards: fix their number: %w", postgres.AsError(err))
	}
	return count, nil
}

// ClusterID is what tells this database's cluster from others; it is drawn at the first call.
func ClusterID(ctx context.Context, pool *pgxpool.Pool) (id string, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO backendai_actors.cluster (key, value) VALUES ('id', gen_random_uuid()::text) ON CONFLICT DO NOTHING`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT value FROM backendai_actors.cluster WHERE key = 'id'`).Scan(&id)
	})
	if err != nil {
		return "", fmt.Errorf("shards: read the cluster's id: %w", postgres.AsError(err))
	}
	return id, nil
}

// Take raises the epochs of the given shards for owner and returns the new ones.
func Take(ctx context.Context, pool *pgxpool.Pool, list []int32, owner string) (map[int32]int64, error) {
	// Locking in order first keeps two nodes that take overlapping sets from deadlocking.
	rows, err := pool.Query(ctx, `WITH mine AS (SELECT shard FROM backendai_actors.shards WHERE shard = ANY($1) ORDER BY shard FOR UPDATE)
UPDATE backendai_actors.shards s SET epoch = s.epoch + 1, owner = $2, taken_at = now() FROM mine WHERE s.shard = mine.shard RETURNING s.shard, s.epoch`, list, owner)
	if err != nil {
		return nil, fmt.Errorf("shards: take: %w", postgres.AsError(err))
	}
	epochs := make(map[int32]int64, len(list))
	var shard int32
	var epoch int64
	if _, err := pgx.ForEachRow(rows, []any{&shard, &epoch}, func() error {
		epochs[shard] = epoch
		return nil
	}); err != nil {
		return nil, fmt.Errorf("shards: take: %w", postgres.AsError(err))
	}
	if len(epochs) != len(list) {
		return nil, fmt.Errorf("shards: take: %d of %d shards have a row", len(epochs), len(list))
	}
	return epochs, nil
}

// Epochs reads the epochs of the given shards.
func Epochs(ctx context.Context, pool *pgxpool.Pool, list []int32) (map[int32]int64, error) {
	rows, err := pool.Query(ctx, `SELECT shard, epoch FROM backendai_actors.shards WHERE shard = ANY($1)`, list)
	if err != nil {
		return nil, fmt.Errorf("shards: read the epochs: %w", postgres.AsError(err))
	}
	epochs := make(map[int32]int64, len(list))
	var shard int32
	var epoch int64
	if _, err := pgx.ForEachRow(rows, []any{&shard, &epoch}, func() error {
		epochs[shard] = epoch
		return nil
	}); err != nil {
		return nil, fmt.Errorf("shards: read the epochs: %w", postgres.AsError(err))
	}
	return epochs, nil
}

// Row is one shard as the database has it.
type Row struct {
	Shard   int32      `json:"shard"`
	Epoch   int64      `json:"epoch"`
	Owner   *string    `json:"owner"`
	TakenAt *time.Time `json:"taken_at"`
}

// List reads all shards in order.
func List(ctx context.Context, pool *pgxpool.Pool) ([]Row, error) {
	rows, _ := pool.Query(ctx, `SELECT shard, epoch, owner, taken_at FROM backendai_actors.shards ORDER BY shard`)
	return postgres.Collect("shards: list", rows, pgx.RowToStructByPos[Row])
}
