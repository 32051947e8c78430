package store

import (
	"context"
	"slices"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/live"
)

// Presets reads all presets, with normalized slots.
func (f *Facts) Presets(ctx context.Context) ([]enqueue.Preset, error) {
	rows, err := live.Presets(ctx, f.pool)
	if err != nil {
		return nil, err
	}
	known, list := f.settings.KnownSlots(), make([]enqueue.Preset, len(rows))
	for i, r := range rows {
		list[i] = enqueue.Preset{Name: r.Name, Slots: r.Slots.Normalize(known), SharedMemory: r.SharedMemory}
	}
	return list, nil
}

// CheckPresets tells what of the presets somebody can have in a project of his. scalingGroup narrows it to one; "" means all he may use.
// Errors: InvalidAPIParameters for a project he is no member of, or a scaling group he may not use.
func (f *Facts) CheckPresets(ctx context.Context, who *accounts.Credential, group, scalingGroup string) ([]enqueue.Preset, enqueue.Choice, error) {
	none := enqueue.Choice{}
	g, err := f.accounts.GroupByName(ctx, who.User.Domain, group)
	if err != nil {
		return nil, none, err
	}
	member, err := f.accounts.GroupsOf(ctx, who.User.ID)
	if err != nil {
		return nil, none, err
	}
	if g == nil || !slices.ContainsFunc(member, func(m accounts.Group) bool { return m.ID == g.ID }) {
		return nil, none, backendai.Errorf(backendai.InvalidAPIParameters, "Unknown user group")
	}
	owner := protocol.Owner{AccessKey: string(who.Keypair.AccessKey), GroupID: g.ID, DomainName: who.User.Domain}
	known := f.settings.KnownSlots()
	quota, err := f.quotas.Get(ctx, owner)
	if err != nil {
		return nil, none, err
	}
	limits, err := LimitsOf(quota, known)
	if err != nil {
		return nil, none, err
	}
	groups := make([]string, 0, len(quota.Allowed))
	for name := range quota.Allowed {
		if scalingGroup == "" || name == scalingGroup {
			groups = append(groups, name)
		}
	}
	if scalingGroup != "" && len(groups) == 0 {
		return nil, none, backendai.Errorf(backendai.InvalidAPIParameters, "Unknown scaling group")
	}
	presets, err := f.Presets(ctx)
	if err != nil {
		return nil, none, err
	}
	occupancies, err := live.Occupancies(ctx, f.pool, owner.AccessKey, who.User.ID, g.ID, owner.DomainName)
	if err != nil {
		return nil, none, err
	}
	taken := make([]enqueue.Taken, len(occupancies))
	for i, o := range occupancies {
		taken[i] = enqueue.Taken{OfKey: o.OfKey, OfUser: o.OfUser, OfGroup: o.OfGroup, OfDomain: o.OfDomain, Ending: o.Ending, ScalingGroup: o.ScalingGroup}
		for name, amount := range o.Slots.All() {
			taken[i].Slots = taken[i].Slots.With(name, amount.Mul(backendai.DecimalOf(int64(o.Kernels))))
		}
	}
	agents, err := live.Rooms(ctx, f.pool, groups)
	if err != nil {
		return nil, none, err
	}
	rooms := make([]enqueue.Room, len(agents))
	for i, a := range agents {
		rooms[i] = enqueue.Room(a)
	}
	return presets, enqueue.CheckPresets(presets, limits, taken, rooms, groups, known), nil
}

// AllowedGroups lists the scaling groups that an access key may use in a project, by name (spec/scheduling-lifecycle §3). A project that does not
// exist contributes nothing.
func (f *Facts) AllowedGroups(ctx context.Context, who *accounts.Credential, group string) ([]string, error) {
	owner := protocol.Owner{AccessKey: string(who.Keypair.AccessKey), DomainName: who.User.Domain}
	if id, err := uuid.Parse(group); err == nil {
		g, err := f.accounts.Group(ctx, id)
		if err != nil {
			return nil, err
		}
		if g != nil && g.Domain == owner.DomainName {
			owner.GroupID = g.ID
		}
	} else if group != "" {
		g, err := f.accounts.GroupByName(ctx, owner.DomainName, group)
		if err != nil {
			return nil, err
		}
		if g != nil {
			owner.GroupID = g.ID
		}
	}
	quota, err := f.quotas.Get(ctx, owner)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(quota.Allowed))
	for name := range quota.Allowed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// CoordinatorOf is the address of a scaling group's coordinator, "" when it has none.
func (f *Facts) CoordinatorOf(ctx context.Context, scalingGroup string) (string, error) {
	return live.Coordinator(ctx, f.pool, scalingGroup)
}

// Groups lists all scaling groups.
func (f *Facts) Groups(ctx context.Context) ([]string, error) { return live.Groups(ctx, f.pool) }

// ShowsGroups tells whether users are shown their projects' limits (config/api/resources/group_resource_visibility).
func (f *Facts) ShowsGroups() bool { return f.settings.ShowsGroups() }

// KnownSlots are the cluster's slot types.
func (f *Facts) KnownSlots() *backendai.KnownSlots { return f.settings.KnownSlots() }
