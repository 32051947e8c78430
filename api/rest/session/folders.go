package session

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/persistence/postgres/live"
)

// folders reads those folders of an owner that have the given names, and those with a dot.
func folders(ctx context.Context, pool *pgxpool.Pool, names []string, owner enqueue.Owner, role backendai.UserRole) ([]enqueue.Folder, error) {
	rows, err := live.AccessibleFolders(ctx, pool, names, owner.UserID, owner.Domain, role)
	list := make([]enqueue.Folder, len(rows))
	for i, r := range rows {
		list[i] = enqueue.Folder(r)
	}
	return list, err
}
