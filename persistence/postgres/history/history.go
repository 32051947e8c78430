package history

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// batch bounds how many rows one statement removes, so that no lock is held for long.
const batch = 1000

// Ended lists the kernels that were terminated before a time.
func Ended(ctx context.Context, pool *pgxpool.Pool, before time.Time) ([]backendai.KernelID, error) {
	rows, err := pool.Query(ctx, `SELECT id FROM public.kernels WHERE terminated_at < $1`, before)
	if err != nil {
		return nil, postgres.AsError(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (backendai.KernelID, error) {
		var id uuid.UUID
		err := row.Scan(&id)
		return backendai.KernelID{UUID: id}, err
	})
	return list, postgres.AsError(err)
}

// Delete removes the rows of the kernels that were terminated before a time.
func Delete(ctx context.Context, pool *pgxpool.Pool, before time.Time) (deleted int64, err error) {
	for {
		tag, err := pool.Exec(ctx, `DELETE FROM public.kernels WHERE id IN (SELECT id FROM public.kernels WHERE terminated_at < $1 LIMIT $2)`, before, batch)
		if err != nil {
			return deleted, postgres.AsError(err)
		}
		deleted += tag.RowsAffected()
		if tag.RowsAffected() < batch {
			return deleted, nil
		}
	}
}

// Vacuum gives the space of removed rows free; full also hands it back to the file system, under locks that stop everybody else.
func Vacuum(ctx context.Context, pool *pgxpool.Pool, full bool) error {
	statement := "VACUUM"
	if full {
		statement = "VACUUM FULL"
	}
	_, err := pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	return postgres.AsError(err)
}

// Count is how many rows of kernels there are.
func Count(ctx context.Context, pool *pgxpool.Pool) (n int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM public.kernels`).Scan(&n)
	return n, postgres.AsError(err)
}
