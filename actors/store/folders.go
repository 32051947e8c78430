package store

import (
	"context"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/live"
)

// folderReader is who looks for folders.
type folderReader struct {
	user   uuid.UUID
	domain string
	role   backendai.UserRole
}

// Folders reads the folders that an owner can mount and that have one of the names or begin with a dot; role decides which projects'
// folders are open to him (spec/vfolder-storage §7). Every session asks for those with a dot: they are cached like the other facts.
func (f *Facts) Folders(ctx context.Context, names []string, owner enqueue.Owner, role backendai.UserRole) ([]enqueue.Folder, error) {
	reader := folderReader{owner.UserID, owner.Domain, role}
	if len(names) == 0 {
		return f.dotFolders.Get(ctx, reader)
	}
	return f.readFolders(ctx, names, reader)
}

func (f *Facts) readFolders(ctx context.Context, names []string, r folderReader) ([]enqueue.Folder, error) {
	rows, err := live.AccessibleFolders(ctx, f.pool, names, r.user, r.domain, r.role)
	list := make([]enqueue.Folder, len(rows))
	for i, row := range rows {
		list[i] = enqueue.Folder(row)
	}
	return list, err
}

// cacheFolders makes the cache of folders with a dot.
func (f *Facts) cacheFolders(l *changes.Listener) {
	f.dotFolders = changes.NewCache(mostOwners, func(ctx context.Context, r folderReader) ([]enqueue.Folder, error) {
		return f.readFolders(ctx, nil, r)
	})
	l.Subscribe(f.dotFolders.Drop, "vfolders", "vfolder_permissions", "groups", "association_groups_users")
}
