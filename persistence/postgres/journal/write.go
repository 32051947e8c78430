package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/persistence/postgres/record"
)

// write applies the rows of every entry that is not refused yet and commits: sessions first, then patches of kernels, then
// agents; one statement each, all sent at once. With epochs it begins the transaction as well, and does nothing unless they all stand (raised).
func write(ctx context.Context, conn *pgxpool.Conn, batch []*Entry, refusals map[*Entry]error, epochs map[int32]int64) error {
	var b pgx.Batch
	if epochs != nil {
		open(&b)
		queueGuard(&b, epochs)
	}
	sessions, err := queueSessions(&b, batch, refusals)
	if err != nil {
		return err
	}
	if err := queueKernels(&b, batch, refusals); err != nil {
		return err
	}
	registered, err := queueAgents(&b, batch, refusals)
	if err != nil {
		return err
	}
	if err := queueUses(&b, batch, refusals); err != nil {
		return err
	}
	// An error ends the batch where it is: this is not reached then.
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	failpoint.Hit(failpoint.BeforeCommit)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	for _, entries := range registered {
		for _, e := range entries {
			refusals[e] = ErrUnknownScalingGroup
		}
	}
	return sessions.refuse(ctx, conn, refusals)
}

const insertMains = `INSERT INTO public.kernels (` + kernelColumns + `)
SELECT ` + kernelColumns + ` FROM json_to_recordset($1::json) AS r(` + kernelTypes + `)
ON CONFLICT DO NOTHING RETURNING id`

// A sibling is written only if its main row is: a refused session leaves nothing behind.
const insertSiblings = `INSERT INTO public.kernels (` + kernelColumns + `)
SELECT ` + kernelColumns + ` FROM json_to_recordset($1::json) AS r(` + kernelTypes + `)
WHERE EXISTS (SELECT 1 FROM public.kernels m WHERE m.id = r.session_id)
ON CONFLICT DO NOTHING`

const insertDependencies = `INSERT INTO public.session_dependencies (session_id, depends_on)
SELECT session_id, depends_on FROM unnest($1::uuid[], $2::uuid[]) AS d(session_id, depends_on)
WHERE EXISTS (SELECT 1 FROM public.kernels m WHERE m.id = d.session_id)
ON CONFLICT DO NOTHING`

// newSessions are the sessions of a batch, by their ids; those whose rows have been written are taken out.
type newSessions map[uuid.UUID]*Entry

func queueSessions(b *pgx.Batch, batch []*Entry, refusals map[*Entry]error) (newSessions, error) {
	var mains, siblings []kernelRow
	var dependents, dependencies []uuid.UUID
	missing := make(newSessions)
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, s := range e.Sessions {
			mains = append(mains, rowOf(s.Kernels[0]))
			missing[s.Kernels[0].ID] = e
			for _, k := range s.Kernels[1:] {
				siblings = append(siblings, rowOf(k))
			}
			for _, d := range s.DependsOn {
				dependents, dependencies = append(dependents, s.Kernels[0].ID), append(dependencies, d)
			}
		}
	}
	if len(mains) == 0 {
		return nil, nil
	}
	doc, err := json.Marshal(mains)
	if err != nil {
		return nil, err
	}
	b.Queue(insertMains, string(doc)).Query(missing.written("insert sessions"))
	if len(siblings) > 0 {
		doc, err := json.Marshal(siblings)
		if err != nil {
			return nil, err
		}
		b.Queue(insertSiblings, string(doc))
	}
	if len(dependents) > 0 {
		b.Queue(insertDependencies, dependents, dependencies)
	}
	return missing, nil
}

// written takes the sessions out whose ids a statement returns.
func (n newSessions) written(what string) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var id uuid.UUID
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			delete(n, id)
			return nil
		}); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
}

// refuse marks the sessions whose names are taken. One that is there has been committed by an earlier try of the same entry
// (its answer was lost): it conflicts with itself. One that has moved on since was created by another entry, long ago.
func (n newSessions) refuse(ctx context.Context, conn *pgxpool.Conn, refusals map[*Entry]error) error {
	if len(n) == 0 {
		return nil
	}
	rows, err := conn.Query(ctx, `SELECT id, status = 'PENDING' FROM public.kernels WHERE id = ANY($1)`, slices.Collect(maps.Keys(n)))
	if err != nil {
		return fmt.Errorf("look for rows of a lost commit: %w", err)
	}
	for _, e := range n {
		refusals[e] = ErrNameTaken
	}
	var id uuid.UUID
	var pending bool
	if _, err := pgx.ForEachRow(rows, []any{&id, &pending}, func() error {
		if refusals[n[id]] = ErrRepeated; pending {
			delete(refusals, n[id])
		}
		return nil
	}); err != nil {
		return fmt.Errorf("look for rows of a lost commit: %w", err)
	}
	return nil
}

// That the ids are named besides keeps the planner, which takes any set of records for a hundred, from reading the whole table.
// The mask's bits are record.Field values; a test holds the two together.
const updateKernels = `UPDATE public.kernels k SET
 status          = CASE WHEN p.mask & 1 <> 0 THEN p.status ELSE k.status END,
 status_info     = CASE WHEN p.mask & 2 <> 0 THEN p.status_info ELSE k.status_info END,
 status_data     = CASE WHEN p.mask & 4 <> 0 THEN p.status_data ELSE k.status_data END,
 status_changed  = CASE WHEN p.mask & 8 <> 0 THEN p.status_changed ELSE k.status_changed END,
 terminated_at   = CASE WHEN p.mask & 16 <> 0 THEN p.terminated_at ELSE k.terminated_at END,
 agent           = CASE WHEN p.mask & 32 <> 0 THEN p.agent ELSE k.agent END,
 agent_addr      = CASE WHEN p.mask & 32 <> 0 THEN p.agent_addr ELSE k.agent_addr END,
 scaling_group   = CASE WHEN p.mask & 32 <> 0 THEN p.scaling_group ELSE k.scaling_group END,
 container_id    = CASE WHEN p.mask & 64 <> 0 THEN p.container_id ELSE k.container_id END,
 kernel_host     = CASE WHEN p.mask & 64 <> 0 THEN p.kernel_host ELSE k.kernel_host END,
 repl_in_port    = CASE WHEN p.mask & 64 <> 0 THEN p.repl_in_port ELSE k.repl_in_port END,
 repl_out_port   = CASE WHEN p.mask & 64 <> 0 THEN p.repl_out_port ELSE k.repl_out_port END,
 stdin_port      = CASE WHEN p.mask & 64 <> 0 THEN p.stdin_port ELSE k.stdin_port END,
 stdout_port     = CASE WHEN p.mask & 64 <> 0 THEN p.stdout_port ELSE k.stdout_port END,
 service_ports   = CASE WHEN p.mask & 64 <> 0 THEN p.service_ports ELSE k.service_ports END,
 occupied_slots  = CASE WHEN p.mask & 128 <> 0 THEN p.occupied_slots ELSE k.occupied_slots END,
 attached_devices= CASE WHEN p.mask & 256 <> 0 THEN p.attached_devices ELSE k.attached_devices END,
 last_stat       = CASE WHEN p.mask & 512 <> 0 THEN p.last_stat ELSE k.last_stat END,
 container_log   = CASE WHEN p.mask & 1024 <> 0 THEN decode(p.container_log, 'base64') ELSE k.container_log END,
 result          = CASE WHEN p.mask & 2048 <> 0 THEN p.result ELSE k.result END,
 session_name    = CASE WHEN p.mask & 4096 <> 0 THEN p.session_name ELSE k.session_name END,
 num_queries     = CASE WHEN p.mask & 8192 <> 0 THEN p.num_queries ELSE k.num_queries END,
 resource_opts   = CASE WHEN p.mask & 16384 <> 0 THEN p.resource_opts ELSE k.resource_opts END
FROM json_to_recordset($1::json) AS p(` + patchTypes + `)
WHERE k.id = p.id AND k.id = ANY($2::uuid[])`

func queueKernels(b *pgx.Batch, batch []*Entry, refusals map[*Entry]error) error {
	merged := make(map[uuid.UUID]*record.KernelPatch)
	var order []*record.KernelPatch
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, p := range e.Kernels {
			if first := merged[p.ID]; first != nil {
				first.Merge(p)
				continue
			}
			own := *p // the entry may be tried again: its patches stay as they are
			merged[p.ID] = &own
			order = append(order, &own)
		}
	}
	if len(order) == 0 {
		return nil
	}
	list, ids := make([]patchRow, len(order)), make([]uuid.UUID, len(order))
	for i, p := range order {
		list[i], ids[i] = patchOf(p), p.ID
	}
	doc, err := json.Marshal(list)
	if err != nil {
		return err
	}
	b.Queue(updateKernels, string(doc), ids)
	return nil
}

// A heartbeat of an unknown scaling group must not break the batch's foreign keys: such rows are left out and refused.
const upsertAgents = `INSERT INTO public.agents (` + agentColumns + `)
SELECT r.id, r.status, r.status_changed, r.region, r.scaling_group, r.schedulable, r.available_slots, '{}'::jsonb, r.addr, r.first_contact, r.lost_at, r.version, r.architecture, r.compute_plugins
FROM json_to_recordset($1::json) AS r(` + agentTypes + `)
WHERE EXISTS (SELECT 1 FROM public.scaling_groups g WHERE g.name = r.scaling_group)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, region = excluded.region, scaling_group = excluded.scaling_group,
 available_slots = excluded.available_slots, addr = excluded.addr, lost_at = excluded.lost_at, version = excluded.version,
 architecture = excluded.architecture, compute_plugins = excluded.compute_plugins
RETURNING id`

const updateAgents = `UPDATE public.agents a SET
 status         = CASE WHEN p.mask & 2 <> 0 THEN p.status ELSE a.status END,
 status_changed = CASE WHEN p.mask & 2 <> 0 THEN p.status_changed ELSE a.status_changed END,
 lost_at        = CASE WHEN p.mask & 2 <> 0 THEN p.lost_at ELSE a.lost_at END,
 occupied_slots = CASE WHEN p.mask & 4 <> 0 THEN p.occupied_slots ELSE a.occupied_slots END,
 schedulable    = CASE WHEN p.mask & 8 <> 0 THEN p.schedulable ELSE a.schedulable END
FROM json_to_recordset($1::json) AS p(mask bigint, ` + agentTypes + `)
WHERE a.id = p.id AND a.id = ANY($2::text[])`

// queueAgents returns, by agent, the entries whose registrations are not written yet.
func queueAgents(b *pgx.Batch, batch []*Entry, refusals map[*Entry]error) (map[string][]*Entry, error) {
	// Several patches of one agent in a batch are applied by the last of each kind.
	registrations, others := make(map[string]*AgentPatch), make(map[string]*AgentPatch)
	owners := make(map[string][]*Entry)
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, p := range e.Agents {
			if p.Mask&AgentRegistration != 0 {
				registrations[p.Agent.ID] = p
				owners[p.Agent.ID] = append(owners[p.Agent.ID], e)
			}
			if rest := p.Mask &^ AgentRegistration; rest != 0 {
				others[p.Agent.ID] = mergeAgent(others[p.Agent.ID], p, rest)
			}
		}
	}
	if len(registrations) > 0 {
		doc, err := agentRows(registrations)
		if err != nil {
			return nil, err
		}
		b.Queue(upsertAgents, doc).Query(func(rows pgx.Rows) error {
			var id string
			if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
				delete(owners, id)
				return nil
			}); err != nil {
				return fmt.Errorf("register agents: %w", err)
			}
			return nil
		})
	}
	if len(others) > 0 {
		doc, err := agentRows(others)
		if err != nil {
			return nil, err
		}
		b.Queue(updateAgents, doc, slices.Sorted(maps.Keys(others)))
	}
	return owners, nil
}

func mergeAgent(into, p *AgentPatch, mask AgentField) *AgentPatch {
	if into == nil {
		into = &AgentPatch{Agent: record.Agent{ID: p.Agent.ID}}
	}
	if mask&AgentLiveness != 0 {
		into.Agent.Status, into.Agent.StatusChanged, into.Agent.LostAt = p.Agent.Status, p.Agent.StatusChanged, p.Agent.LostAt
	}
	if mask&AgentOccupied != 0 {
		into.Agent.OccupiedSlots = p.Agent.OccupiedSlots
	}
	if mask&AgentSchedulable != 0 {
		into.Agent.Schedulable = p.Agent.Schedulable
	}
	into.Mask |= mask
	return into
}
