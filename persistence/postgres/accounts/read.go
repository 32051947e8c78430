package accounts

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// found turns "no rows" into nil, and gives other errors their code. A key with a NUL is in no row: the database refuses such texts.
func found[T any](v *T, err error) (*T, error) {
	var pe *pgconn.PgError
	if errors.Is(err, pgx.ErrNoRows) || errors.As(err, &pe) && pe.Code == "22021" {
		return nil, nil
	}
	if err != nil {
		return nil, postgres.AsError(err)
	}
	return v, nil
}

const userColumns = `u.uuid, u.username, u.email, coalesce(u.need_password_change, false), u.full_name, u.status::text, u.status_info,
 u.modified_at, u.integration_id, coalesce(u.domain_name, ''), coalesce(u.role::text, 'user')`

func (u *User) into() []any {
	return []any{&u.ID, &u.Username, &u.Email, &u.NeedPasswordChange, &u.FullName, &u.Status, &u.StatusInfo, &u.ModifiedAt, &u.IntegrationID, &u.Domain, &u.Role}
}

const credentialQuery = `SELECT k.access_key, coalesce(k.secret_key, ''), coalesce(k.user_id, ''), coalesce(k.is_admin, false), k.created_at, k.modified_at,
 k.last_used, k.rate_limit, k.resource_policy, k.ssh_public_key,
 p.default_for_unspecified::text, p.total_resource_slots, p.max_session_lifetime, p.max_concurrent_sessions, p.max_containers_per_session,
 p.max_vfolder_count, p.max_vfolder_size, p.idle_timeout, coalesce(p.allowed_vfolder_hosts, '{}'), ` + userColumns + `
FROM public.keypairs k JOIN public.users u ON u.uuid = k."user" JOIN public.keypair_resource_policies p ON p.name = k.resource_policy
WHERE k.access_key = $1 AND k.is_active`

// readCredential is nil for keys that do not exist or are not active.
func readCredential(ctx context.Context, db querier, key backendai.AccessKey) (*Credential, error) {
	var c Credential
	var lifetime, idle int64
	into := []any{&c.Keypair.AccessKey, &c.Secret, &c.Keypair.UserID, &c.Keypair.IsAdmin, &c.Keypair.CreatedAt, &c.Keypair.ModifiedAt,
		&c.Keypair.LastUsed, &c.Keypair.RateLimit, &c.Keypair.ResourcePolicy, &c.Keypair.SSHPublicKey,
		&c.Policy.DefaultForUnspecified, &c.Policy.TotalResourceSlots, &lifetime, &c.Policy.MaxConcurrentSessions, &c.Policy.MaxContainersPerSession,
		&c.Policy.MaxVFolderCount, &c.Policy.MaxVFolderSize, &idle, &c.Policy.AllowedVFolderHosts}
	if err := db.QueryRow(ctx, credentialQuery, string(key)).Scan(append(into, c.User.into()...)...); err != nil {
		return found[Credential](nil, err)
	}
	c.Keypair.IsActive = true
	c.Policy.Name = c.Keypair.ResourcePolicy
	c.Policy.MaxSessionLifetime, c.Policy.IdleTimeout = seconds(lifetime), seconds(idle)
	return &c, nil
}

// seconds saturates: rows may hold more than a Duration can (292 years).
func seconds(n int64) time.Duration {
	return time.Duration(min(n, int64((1<<63-1)/time.Second))) * time.Second
}

func readUser(ctx context.Context, db querier, email string) (*User, error) {
	var u User
	return found(&u, db.QueryRow(ctx, `SELECT `+userColumns+` FROM public.users u WHERE u.email = $1`, email).Scan(u.into()...))
}

func readOwner(ctx context.Context, db querier, key backendai.AccessKey) (*Owner, error) {
	o := Owner{AccessKey: key}
	return found(&o, db.QueryRow(ctx, `SELECT u.uuid, u.email, coalesce(u.domain_name, ''), coalesce(u.role::text, 'user')
FROM public.keypairs k JOIN public.users u ON u.uuid = k."user" WHERE k.access_key = $1`, string(key)).Scan(&o.User, &o.Email, &o.Domain, &o.Role))
}

func readDomain(ctx context.Context, db querier, name string) (*Domain, error) {
	d := Domain{Name: name}
	return found(&d, db.QueryRow(ctx, `SELECT description, coalesce(is_active, false), total_resource_slots, coalesce(allowed_vfolder_hosts, '{}'),
 coalesce(allowed_docker_registries, '{}'), integration_id FROM public.domains WHERE name = $1`, name).
		Scan(&d.Description, &d.IsActive, &d.TotalResourceSlots, &d.AllowedVFolderHosts, &d.AllowedDockerRegistries, &d.IntegrationID))
}

const groupColumns = `g.id, g.name, g.description, coalesce(g.is_active, false), g.domain_name, g.total_resource_slots, coalesce(g.allowed_vfolder_hosts, '{}'), g.integration_id`

func (g *Group) into() []any {
	return []any{&g.ID, &g.Name, &g.Description, &g.IsActive, &g.Domain, &g.TotalResourceSlots, &g.AllowedVFolderHosts, &g.IntegrationID}
}

func readGroup(ctx context.Context, db querier, id uuid.UUID) (*Group, error) {
	var g Group
	return found(&g, db.QueryRow(ctx, `SELECT `+groupColumns+` FROM public.groups g WHERE g.id = $1`, id).Scan(g.into()...))
}

func readGroupByName(ctx context.Context, db querier, domain, name string) (*Group, error) {
	var g Group
	return found(&g, db.QueryRow(ctx, `SELECT `+groupColumns+` FROM public.groups g WHERE g.domain_name = $1 AND g.name = $2`, domain, name).Scan(g.into()...))
}

func readGroupsOf(ctx context.Context, db querier, user uuid.UUID) ([]Group, error) {
	rows, err := db.Query(ctx, `SELECT `+groupColumns+` FROM public.groups g JOIN public.association_groups_users a ON a.group_id = g.id
WHERE a.user_id = $1 ORDER BY g.name, g.id`, user)
	if err != nil {
		return nil, postgres.AsError(err)
	}
	groups, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g Group, err error) { return g, row.Scan(g.into()...) })
	return groups, postgres.AsError(err)
}
