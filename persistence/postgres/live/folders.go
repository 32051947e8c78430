package live

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Folder is a virtual folder as a session needs it.
type Folder struct {
	ID         string
	Name       string
	Host       string
	Permission string     // the user's: ro, rw or wd
	Group      *uuid.UUID // the project that it belongs to; nil for a user's
	// UnmanagedPath is where the folder lies on every agent when no storage-proxy looks after it.
	UnmanagedPath *string
}

// accessible are the folders of a user by name, and those with a dot: own ones, those shared with him, those of his projects, in this
// order. A permission given to him counts more than a project folder's own (spec/vfolder-storage §4.2).
const accessible = `SELECT id::text, name, host, coalesce(permission, ''), "group", unmanaged_path FROM (
 SELECT 1 AS rank, v.id, v.name, v.host, v.permission::text, v."group", v.unmanaged_path FROM public.vfolders v WHERE v."user" = $1
 UNION ALL
 SELECT 2, v.id, v.name, v.host, p.permission::text, v."group", v.unmanaged_path
  FROM public.vfolders v JOIN public.vfolder_permissions p ON p.vfolder = v.id WHERE p."user" = $1 AND v.ownership_type = 'user'
 UNION ALL
 SELECT 3, v.id, v.name, v.host, coalesce(p.permission, v.permission)::text, v."group", v.unmanaged_path
  FROM public.vfolders v JOIN public.groups g ON g.id = v."group" LEFT JOIN public.vfolder_permissions p ON p.vfolder = v.id AND p."user" = $1
  WHERE %s
) f WHERE name = ANY($2) OR name LIKE '.%%' ORDER BY rank, id`

// Whose projects: a superadmin has all, an admin those of his domain, others those that they belong to. Each is a text of its own, so
// that the database plans it once and not at every call.
var (
	accessibleToAll    = fmt.Sprintf(accessible, "true")
	accessibleToDomain = fmt.Sprintf(accessible, "g.domain_name = $3")
	accessibleToMember = fmt.Sprintf(accessible, "EXISTS (SELECT FROM public.association_groups_users m WHERE m.group_id = g.id AND m.user_id = $1)")
)

// AccessibleFolders reads those of the given names, and those with a dot.
func AccessibleFolders(ctx context.Context, pool *pgxpool.Pool, names []string, user uuid.UUID, domain string, role backendai.UserRole) ([]Folder, error) {
	if names == nil {
		names = []string{}
	}
	query, args := accessibleToMember, []any{user, names}
	switch role {
	case backendai.RoleSuperadmin:
		query = accessibleToAll
	case backendai.RoleAdmin:
		query, args = accessibleToDomain, append(args, domain)
	}
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, postgres.AsError(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Folder, err error) {
		err = row.Scan(&f.ID, &f.Name, &f.Host, &f.Permission, &f.Group, &f.UnmanagedPath)
		return f, err
	})
	return list, postgres.AsError(err)
}
