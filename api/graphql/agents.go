package graphql

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/listing"
	"backend.ai/manager/persistence/redis/event"
)

// hardwareLimit bounds how long an agent may take to tell its hardware: one that does not answer must not hold up a list.
const hardwareLimit = 5 * time.Second

// agent is a compute node.
type agent struct {
	ID             *ID
	Status         *string
	StatusChanged  *DateTime
	Region         *string
	ScalingGroup   *string
	Schedulable    *bool
	AvailableSlots *SlotString
	OccupiedSlots  *SlotString
	Addr           *string
	Architecture   *string
	FirstContact   *DateTime
	LostAt         *DateTime
	LiveStat       *JSONString
	Version        *string
	ComputePlugins *JSONString
	MemSlots       *int32 // MiB, as those used
	CPUSlots       *Float
	GPUSlots       *Float
	TPUSlots       *Float
	UsedMemSlots   *int32
	UsedCPUSlots   *Float
	UsedGPUSlots   *Float
	UsedTPUSlots   *Float
	CPUCurPct      *Float
	MemCurBytes    *Float

	siblings *agents
}

// agents are those of one answer.
type agents struct {
	*Resource
	ids        []string
	containers batch[[]*computeContainer]
}

var agentNeeds = map[string][]string{
	"live_stat": {"id"}, "cpu_cur_pct": {"id"}, "mem_cur_bytes": {"id"}, "hardware_metadata": {"id"}, "compute_containers": {"id"},
	"mem_slots": {"available_slots"}, "cpu_slots": {"available_slots"}, "gpu_slots": {"available_slots"}, "tpu_slots": {"available_slots"},
	"used_mem_slots": {"occupied_slots"}, "used_cpu_slots": {"occupied_slots"}, "used_gpu_slots": {"occupied_slots"}, "used_tpu_slots": {"occupied_slots"},
}

type agentScope struct{ ScalingGroup, Status *string }

func (a agentScope) conditions() ([]listing.Condition, error) {
	where := optional("scaling_group", a.ScalingGroup, nil)
	if a.Status != nil {
		if _, err := backendai.ParseAgentStatus(*a.Status); err != nil {
			return nil, backendai.Errorf(backendai.InvalidArgument, "%s", backendai.Repr(*a.Status))
		}
		where = append(where, listing.Is("of_status", *a.Status))
	}
	return where, nil
}

// Agent is agent.
func (q *queries) Agent(ctx context.Context, args struct{ AgentID string }) (*agent, error) {
	if err := superadmin(who(ctx)); err != nil {
		return nil, err
	}
	list, err := q.agents(ctx, []listing.Condition{listing.Is("id", args.AgentID)})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// Agents is agents.
func (q *queries) Agents(ctx context.Context, args agentScope) (*[]*agent, error) {
	if err := superadmin(who(ctx)); err != nil {
		return nil, err
	}
	where, err := args.conditions()
	if err != nil {
		return nil, err
	}
	list, err := q.agents(ctx, where)
	return &list, err
}

func (s *Resource) agents(ctx context.Context, where []listing.Condition) ([]*agent, error) {
	f := selected(ctx)
	list, err := listing.Read[agent](ctx, s.pool, listing.Agents, listing.Query{Where: where}, f.own(agentNeeds))
	if err != nil {
		return nil, err
	}
	return list, s.completeAgents(ctx, list, f)
}

// AgentList is agent_list.
func (q *queries) AgentList(ctx context.Context, args struct {
	pageArgs
	agentScope
}) (*page[agent], error) {
	if err := superadmin(who(ctx)); err != nil {
		return nil, err
	}
	where, err := args.conditions()
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	p, err := readPage[agent](ctx, q.Resource, listing.Agents, args.query(where...), f, agentNeeds)
	if err != nil {
		return nil, err
	}
	return p, q.completeAgents(ctx, p.Items, f.below("items"))
}

// completeAgents adds what is no column.
func (s *Resource) completeAgents(ctx context.Context, list []*agent, f fields) error {
	all := &agents{Resource: s}
	var ids []backendai.AgentID
	for _, a := range list {
		a.siblings = all
		if a.ID != nil {
			all.ids = append(all.ids, string(*a.ID))
			ids = append(ids, backendai.AgentID(*a.ID))
		}
		if err := a.measure(); err != nil {
			return err
		}
	}
	if !f.has("live_stat", "cpu_cur_pct", "mem_cur_bytes") {
		return nil
	}
	var stats map[backendai.AgentID]event.Object
	if s.deps.Live != nil {
		var err error
		stats, err = s.deps.Live.AgentStats(ctx, ids)
		away("statistics of agents", err)
	}
	for _, a := range list {
		pct, mem := Float(0), Float(0)
		if stat, ok := stats[backendai.AgentID(*a.ID)]; ok {
			pct, mem = Float(metric(stat, "node", "cpu_util", "pct")), Float(math.Trunc(metric(stat, "node", "mem", "current")))
			text, err := encoded(stat)
			if err != nil {
				return err
			}
			a.LiveStat = text
		}
		a.CPUCurPct, a.MemCurBytes = &pct, &mem
	}
	return nil
}

// metric is a number deep in an object; 0 if it is missing or none.
func metric(o event.Object, path ...string) float64 {
	var v any = o
	for _, name := range path {
		inside, ok := v.(event.Object)
		if !ok {
			return 0
		}
		v, _ = inside.Get(name)
	}
	switch n := v.(type) {
	case string:
		f, err := strconv.ParseFloat(n, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return 0
		}
		return f
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// measure fills the legacy numbers of slots.
func (a *agent) measure() error {
	for _, m := range []struct {
		from          *SlotString
		mem           **int32
		cpu, gpu, tpu **Float
	}{
		{a.AvailableSlots, &a.MemSlots, &a.CPUSlots, &a.GPUSlots, &a.TPUSlots},
		{a.OccupiedSlots, &a.UsedMemSlots, &a.UsedCPUSlots, &a.UsedGPUSlots, &a.UsedTPUSlots},
	} {
		if m.from == nil {
			continue
		}
		slots, err := m.from.slots()
		if err != nil {
			return err
		}
		amount := func(name backendai.SlotName) *Float { f := Float(slotAmount(slots, name)); return &f }
		mib := int32(min(slotAmount(slots, backendai.Mem)/(1<<20), math.MaxInt32))
		*m.mem, *m.cpu, *m.gpu, *m.tpu = &mib, amount("cpu"), amount("cuda.device"), amount("tpu.device")
	}
	return nil
}

// HardwareMetadata asks the agent.
func (a *agent) HardwareMetadata(ctx context.Context) (*JSONString, error) {
	s := a.siblings
	if s.deps.Hardware == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hardwareLimit)
	defer cancel()
	raw, err := s.deps.Hardware(ctx, backendai.AgentID(*a.ID))
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return encoded(json.RawMessage(raw))
}

// ComputeContainers are the kernels on an agent, of one status if it is given.
func (a *agent) ComputeContainers(ctx context.Context, args struct{ Status *string }) (*[]*computeContainer, error) {
	s, f := a.siblings, selected(ctx)
	var where []listing.Condition
	if args.Status != nil {
		statuses, err := statusNames(*args.Status)
		if err != nil {
			return nil, err
		}
		where = append(where, listing.In("of_status", statuses))
	}
	list, err := s.containers.of(string(*a.ID), args.Status, f, func() (map[string][]*computeContainer, error) {
		return s.containersOf(ctx, "of_agent", s.ids, f, func(c *computeContainer) string { return *c.OnAgent }, where...)
	})
	return &list, err
}
