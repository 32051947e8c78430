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

// Preset is a row of resource_presets.
type Preset struct {
	Name         string
	Slots        backendai.ResourceSlots
	SharedMemory *int64 // bytes
}

// Presets reads all presets, in the order in which the original's unordered query gives them: as they lie.
func Presets(ctx context.Context, pool *pgxpool.Pool) ([]Preset, error) {
	rows, _ := pool.Query(ctx, `SELECT name, resource_slots, shared_memory FROM public.resource_presets ORDER BY ctid`)
	return postgres.Collect("live: presets", rows, pgx.RowToStructByPos[Preset])
}

// Occupancy is what kernels of one kind take: how many there are, and how much each takes.
type Occupancy struct {
	OfKey, OfUser, OfGroup, OfDomain bool
	Ending                           bool // TERMINATING: its agent's slots are taken, its owner's quota is not
	ScalingGroup                     string
	Slots                            backendai.ResourceSlots
	Kernels                          int
}

// Occupancies reads what an access key, a user, a project and a domain take together. Most kernels take the same as many others.
func Occupancies(ctx context.Context, pool *pgxpool.Pool, accessKey string, user, group uuid.UUID, domain string) ([]Occupancy, error) {
	rows, _ := pool.Query(ctx, `SELECT coalesce(access_key = $1, false), coalesce(user_uuid = $2, false), group_id = $3, domain_name = $4, status = 'TERMINATING',
 coalesce(scaling_group, ''), occupied_slots, count(*)::int
 FROM public.kernels WHERE status = ANY($5::kernelstatus[]) AND (access_key = $1 OR user_uuid = $2 OR group_id = $3 OR domain_name = $4)
 GROUP BY 1, 2, 3, 4, 5, 6, 7`, accessKey, user, group, domain, occupying)
	return postgres.Collect("live: occupancy", rows, pgx.RowToStructByPos[Occupancy])
}

// AgentRoom is what an ALIVE agent has and what is taken of it.
type AgentRoom struct {
	ScalingGroup        string
	Available, Occupied backendai.ResourceSlots
}

// Rooms reads the ALIVE agents of scaling groups, whether they take sessions at the moment or not.
func Rooms(ctx context.Context, pool *pgxpool.Pool, scalingGroups []string) ([]AgentRoom, error) {
	rows, _ := pool.Query(ctx, `SELECT scaling_group, available_slots, occupied_slots FROM public.agents WHERE status = 'ALIVE' AND scaling_group = ANY($1) ORDER BY id`, scalingGroups)
	return postgres.Collect("live: agents' room", rows, pgx.RowToStructByPos[AgentRoom])
}

// Coordinator is the address of a scaling group's coordinator, "" when it has none.
func Coordinator(ctx context.Context, pool *pgxpool.Pool, scalingGroup string) (address string, err error) {
	err = pool.QueryRow(ctx, `SELECT coalesce((SELECT wsproxy_addr FROM public.scaling_groups WHERE name = $1), '')`, scalingGroup).Scan(&address)
	if err != nil {
		return "", fmt.Errorf("live: coordinator: %w", postgres.AsError(err))
	}
	return address, nil
}
