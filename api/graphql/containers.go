package graphql

import (
	"context"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/listing"
)

// computeContainer is a kernel.
type computeContainer struct {
	ID              *ID
	Idx             *int32
	Role            *string
	Hostname        *string
	ClusterIdx      *int32
	ClusterRole     *string
	ClusterHostname *string
	SessionID       *UUID
	Image           *string
	Architecture    *string
	Registry        *string
	Status          *string
	StatusChanged   *DateTime
	StatusInfo      *string
	StatusData      *JSONString
	CreatedAt       *DateTime
	TerminatedAt    *DateTime
	StartsAt        *DateTime
	Agent           *string
	ContainerID     *string
	ResourceOpts    *JSONString
	OccupiedSlots   *SlotString
	LiveStat        *JSONString
	LastStat        *JSONString

	OnAgent *string // also where agents are hidden
}

var containerNeeds = map[string][]string{"live_stat": {"id", "last_stat"}, "last_stat": {"id", "last_stat"}}

// ComputeContainerList is compute_container_list.
func (q *queries) ComputeContainerList(ctx context.Context, args struct {
	pageArgs
	SessionID ID
	Role      *string
}) (*page[computeContainer], error) {
	where, err := sessionScope{}.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	session, err := uuidArg(args.SessionID).parse()
	if err != nil {
		return nil, err
	}
	where = append(optional("role", args.Role, where), listing.Is("session", session))
	f := selected(ctx)
	p, err := readPage[computeContainer](ctx, q.Resource, listing.Containers, args.query(where...), f, containerNeeds)
	if err != nil {
		return nil, err
	}
	q.completeContainers(ctx, p.Items, f.below("items"))
	return p, nil
}

// ComputeContainer is compute_container.
func (q *queries) ComputeContainer(ctx context.Context, args struct{ ID uuidArg }) (*computeContainer, error) {
	where, err := sessionScope{}.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	id, err := args.ID.parse()
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	c, err := listing.One[computeContainer](ctx, q.pool, listing.Containers, listing.Query{Where: append(where, listing.Is("kernel", id))}, f.own(containerNeeds))
	if err != nil || c == nil {
		return nil, err
	}
	q.completeContainers(ctx, []*computeContainer{c}, f)
	return c, nil
}

// containersOf reads the containers of many objects, main ones first, by a key made of session_id or on_agent.
func (s *Resource) containersOf(ctx context.Context, field string, values []string, f fields, key func(*computeContainer) string, where ...listing.Condition) (map[string][]*computeContainer, error) {
	order := "cluster_idx"
	q := listing.Query{Where: append(where, listing.In(field, values)), Order: &order}
	list, err := listing.Read[computeContainer](ctx, s.pool, listing.Containers, q, append(f, "session_id", "on_agent").own(containerNeeds))
	if err != nil {
		return nil, err
	}
	of := make(map[string][]*computeContainer, len(values))
	for _, v := range values {
		of[v] = []*computeContainer{}
	}
	for _, c := range list {
		k := key(c)
		of[k] = append(of[k], c)
	}
	s.completeContainers(ctx, list, f)
	return of, nil
}

// hidesAgents tells whether a requester must not see agents.
func (s *Resource) hidesAgents(ctx context.Context) bool {
	return s.deps.HideAgents != nil && s.deps.HideAgents() && !who(ctx).IsSuperadmin()
}

// completeContainers adds statistics and hides agents.
func (s *Resource) completeContainers(ctx context.Context, list []*computeContainer, f fields) {
	if s.hidesAgents(ctx) {
		for _, c := range list {
			c.Agent, c.ContainerID = nil, nil
		}
	}
	if !f.has("live_stat", "last_stat") || len(list) == 0 {
		return
	}
	ids := make([]backendai.KernelID, 0, len(list))
	for _, c := range list {
		if id, err := backendai.ParseKernelID(string(*c.ID)); err == nil {
			ids = append(ids, id)
		}
	}
	stats := s.kernelStats(ctx, ids)
	for _, c := range list {
		if stat, ok := stats[string(*c.ID)]; ok {
			c.LiveStat, c.LastStat = &stat, &stat
		} else {
			c.LiveStat = c.LastStat // what the row has kept of an ended kernel
		}
	}
}
