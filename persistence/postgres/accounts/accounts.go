package accounts

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/changes"
)

// Accounts reads through caches and writes. All methods may be called by many goroutines. Reads give nil, without an error, for what does
// not exist; errors are those of postgres.AsError and the end of ctx.
type Accounts struct {
	pool *pgxpool.Pool

	credentials *changes.Cache[backendai.AccessKey, *Credential]
	owners      *changes.Cache[backendai.AccessKey, *Owner]
	users       *changes.Cache[string, *User]
	domains     *changes.Cache[string, *Domain]
	groups      *changes.Cache[uuid.UUID, *Group]
	groupNames  *changes.Cache[groupName, *Group]
	memberships *changes.Cache[uuid.UUID, []Group]
}

type groupName struct{ domain, name string }

// Bounds of the caches. Keys come from requests, also of strangers.
const (
	mostKeys   = 20_000
	mostOthers = 5_000
)

// New makes the caches and subscribes them to l, which may be started or not.
func New(pool *pgxpool.Pool, l *changes.Listener) *Accounts {
	a := &Accounts{pool: pool}
	a.credentials = cache(pool, mostKeys, readCredential)
	a.owners = cache(pool, mostKeys, readOwner)
	a.users = cache(pool, mostOthers, readUser)
	a.domains = cache(pool, mostOthers, readDomain)
	a.groups = cache(pool, mostOthers, readGroup)
	a.groupNames = changes.NewCache(mostOthers, func(ctx context.Context, k groupName) (*Group, error) {
		return readGroupByName(ctx, pool, k.domain, k.name)
	})
	a.memberships = cache(pool, mostOthers, readGroupsOf)
	if l != nil {
		l.Subscribe(a.credentials.Drop, "keypairs", "users", "keypair_resource_policies")
		l.Subscribe(a.owners.Drop, "keypairs", "users")
		l.Subscribe(a.users.Drop, "users")
		l.Subscribe(a.domains.Drop, "domains")
		l.Subscribe(a.groups.Drop, "groups")
		l.Subscribe(a.groupNames.Drop, "groups")
		l.Subscribe(a.memberships.Drop, "groups", "association_groups_users")
	}
	return a
}

func cache[K comparable, V any](pool *pgxpool.Pool, most int, read func(context.Context, querier, K) (V, error)) *changes.Cache[K, V] {
	return changes.NewCache(most, func(ctx context.Context, k K) (V, error) { return read(ctx, pool, k) })
}

// Credential of an active keypair.
func (a *Accounts) Credential(ctx context.Context, key backendai.AccessKey) (*Credential, error) {
	return a.credentials.Get(ctx, key)
}

// Owner of a keypair, active or not.
func (a *Accounts) Owner(ctx context.Context, key backendai.AccessKey) (*Owner, error) {
	return a.owners.Get(ctx, key)
}

// UserByEmail of any domain; e-mails are unique.
func (a *Accounts) UserByEmail(ctx context.Context, email string) (*User, error) {
	return a.users.Get(ctx, email)
}

// Domain by name, active or not.
func (a *Accounts) Domain(ctx context.Context, name string) (*Domain, error) {
	return a.domains.Get(ctx, name)
}

// Group by id, active or not.
func (a *Accounts) Group(ctx context.Context, id uuid.UUID) (*Group, error) {
	return a.groups.Get(ctx, id)
}

// GroupByName of a domain, active or not.
func (a *Accounts) GroupByName(ctx context.Context, domain, name string) (*Group, error) {
	return a.groupNames.Get(ctx, groupName{domain, name})
}

// GroupsOf lists the groups a user is a member of, active or not, by name.
func (a *Accounts) GroupsOf(ctx context.Context, user uuid.UUID) ([]Group, error) {
	return a.memberships.Get(ctx, user)
}

// forget drops what a write of this node has changed, without waiting for the announcement: who writes and then reads sees the write.
func (a *Accounts) forget() {
	a.credentials.Drop()
	a.owners.Drop()
	a.users.Drop()
	a.memberships.Drop()
}
