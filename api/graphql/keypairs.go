package graphql

import (
	"context"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/listing"
)

// keyPair is a keypair with its owner.
type keyPair struct {
	ID               *ID
	UserID           *string // the owner's e-mail
	FullName         *string // only in keypair_list
	AccessKey        *string
	SecretKey        *string
	IsActive         *bool
	IsAdmin          *bool
	ResourcePolicy   *string
	CreatedAt        *DateTime
	LastUsed         *DateTime
	RateLimit        *int32
	NumQueries       *int32
	User             *UUID
	SSHPublicKey     *string
	ConcurrencyUsed  *int32
	UserInfo         *userInfo
	VFolders         *[]*virtualFolder
	ConcurrencyLimit *int32 // deprecated; always 0

	OwnerEmail, OwnerName, OwnerRole *string

	siblings *keyPairs
}

type userInfo struct{ Email, FullName *string }

// keyPairs are those of one answer.
type keyPairs struct {
	*Resource
	list     []*keyPair
	sessions batch[[]*computeSession]
}

var keyPairNeeds = map[string][]string{
	"secret_key": {"secret_key", "owner_role"}, "user_info": {"owner_email", "owner_name"}, "num_queries": {"access_key"}, "concurrency_used": {"access_key"},
	"concurrency_limit": {}, "compute_sessions": {"access_key"}, "vfolders": {"user"},
}

// KeyPair is keypair.
func (q *queries) Keypair(ctx context.Context, args struct{ DomainName, AccessKey *string }) (*keyPair, error) {
	me := who(ctx)
	domain, key, err := scope(me, args.DomainName, string(me.Keypair.AccessKey), args.AccessKey, true)
	if err != nil {
		return nil, err
	}
	list, err := q.keyPairs(ctx, optional("access_key", key, optional("domain_name", domain, nil)), nil, selected(ctx))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

type keyPairScope struct {
	DomainName, Email *string
	IsActive          *bool
}

// conditions of what a requester may see; email is the effective one.
func (a keyPairScope) conditions(who *accounts.Credential) (where []listing.Condition, email *string, err error) {
	domain, email, err := scope(who, a.DomainName, who.User.Email, a.Email, false)
	return optional("is_active", a.IsActive, optional("email", email, optional("domain_name", domain, nil))), email, err
}

// mostUnpaged bounds lists without pages, where the original does (spec/graphql §3.2).
var mostUnpaged = 100

// Keypairs is keypairs.
func (q *queries) Keypairs(ctx context.Context, args keyPairScope) (*[]*keyPair, error) {
	where, email, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	limit := &mostUnpaged
	if email != nil {
		limit = nil
	}
	list, err := q.keyPairs(ctx, where, limit, selected(ctx))
	return &list, err
}

// KeypairList is keypair_list.
func (q *queries) KeypairList(ctx context.Context, args struct {
	pageArgs
	keyPairScope
}) (*page[keyPair], error) {
	where, _, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	p, err := readPage[keyPair](ctx, q.Resource, listing.Keypairs, args.query(where...), f, keyPairNeeds)
	if err != nil {
		return nil, err
	}
	return p, q.completeKeyPairs(ctx, p.Items, f.below("items"))
}

func (s *Resource) keyPairs(ctx context.Context, where []listing.Condition, limit *int, f fields) ([]*keyPair, error) {
	order := "access_key"
	list, err := listing.Read[keyPair](ctx, s.pool, listing.Keypairs, listing.Query{Where: where, Limit: limit, Order: &order}, f.own(keyPairNeeds))
	if err != nil {
		return nil, err
	}
	if err := s.completeKeyPairs(ctx, list, f); err != nil {
		return nil, err
	}
	for _, k := range list {
		k.FullName = nil // the owner's name is in user_info
	}
	return list, nil
}

// completeKeyPairs adds what is no column.
func (s *Resource) completeKeyPairs(ctx context.Context, list []*keyPair, f fields) error {
	if len(list) == 0 {
		return nil
	}
	me := who(ctx)
	all := &keyPairs{Resource: s, list: list}
	var keys []backendai.AccessKey
	for _, k := range list {
		k.siblings = all
		k.UserInfo = &userInfo{k.OwnerEmail, k.OwnerName}
		k.ConcurrencyLimit = new(int32)
		if k.AccessKey != nil {
			keys = append(keys, backendai.AccessKey(*k.AccessKey))
		}
		if me.User.Role == backendai.RoleAdmin && k.OwnerRole != nil && *k.OwnerRole == string(backendai.RoleSuperadmin) {
			k.SecretKey = nil // a domain admin could become a superadmin (spec/graphql §9, 8)
		}
	}
	if f.has("num_queries") {
		counts := s.queryCounts(ctx, keys)
		for i, k := range list {
			n := int32(counts[keys[i]])
			k.NumQueries = &n
		}
	}
	if f.has("concurrency_used") {
		counts := s.concurrency(ctx, keys)
		for i, k := range list {
			n := int32(counts[keys[i]])
			k.ConcurrencyUsed = &n
		}
	}
	if f.has("vfolders") {
		return s.completeFolders(ctx, list, f.below("vfolders"))
	}
	return nil
}

// ComputeSessions are the sessions of a keypair, of one status if it is given.
func (k *keyPair) ComputeSessions(ctx context.Context, args struct{ Status *string }) (*[]*computeSession, error) {
	all, f := k.siblings, selected(ctx)
	keys := make([]string, len(all.list))
	for i, k := range all.list {
		keys[i] = *k.AccessKey
	}
	where := []listing.Condition{listing.In("access_key", keys)}
	if args.Status != nil {
		statuses, err := statusNames(*args.Status)
		if err != nil {
			return nil, err
		}
		where = append(where, listing.In("of_status", statuses))
	}
	list, err := all.sessions.of(*k.AccessKey, args.Status, f, func() (map[string][]*computeSession, error) {
		found, err := all.Resource.sessions(ctx, where, append(f, "access_key"))
		of := map[string][]*computeSession{}
		for _, c := range found {
			of[*c.AccessKey] = append(of[*c.AccessKey], c)
		}
		return of, err
	})
	return &list, err
}

// completeFolders adds the folders of the keypairs' owners.
func (s *Resource) completeFolders(ctx context.Context, list []*keyPair, f fields) error {
	owners := make([]string, len(list))
	for i, k := range list {
		owners[i] = string(*k.User)
	}
	folders, err := listing.Read[virtualFolder](ctx, s.pool, listing.VirtualFolders, listing.Query{Where: []listing.Condition{listing.In("owner", owners)}}, append(f, "user").own(vfolderNeeds))
	if err != nil {
		return err
	}
	countNothing(folders)
	of := map[UUID][]*virtualFolder{}
	for _, v := range folders {
		of[*v.User] = append(of[*v.User], v)
	}
	for _, k := range list {
		own := append([]*virtualFolder{}, of[*k.User]...)
		k.VFolders = &own
	}
	return nil
}
