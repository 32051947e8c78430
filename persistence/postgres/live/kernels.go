package live

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/record"
)

// kernelColumns are read in the order in which scanKernel takes them. Enums are read as text; columns that old rows may
// have NULL in get the value the original's application would have written.
const kernelColumns = `k.id, k.session_id, coalesce(k.session_creation_id, ''), coalesce(k.session_name, ''), k.session_type::text,
 k.cluster_mode, k.cluster_size, k.cluster_role, k.cluster_idx, k.cluster_hostname,
 coalesce(k.scaling_group, ''), k.agent, k.agent_addr, k.domain_name, k.group_id, k.user_uuid, coalesce(k.access_key, ''),
 coalesce(k.image, ''), coalesce(k.architecture, 'x86_64'), coalesce(k.registry, ''), k.tag, k.container_id, k.occupied_slots,
 coalesce(k.environ, '{}'), CASE WHEN array_ndims(k.mounts) = 1 THEN k.mounts ELSE '{}' END, k.vfolder_mounts, k.attached_devices, k.resource_opts, k.bootstrap_script,
 k.kernel_host, k.repl_in_port, k.repl_out_port, k.stdin_port, k.stdout_port, k.service_ports, coalesce(k.preopen_ports, '{}'),
 coalesce(k.created_at, now()), k.terminated_at, k.starts_at, k.status::text, k.status_changed, k.status_info, k.status_data,
 k.callback_url, k.startup_command, k.result::text, k.internal_data, coalesce(k.num_queries, 0), k.last_stat`

// mainFirst orders the rows of a session.
const mainFirst = ` ORDER BY k.created_at, k.session_id, (k.cluster_role <> 'main'), k.cluster_role, k.cluster_idx, k.id`

func scanKernel(row pgx.CollectableRow) (k record.Kernel, err error) {
	var sessionType, mode, status, result string
	err = row.Scan(&k.ID, &k.SessionID, &k.CreationID, &k.SessionName, &sessionType,
		&mode, &k.ClusterSize, &k.ClusterRole, &k.ClusterIdx, &k.ClusterHostname,
		&k.ScalingGroup, &k.Agent, &k.AgentAddr, &k.DomainName, &k.GroupID, &k.UserUUID, &k.AccessKey,
		&k.Image, &k.Architecture, &k.Registry, &k.Tag, &k.ContainerID, &k.OccupiedSlots,
		&k.Environ, &k.Mounts, &k.VFolderMounts, &k.AttachedDevices, &k.ResourceOpts, &k.BootstrapScript,
		&k.KernelHost, &k.ReplInPort, &k.ReplOutPort, &k.StdinPort, &k.StdoutPort, &k.ServicePorts, &k.PreopenPorts,
		&k.CreatedAt, &k.TerminatedAt, &k.StartsAt, &status, &k.StatusChanged, &k.StatusInfo, &k.StatusData,
		&k.CallbackURL, &k.StartupCommand, &result, &k.InternalData, &k.NumQueries, &k.LastStat)
	if err != nil {
		return k, err
	}
	if k.SessionType, err = backendai.ParseSessionType(sessionType); err != nil {
		return k, err
	}
	if k.ClusterMode, err = backendai.ParseClusterMode(mode); err != nil {
		return k, err
	}
	if k.Status, err = backendai.ParseKernelStatus(status); err != nil {
		return k, err
	}
	k.Result, err = backendai.ParseSessionResult(result)
	return k, err
}

func kernels(ctx context.Context, pool *pgxpool.Pool, where string, args ...any) ([]record.Kernel, error) {
	rows, err := pool.Query(ctx, `SELECT `+kernelColumns+` FROM public.kernels k WHERE `+where+mainFirst, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanKernel)
}

// The statuses to look for are named, never those to leave out: only then does the index of statuses find the few rows that live
// among the millions that have ended.
var (
	unended   = backendai.Dead.Not().List()
	occupying = backendai.AgentResourceOccupying.List()
)

// Sessions reads the rows of the live sessions of the shards that the SQL expression shardOf (of the text expression
// "l.session_id::text") maps to: all rows of those with a kernel that is not dead; each session main first. Sessions without a main row are left out: nothing can act for them.
func Sessions(ctx context.Context, pool *pgxpool.Pool, shardOf func(string) string, shards []int32) ([][]record.Kernel, error) {
	list, err := kernels(ctx, pool, `k.session_id IN (SELECT l.session_id FROM public.kernels l WHERE l.status = ANY($2::kernelstatus[]) AND `+
		shardOf("l.session_id::text")+` = ANY($1))`, shards, unended)
	if err != nil {
		return nil, fmt.Errorf("live: sessions: %w", postgres.AsError(err))
	}
	return bySession(list), nil
}

// bySession groups rows, which come main first.
func bySession(list []record.Kernel) (sessions [][]record.Kernel) {
	at := make(map[uuid.UUID]int)
	for _, k := range list {
		i, ok := at[k.SessionID]
		if !ok {
			if !k.IsMain() {
				continue
			}
			at[k.SessionID] = len(sessions)
			sessions = append(sessions, []record.Kernel{k})
			continue
		}
		sessions[i] = append(sessions[i], k)
	}
	return sessions
}

// Session reads the rows of one session, main first; none if there is no such session.
func Session(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) ([]record.Kernel, error) {
	list, err := kernels(ctx, pool, `k.session_id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("live: session: %w", postgres.AsError(err))
	}
	return list, nil
}

// SessionOfKernel finds the session that a kernel belongs to.
func SessionOfKernel(ctx context.Context, pool *pgxpool.Pool, kernel uuid.UUID) (id uuid.UUID, found bool, err error) {
	err = pool.QueryRow(ctx, `SELECT session_id FROM public.kernels WHERE id = $1`, kernel).Scan(&id)
	switch err {
	case nil:
		return id, true, nil
	case pgx.ErrNoRows:
		return id, false, nil
	}
	return id, false, fmt.Errorf("live: session of a kernel: %w", postgres.AsError(err))
}

// SessionsOn lists the live sessions with a kernel on an agent.
func SessionsOn(ctx context.Context, pool *pgxpool.Pool, agent string) ([]uuid.UUID, error) {
	rows, _ := pool.Query(ctx, `SELECT DISTINCT session_id FROM public.kernels WHERE agent = $1 AND status = ANY($2::kernelstatus[])`, agent, occupying)
	return postgres.Collect("live: sessions on an agent", rows, pgx.RowTo[uuid.UUID])
}

// Allocations reads the kernels that take slots of agents in a scaling group.
func Allocations(ctx context.Context, pool *pgxpool.Pool, scalingGroup string) ([]record.Kernel, error) {
	list, err := kernels(ctx, pool, `k.scaling_group = $1 AND k.agent IS NOT NULL AND k.status = ANY($2::kernelstatus[])`, scalingGroup, occupying)
	if err != nil {
		return nil, fmt.Errorf("live: allocations: %w", postgres.AsError(err))
	}
	return list, nil
}

// Queue reads the pending sessions of a scaling group. Sessions whose main kernel is no longer pending are left out.
func Queue(ctx context.Context, pool *pgxpool.Pool, scalingGroup string) ([][]record.Kernel, error) {
	list, err := kernels(ctx, pool, `k.scaling_group = $1 AND k.status = 'PENDING'`, scalingGroup)
	if err != nil {
		return nil, fmt.Errorf("live: queue: %w", postgres.AsError(err))
	}
	return bySession(list), nil
}

// Remnant is a kernel whose row is dead by the manager's own decision, so that its agent may still hold it.
type Remnant struct {
	ID    uuid.UUID
	Agent string
}

// Remnants lists the kernels that were ended by force, or whose start was given up, within the last quarter of an hour:
// the manager may have died between writing that and telling the agent.
func Remnants(ctx context.Context, pool *pgxpool.Pool, shardOf func(string) string, shards []int32) ([]Remnant, error) {
	rows, _ := pool.Query(ctx, `SELECT k.id, k.agent FROM public.kernels k WHERE k.terminated_at > now() - interval '15 minutes' AND k.agent IS NOT NULL
 AND (k.status = 'TERMINATED' AND k.status_info = 'force-terminated' OR k.status = 'CANCELLED' AND k.status_info = 'failed-to-start')
 AND `+shardOf("k.session_id::text")+` = ANY($1)`, shards)
	return postgres.Collect("live: remnants", rows, pgx.RowToStructByPos[Remnant])
}
