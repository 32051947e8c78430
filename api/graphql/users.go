package graphql

import (
	"context"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/listing"
)

// user is an account.
type user struct {
	ID                 *ID
	UUID               *UUID
	Username           *string
	Email              *string
	NeedPasswordChange *bool
	FullName           *string
	Description        *string
	IsActive           *bool
	Status             *string
	StatusInfo         *string
	CreatedAt          *DateTime
	ModifiedAt         *DateTime
	DomainName         *string
	Role               *string
	Groups             *[]*userGroup
}

type userGroup struct {
	ID   *UUID
	Name *string

	User *string // whose membership
}

var userNeeds = map[string][]string{"groups": {"uuid"}}

// User is user.
func (q *queries) User(ctx context.Context, args struct{ DomainName, Email *string }) (*user, error) {
	me := who(ctx)
	domain, email, err := scope(me, args.DomainName, me.User.Email, args.Email, true)
	if err != nil {
		return nil, err
	}
	return q.user(ctx, optional("email", email, optional("domain_name", domain, nil)))
}

// UserFromUUID is user_from_uuid.
func (q *queries) UserFromUUID(ctx context.Context, args struct {
	DomainName *string
	UserID     *ID
}) (*user, error) {
	me := who(ctx)
	var given *string
	if args.UserID != nil {
		id, err := uuidArg(*args.UserID).parse()
		if err != nil {
			return nil, err
		}
		given = &id
	}
	domain, id, err := scope(me, args.DomainName, me.User.ID.String(), given, true)
	if err != nil {
		return nil, err
	}
	return q.user(ctx, optional("user", id, optional("domain_name", domain, nil)))
}

func (s *Resource) user(ctx context.Context, where []listing.Condition) (*user, error) {
	f := selected(ctx)
	u, err := listing.One[user](ctx, s.pool, listing.Users, listing.Query{Where: where}, f.own(userNeeds))
	if err != nil || u == nil {
		return nil, err
	}
	return u, s.completeUsers(ctx, []*user{u}, f)
}

type userScope struct {
	DomainName *string
	GroupID    *uuidArg
	IsActive   *bool
	Status     *string
}

var notActive = []string{string(backendai.UserInactive), string(backendai.UserDeleted), string(backendai.UserBeforeVerification)}

// conditions of what a requester may see.
func (a userScope) conditions(who *accounts.Credential) ([]listing.Condition, error) {
	switch who.User.Role {
	case backendai.RoleSuperadmin:
	case backendai.RoleAdmin:
		if a.DomainName != nil && *a.DomainName != who.User.Domain {
			return nil, errInsufficient
		}
		a.DomainName = &who.User.Domain
	case backendai.RoleUser:
		return nil, errInsufficient
	default:
		return nil, errUnknownRole
	}
	where := optional("domain_name", a.DomainName, nil)
	if a.GroupID != nil {
		group, err := a.GroupID.parse()
		if err != nil {
			return nil, err
		}
		where = append(where, listing.Is("of_group", group))
	}
	switch {
	case a.Status != nil:
		if _, err := backendai.ParseUserStatus(*a.Status); err != nil {
			return nil, backendai.Errorf(backendai.InvalidArgument, "%s is not a valid UserStatus", backendai.Repr(*a.Status))
		}
		where = append(where, listing.Is("of_status", *a.Status))
	case a.IsActive != nil && *a.IsActive:
		where = append(where, listing.Is("of_status", string(backendai.UserActive)))
	case a.IsActive != nil:
		where = append(where, listing.In("of_status", notActive))
	}
	return where, nil
}

// Users is users.
func (q *queries) Users(ctx context.Context, args userScope) (*[]*user, error) {
	where, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	f, order := selected(ctx), "email"
	list, err := listing.Read[user](ctx, q.pool, listing.Users, listing.Query{Where: where, Limit: &mostUnpaged, Order: &order}, f.own(userNeeds))
	if err != nil {
		return nil, err
	}
	return &list, q.completeUsers(ctx, list, f)
}

// UserList is user_list.
func (q *queries) UserList(ctx context.Context, args struct {
	pageArgs
	userScope
}) (*page[user], error) {
	where, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	p, err := readPage[user](ctx, q.Resource, listing.Users, args.query(where...), f, userNeeds)
	if err != nil {
		return nil, err
	}
	return p, q.completeUsers(ctx, p.Items, f.below("items"))
}

// completeUsers adds the groups.
func (s *Resource) completeUsers(ctx context.Context, list []*user, f fields) error {
	if !f.has("groups") || len(list) == 0 {
		return nil
	}
	ids := make([]string, len(list))
	for i, u := range list {
		ids[i] = string(*u.UUID)
	}
	memberships, err := listing.Read[userGroup](ctx, s.pool, listing.Memberships, listing.Query{Where: []listing.Condition{listing.In("of_user", ids)}}, []string{"id", "name", "user"})
	if err != nil {
		return err
	}
	of := map[string][]*userGroup{}
	for _, m := range memberships {
		of[*m.User] = append(of[*m.User], m)
	}
	for _, u := range list {
		groups := append([]*userGroup{}, of[string(*u.UUID)]...)
		u.Groups = &groups
	}
	return nil
}
