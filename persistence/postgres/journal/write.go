package journal

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"backend.ai/manager/persistence/postgres/record"
)

// write applies the rows of every entry that is not refused yet: sessions first,
// then patches of kernels, then agents; one statement each.
func write(ctx context.Context, tx pgx.Tx, batch []*Entry, refusals map[*Entry]error) error {
	if err := insertSessions(ctx, tx, batch, refusals); err != nil {
		return err
	}
	if err := patchKernels(ctx, tx, batch, refusals); err != nil {
		return err
	}
	return patchAgents(ctx, tx, batch, refusals)
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

func insertSessions(ctx context.Context, tx pgx.Tx, batch []*Entry, refusals map[*Entry]error) error {
	var mains, siblings []kernelRow
	var dependents, dependencies []uuid.UUID
	owners := make(map[uuid.UUID]*Entry)
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, s := range e.Sessions {
			mains = append(mains, rowOf(s.Kernels[0]))
			owners[s.Kernels[0].ID] = e
			for _, k := range s.Kernels[1:] {
				siblings = append(siblings, rowOf(k))
			}
			for _, d := range s.DependsOn {
				dependents, dependencies = append(dependents, s.Kernels[0].ID), append(dependencies, d)
			}
		}
	}
	if len(mains) == 0 {
		return nil
	}
	written, err := returningIDs(ctx, tx, insertMains, mains)
	if err != nil {
		return fmt.Errorf("insert sessions: %w", err)
	}
	if len(written) < len(mains) {
		if err := recogniseOwn(ctx, tx, owners, written); err != nil {
			return err
		}
		for id, e := range owners {
			if !written[id] {
				refusals[e] = ErrNameTaken
			}
		}
	}
	if len(siblings) > 0 {
		doc, err := json.Marshal(siblings)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertSiblings, string(doc)); err != nil {
			return fmt.Errorf("insert sibling kernels: %w", err)
		}
	}
	if len(dependents) > 0 {
		if _, err := tx.Exec(ctx, insertDependencies, dependents, dependencies); err != nil {
			return fmt.Errorf("insert session dependencies: %w", err)
		}
	}
	return nil
}

// recogniseOwn marks the rows that an earlier try of the same entry has already
// committed (its answer was lost): they conflict with themselves, not with another session.
func recogniseOwn(ctx context.Context, tx pgx.Tx, owners map[uuid.UUID]*Entry, written map[uuid.UUID]bool) error {
	var missing []uuid.UUID
	for id := range owners {
		if !written[id] {
			missing = append(missing, id)
		}
	}
	rows, err := tx.Query(ctx, `SELECT id FROM public.kernels WHERE id = ANY($1)`, missing)
	if err != nil {
		return fmt.Errorf("look for rows of a lost commit: %w", err)
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		written[id] = true
		return nil
	})
	return err
}

func returningIDs(ctx context.Context, tx pgx.Tx, sql string, list []kernelRow) (map[uuid.UUID]bool, error) {
	doc, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, sql, string(doc))
	if err != nil {
		return nil, err
	}
	written := make(map[uuid.UUID]bool, len(list))
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		written[id] = true
		return nil
	})
	return written, err
}

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
 num_queries     = CASE WHEN p.mask & 8192 <> 0 THEN p.num_queries ELSE k.num_queries END
FROM json_to_recordset($1::json) AS p(mask bigint, container_log text, ` + kernelTypes + `)
WHERE k.id = p.id`

func patchKernels(ctx context.Context, tx pgx.Tx, batch []*Entry, refusals map[*Entry]error) error {
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
	list := make([]patchRow, len(order))
	for i, p := range order {
		list[i] = patchRow{Mask: int64(p.Mask), ContainerLog: p.ContainerLog, kernelRow: rowOf(&p.Kernel)}
		list[i].ID = p.ID
	}
	doc, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, updateKernels, string(doc)); err != nil {
		return fmt.Errorf("update kernels: %w", err)
	}
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
WHERE a.id = p.id`

func patchAgents(ctx context.Context, tx pgx.Tx, batch []*Entry, refusals map[*Entry]error) error {
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
			return err
		}
		rows, err := tx.Query(ctx, upsertAgents, doc)
		if err != nil {
			return fmt.Errorf("register agents: %w", err)
		}
		var id string
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			delete(owners, id)
			return nil
		}); err != nil {
			return fmt.Errorf("register agents: %w", err)
		}
		for _, entries := range owners {
			for _, e := range entries {
				refusals[e] = ErrUnknownScalingGroup
			}
		}
	}
	if len(others) > 0 {
		doc, err := agentRows(others)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, updateAgents, doc); err != nil {
			return fmt.Errorf("update agents: %w", err)
		}
	}
	return nil
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
