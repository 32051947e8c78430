package protocol

import "backend.ai/manager/persistence/postgres/record"

// PendingOf is a session as its scheduler sees it, made of its rows (main first), its owner's limits and what it waits for.
func PendingOf(rows []*record.Kernel, limits Limits, depends []Dependency) PendingSession {
	m := rows[0]
	s := PendingSession{
		ID: m.SessionID, CreationID: m.CreationID, Name: m.SessionName, Type: m.SessionType, AccessKey: m.AccessKey,
		DomainName: m.DomainName, GroupID: m.GroupID, ScalingGroup: m.ScalingGroup, ClusterMode: m.ClusterMode,
		CreatedAt: m.CreatedAt, StartsAt: m.StartsAt, DependsOn: depends, Limits: limits,
	}
	for _, d := range depends {
		if d.Failed {
			s.Unmeetable = append(s.Unmeetable, d.ID)
		}
	}
	s.Wishes, _ = WishesOf(m.ResourceOpts) // what an older manager has let through says nothing
	for _, k := range rows {
		pk := PendingKernel{ID: k.ID, Image: k.Image, Architecture: k.Architecture, Slots: k.OccupiedSlots}
		if k.Agent != nil {
			pk.Agent = *k.Agent
		}
		s.Kernels = append(s.Kernels, pk)
	}
	return s
}
