package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Collect reads the rows of a query and closes them. The error says what was read, and has a code (AsError): that of the query itself,
// which pgx keeps in its rows, so that callers need not look at it, or that of a connection that breaks while they are read.
func Collect[T any](what string, rows pgx.Rows, row pgx.RowToFunc[T]) ([]T, error) {
	list, err := pgx.CollectRows(rows, row)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, AsError(err))
	}
	return list, nil
}
