package live

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/record"
)

const agentColumns = `a.id, a.status::text, a.status_changed, a.region, a.scaling_group, a.schedulable, a.available_slots, a.occupied_slots,
 a.addr, coalesce(a.first_contact, now()), a.lost_at, a.version, a.architecture, a.compute_plugins`

func scanAgent(row pgx.CollectableRow) (a record.Agent, err error) {
	var status string
	err = row.Scan(&a.ID, &status, &a.StatusChanged, &a.Region, &a.ScalingGroup, &a.Schedulable, &a.AvailableSlots, &a.OccupiedSlots,
		&a.Addr, &a.FirstContact, &a.LostAt, &a.Version, &a.Architecture, &a.ComputePlugins)
	if err != nil {
		return a, err
	}
	a.Status, err = backendai.ParseAgentStatus(status)
	return a, err
}

// Agents reads the agents of the shards that shardOf maps them to; see Sessions.
func Agents(ctx context.Context, pool *pgxpool.Pool, shardOf func(string) string, shards []int32) ([]record.Agent, error) {
	rows, _ := pool.Query(ctx, `SELECT `+agentColumns+` FROM public.agents a WHERE `+shardOf("a.id::text")+` = ANY($1) ORDER BY a.id`, shards)
	return postgres.Collect("live: agents", rows, scanAgent)
}

// GroupAgents reads the agents of a scaling group.
func GroupAgents(ctx context.Context, pool *pgxpool.Pool, scalingGroup string) ([]record.Agent, error) {
	rows, _ := pool.Query(ctx, `SELECT `+agentColumns+` FROM public.agents a WHERE a.scaling_group = $1 ORDER BY a.id`, scalingGroup)
	return postgres.Collect("live: agents of a scaling group", rows, scanAgent)
}
