package graphql

import (
	"context"
	"slices"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/listing"
)

// domain is a tenant.
type domain struct {
	Name                    *string
	Description             *string
	IsActive                *bool
	CreatedAt               *DateTime
	ModifiedAt              *DateTime
	TotalResourceSlots      *SlotString
	AllowedVFolderHosts     *[]*string
	AllowedDockerRegistries *[]*string
	IntegrationID           *string
	ScalingGroups           *[]*string
}

var domainNeeds = map[string][]string{"scaling_groups": {"name"}}

// Domain is domain.
func (q *queries) Domain(ctx context.Context, args struct{ Name *string }) (*domain, error) {
	me := who(ctx)
	name := me.User.Domain
	if args.Name != nil {
		name = *args.Name
	}
	if !me.IsSuperadmin() && name != me.User.Domain {
		return nil, backendai.NewError(backendai.DomainNotFound)
	}
	list, err := q.domains(ctx, []listing.Condition{listing.Is("name", name)})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// Domains is domains.
func (q *queries) Domains(ctx context.Context, args struct{ IsActive *bool }) (*[]*domain, error) {
	if err := superadmin(who(ctx)); err != nil {
		return nil, err
	}
	list, err := q.domains(ctx, optional("is_active", args.IsActive, nil))
	return &list, err
}

func (s *Resource) domains(ctx context.Context, where []listing.Condition) ([]*domain, error) {
	f := selected(ctx)
	list, err := listing.Read[domain](ctx, s.pool, listing.Domains, listing.Query{Where: where}, f.own(domainNeeds))
	if err != nil || !f.has("scaling_groups") {
		return list, err
	}
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = *d.Name
	}
	of, err := s.scalingGroupsOf(ctx, "domain", "of_domain", names)
	for _, d := range list {
		groups := of(*d.Name)
		d.ScalingGroups = &groups
	}
	return list, err
}

// scalingGroupsOf reads the names of the scaling groups of many domains or groups.
func (s *Resource) scalingGroupsOf(ctx context.Context, owner, condition string, of []string) (func(string) []*string, error) {
	type row struct{ Name, Domain, Group *string }
	list, err := listing.Read[row](ctx, s.pool, listing.ScalingGroups, listing.Query{Where: []listing.Condition{listing.In(condition, of)}}, []string{"name", owner})
	names := map[string][]*string{}
	for _, r := range list {
		key := r.Domain
		if key == nil {
			key = r.Group
		}
		names[*key] = append(names[*key], r.Name)
	}
	return func(key string) []*string { return append([]*string{}, names[key]...) }, err
}

// group is a project.
type group struct {
	ID                  *UUID
	Name                *string
	Description         *string
	IsActive            *bool
	CreatedAt           *DateTime
	ModifiedAt          *DateTime
	DomainName          *string
	TotalResourceSlots  *SlotString
	AllowedVFolderHosts *[]*string
	IntegrationID       *string
	ScalingGroups       *[]*string
}

var groupNeeds = map[string][]string{"scaling_groups": {"id"}}

// groupDomain is whose groups a requester may see: nil = of all domains. Errors: Insufficient, UnknownRole.
func groupDomain(who *accounts.Credential, given *string) (*string, error) {
	switch who.User.Role {
	case backendai.RoleSuperadmin:
		return given, nil
	case backendai.RoleAdmin, backendai.RoleUser:
		if given != nil && *given != who.User.Domain {
			return nil, errInsufficient
		}
		return &who.User.Domain, nil
	}
	return nil, errUnknownRole
}

// Group is group.
func (q *queries) Group(ctx context.Context, args struct {
	ID         uuidArg
	DomainName *string
}) (*group, error) {
	me := who(ctx)
	domain, err := groupDomain(me, args.DomainName)
	if err != nil {
		return nil, err
	}
	id, err := args.ID.parse()
	if err != nil {
		return nil, err
	}
	list, err := q.groups(ctx, optional("domain_name", domain, []listing.Condition{listing.Is("group", id)}))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if me.User.Role == backendai.RoleUser {
		own, err := q.ownGroups(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(own, id) {
			return nil, errInsufficient
		}
	}
	return list[0], nil
}

// ownGroups are the ids of the requester's.
func (s *Resource) ownGroups(ctx context.Context) ([]string, error) {
	list, err := listing.Read[userGroup](ctx, s.pool, listing.Memberships, listing.Query{Where: []listing.Condition{listing.Is("of_user", who(ctx).User.ID.String())}}, []string{"id"})
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = string(*g.ID)
	}
	return ids, err
}

// GroupsByName is groups_by_name.
func (q *queries) GroupsByName(ctx context.Context, args struct {
	Name       string
	DomainName *string
}) (*[]*group, error) {
	me := who(ctx)
	domain, err := groupDomain(me, args.DomainName)
	if err != nil {
		return nil, err
	}
	where := optional("domain_name", domain, []listing.Condition{listing.Is("name", args.Name)})
	if me.User.Role == backendai.RoleUser {
		where = append(where, listing.Is("of_member", me.User.ID.String()))
	}
	list, err := q.groups(ctx, where)
	return &list, err
}

// Groups is groups. A user gets the own ones, whatever the arguments say.
func (q *queries) Groups(ctx context.Context, args struct {
	DomainName *string
	IsActive   *bool
}) (*[]*group, error) {
	me := who(ctx)
	if me.User.Role == backendai.RoleUser {
		list, err := q.groups(ctx, []listing.Condition{listing.Is("of_member", me.User.ID.String())})
		return &list, err
	}
	domain, err := groupDomain(me, args.DomainName)
	if err != nil {
		return nil, err
	}
	list, err := q.groups(ctx, optional("is_active", args.IsActive, optional("domain_name", domain, nil)))
	return &list, err
}

func (s *Resource) groups(ctx context.Context, where []listing.Condition) ([]*group, error) {
	f := selected(ctx)
	list, err := listing.Read[group](ctx, s.pool, listing.Groups, listing.Query{Where: where}, f.own(groupNeeds))
	if err != nil || !f.has("scaling_groups") {
		return list, err
	}
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = string(*g.ID)
	}
	of, err := s.scalingGroupsOf(ctx, "group", "of_group", ids)
	for _, g := range list {
		groups := of(string(*g.ID))
		g.ScalingGroups = &groups
	}
	return list, err
}
