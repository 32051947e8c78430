package graphql

import (
	"context"
	"encoding/json"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/listing"
)

// keyPairPolicy is a resource policy of keypairs.
type keyPairPolicy struct {
	Name                    *string
	CreatedAt               *DateTime
	DefaultForUnspecified   *string
	TotalResourceSlots      *SlotString
	MaxSessionLifetime      *int32
	MaxConcurrentSessions   *int32
	MaxContainersPerSession *int32
	IdleTimeout             *BigInt
	MaxVFolderCount         *int32
	MaxVFolderSize          *BigInt
	AllowedVFolderHosts     *[]*string
}

// KeypairResourcePolicy is keypair_resource_policy: that of the own keypair if no name is given.
func (q *queries) KeypairResourcePolicy(ctx context.Context, args struct{ Name *string }) (*keyPairPolicy, error) {
	name := who(ctx).Keypair.ResourcePolicy
	if args.Name != nil {
		name = *args.Name
	}
	return listing.One[keyPairPolicy](ctx, q.pool, listing.KeypairPolicies, listing.Query{Where: []listing.Condition{listing.Is("name", name)}}, selected(ctx).own(nil))
}

// KeypairResourcePolicies is keypair_resource_policies: for a user, those of the own keypairs.
func (q *queries) KeypairResourcePolicies(ctx context.Context) (*[]*keyPairPolicy, error) {
	me := who(ctx)
	var where []listing.Condition
	switch me.User.Role {
	case backendai.RoleSuperadmin, backendai.RoleAdmin:
	case backendai.RoleUser:
		own, err := listing.Read[keyPair](ctx, q.pool, listing.Keypairs, listing.Query{Where: []listing.Condition{listing.Is("owner", me.User.ID.String())}}, []string{"resource_policy"})
		if err != nil {
			return nil, err
		}
		names := make([]string, len(own))
		for i, k := range own {
			names[i] = *k.ResourcePolicy
		}
		where = append(where, listing.In("name", names))
	default:
		return nil, errUnknownRole
	}
	list, err := listing.Read[keyPairPolicy](ctx, q.pool, listing.KeypairPolicies, listing.Query{Where: where}, selected(ctx).own(nil))
	return &list, err
}

type resourcePreset struct {
	Name          *string
	ResourceSlots *SlotString
	SharedMemory  *BigInt
}

// ResourcePreset is resource_preset.
func (q *queries) ResourcePreset(ctx context.Context, args struct{ Name *string }) (*resourcePreset, error) {
	if args.Name == nil {
		return nil, nil
	}
	return listing.One[resourcePreset](ctx, q.pool, listing.ResourcePresets, listing.Query{Where: []listing.Condition{listing.Is("name", *args.Name)}}, selected(ctx).own(nil))
}

// ResourcePresets is resource_presets.
func (q *queries) ResourcePresets(ctx context.Context) (*[]*resourcePreset, error) {
	list, err := listing.Read[resourcePreset](ctx, q.pool, listing.ResourcePresets, listing.Query{}, selected(ctx).own(nil))
	return &list, err
}

// scalingGroup is a pool of agents.
type scalingGroup struct {
	Name          *string
	Description   *string
	IsActive      *bool
	CreatedAt     *DateTime
	WsproxyAddr   *string
	Driver        *string
	DriverOpts    *JSONString
	Scheduler     *string
	SchedulerOpts *schedulerOpts
}

// schedulerOpts is the JSON of a scaling group's options with all three keys (spec/database §3.4).
type schedulerOpts string

// Scan reads a column. What can't be understood takes its default.
func (o *schedulerOpts) Scan(column any) error {
	text, _ := column.(string)
	return o.ScanText(text)
}

// ScanText implements listing.Texter.
func (o *schedulerOpts) ScanText(text string) error {
	var row struct {
		Allowed json.RawMessage `json:"allowed_session_types"`
		Timeout json.RawMessage `json:"pending_timeout"`
		Config  json.RawMessage `json:"config"`
	}
	_ = json.Unmarshal([]byte(text), &row) // an original would refuse to list the group at all
	full := struct {
		Allowed []string        `json:"allowed_session_types"`
		Timeout Float           `json:"pending_timeout"`
		Config  json.RawMessage `json:"config"`
	}{Config: json.RawMessage("{}")}
	if json.Unmarshal(row.Allowed, &full.Allowed) != nil || len(full.Allowed) == 0 {
		full.Allowed = []string{"interactive", "batch"}
	}
	var words string
	if json.Unmarshal(row.Timeout, (*float64)(&full.Timeout)) != nil && json.Unmarshal(row.Timeout, &words) == nil {
		if d, err := backendai.ParseDuration(words); err == nil {
			full.Timeout = Float(d.Seconds())
		}
	}
	if len(row.Config) > 0 && row.Config[0] == '{' {
		full.Config = row.Config
	}
	spelled, err := backendai.EncodeJSON(full)
	*o = schedulerOpts(spelled)
	return err
}

// ScalingGroup is scaling_group.
func (q *queries) ScalingGroup(ctx context.Context, args struct{ Name *string }) (*scalingGroup, error) {
	list, err := q.scalingGroups(ctx, args.Name == nil, nil, optional("name", args.Name, nil)...)
	if err != nil || len(*list) == 0 {
		return nil, err
	}
	return (*list)[0], nil
}

// ScalingGroups is scaling_groups.
func (q *queries) ScalingGroups(ctx context.Context, args struct {
	Name     *string
	IsActive *bool
}) (*[]*scalingGroup, error) {
	return q.scalingGroups(ctx, false, args.IsActive, optional("name", args.Name, nil)...)
}

// ScalingGroupsForDomain is scaling_groups_for_domain.
func (q *queries) ScalingGroupsForDomain(ctx context.Context, args struct {
	Domain   string
	IsActive *bool
}) (*[]*scalingGroup, error) {
	return q.scalingGroups(ctx, false, args.IsActive, listing.Is("of_domain", args.Domain))
}

// ScalingGroupsForUserGroup is scaling_groups_for_user_group.
func (q *queries) ScalingGroupsForUserGroup(ctx context.Context, args struct {
	UserGroup string
	IsActive  *bool
}) (*[]*scalingGroup, error) {
	if err := superadmin(who(ctx)); err != nil {
		return nil, err
	}
	id, err := uuidArg(args.UserGroup).parse()
	if err != nil {
		return nil, err
	}
	return q.scalingGroups(ctx, false, args.IsActive, listing.Is("of_group", id))
}

// ScalingGroupsForKeypair is scaling_groups_for_keypair.
func (q *queries) ScalingGroupsForKeypair(ctx context.Context, args struct {
	AccessKey string
	IsActive  *bool
}) (*[]*scalingGroup, error) {
	return q.scalingGroups(ctx, false, args.IsActive, listing.Is("of_keypair", args.AccessKey))
}

func (q *queries) scalingGroups(ctx context.Context, none bool, active *bool, where ...listing.Condition) (*[]*scalingGroup, error) {
	list := []*scalingGroup{}
	err := superadmin(who(ctx))
	if err == nil && !none {
		list, err = listing.Read[scalingGroup](ctx, q.pool, listing.ScalingGroups, listing.Query{Where: optional("is_active", active, where)}, selected(ctx).own(nil))
	}
	return &list, err
}
