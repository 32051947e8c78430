package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Collect reads the rows that a query has begun to send, and closes them. The connection may break in their midst: the error says what was
// read, and has a code (AsError).
func Collect[T any](what string, rows pgx.Rows, row pgx.RowToFunc[T]) ([]T, error) {
	list, err := pgx.CollectRows(rows, row)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, AsError(err))
	}
	return list, nil
}
