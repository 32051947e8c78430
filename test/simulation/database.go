package simulation

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

// row is one row of kernels with what is watched of it.
type row struct {
	record.Kernel
	counted  amount // what it adds to its agent now
	charged  amount // what it adds to its owner now
	sessions int
	agent    string
	ran      bool  // it was RUNNING once
	diedIn   int64 // epoch of its shard when it died
}

// saved is one session's rows, main first.
type saved struct {
	id      uuid.UUID
	rows    []*row
	depends []uuid.UUID
	crashed bool // an actor of it has crashed
}

func (s *saved) alive() bool {
	return slices.ContainsFunc(s.rows, func(r *row) bool { return !r.Status.IsDead() })
}

// database is what outlives every process.
type database struct {
	w        *World
	epochs   []int64
	sessions map[uuid.UUID]*saved
	order    []*saved
	kernels  map[uuid.UUID]*row
	agents   map[string]*record.Agent
	ids      []string // of agents, sorted
	groups   []string
	policies map[string]protocol.Policy
	limits   map[string]protocol.Limits // by access key
	known    *backendai.KnownSlots
	usage    map[string]*amount // by agent
	owned    map[owner]*owned
	away     bool // nothing can be read or committed
}

type owner struct{ key, group string }

type owned struct {
	amount
	sessions int
}

func newDatabase(w *World, shards int) *database {
	db := &database{w: w, epochs: make([]int64, shards), sessions: make(map[uuid.UUID]*saved), kernels: make(map[uuid.UUID]*row),
		agents: make(map[string]*record.Agent), limits: make(map[string]protocol.Limits), policies: make(map[string]protocol.Policy),
		known: backendai.NewKnownSlots(), usage: make(map[string]*amount), owned: make(map[owner]*owned)}
	return db
}

func (db *database) shardOf(id cluster.Identity) int32 { return cluster.ShardOf(id, len(db.epochs)) }

// What follows reads as package persistence/postgres/live does.

func (db *database) sessionsOf(shards []int32) map[int32][][]record.Kernel {
	found := make(map[int32][][]record.Kernel)
	for _, s := range db.order {
		shard := db.shardOf(cluster.Session(s.id))
		if s.alive() && slices.Contains(shards, shard) {
			found[shard] = append(found[shard], s.copy())
		}
	}
	return found
}

func (s *saved) copy() []record.Kernel {
	list := make([]record.Kernel, len(s.rows))
	for i, r := range s.rows {
		list[i] = r.Kernel
	}
	return list
}

func (db *database) agentsOf(shards []int32) map[int32][]record.Agent {
	found := make(map[int32][]record.Agent)
	for _, id := range db.ids {
		if shard := db.shardOf(cluster.Agent(id)); slices.Contains(shards, shard) {
			found[shard] = append(found[shard], *db.agents[id])
		}
	}
	return found
}

func (db *database) groupsOf(shards []int32) map[int32][]string {
	found := make(map[int32][]string)
	for _, g := range db.groups {
		if shard := db.shardOf(cluster.Scheduler(g)); slices.Contains(shards, shard) {
			found[shard] = append(found[shard], g)
		}
	}
	return found
}

// remnant is a kernel that its agent may still hold although its row is dead.
type remnant struct {
	kernel uuid.UUID
	agent  string
}

const remnantAge = 15 * 60 // seconds

func (db *database) remnants(shards []int32) (list []remnant) {
	now := db.w.time()
	for _, s := range db.order {
		if !slices.Contains(shards, db.shardOf(cluster.Session(s.id))) {
			continue
		}
		for _, r := range s.rows {
			if r.TerminatedAt == nil || r.Agent == nil || r.StatusInfo == nil || now.Sub(*r.TerminatedAt).Seconds() > remnantAge {
				continue
			}
			if r.Status == backendai.Terminated && *r.StatusInfo == string(backendai.InfoForceTerminated) ||
				r.Status == backendai.Cancelled && *r.StatusInfo == string(backendai.InfoFailedToStart) {
				list = append(list, remnant{r.ID, *r.Agent})
			}
		}
	}
	return list
}

func (db *database) sessionsOn(agent string) (list []uuid.UUID) {
	for _, s := range db.order {
		for _, r := range s.rows {
			if r.Kernel.Agent != nil && *r.Kernel.Agent == agent && r.Status != backendai.Pending && !r.Status.IsDead() {
				list = append(list, s.id)
				break
			}
		}
	}
	return list
}

func (db *database) groupAgents(group string) (list []protocol.AgentState) {
	for _, id := range db.ids {
		if a := db.agents[id]; a.ScalingGroup == group {
			list = append(list, protocol.AgentState{ID: a.ID, Addr: a.Addr, ScalingGroup: a.ScalingGroup, Architecture: a.Architecture,
				Alive: a.Status == backendai.AgentAlive, Schedulable: a.Schedulable, Available: a.AvailableSlots})
		}
	}
	return list
}

func (db *database) allocations(group string) (list []*protocol.Allocation) {
	for _, s := range db.order {
		for _, k := range s.rows {
			if k.ScalingGroup == group && k.Kernel.Agent != nil && k.Status != backendai.Pending && !k.Status.IsDead() {
				list = append(list, &protocol.Allocation{SessionID: k.SessionID, KernelID: k.ID, Agent: *k.Kernel.Agent, Slots: k.OccupiedSlots, Main: k.IsMain(),
					AccessKey: k.AccessKey, GroupID: k.GroupID, DomainName: k.DomainName, CountsForUser: k.Status.OccupiesUser()})
			}
		}
	}
	return list
}

func (db *database) pending(group string) (list []protocol.PendingSession) {
	for _, s := range db.order {
		m := s.rows[0]
		if m.ScalingGroup != group || m.Status != backendai.Pending {
			continue
		}
		p := protocol.PendingSession{ID: m.SessionID, CreationID: m.CreationID, Name: m.SessionName, Type: m.SessionType, AccessKey: m.AccessKey,
			DomainName: m.DomainName, GroupID: m.GroupID, ScalingGroup: m.ScalingGroup, ClusterMode: m.ClusterMode,
			CreatedAt: m.CreatedAt, StartsAt: m.StartsAt, DependsOn: db.dependencies(s.id), Limits: db.limits[m.AccessKey]}
		var data struct {
			Scheduler struct {
				Retries int `json:"retries"`
			} `json:"scheduler"`
		}
		if json.Unmarshal(m.StatusData, &data) == nil {
			p.Retries = data.Scheduler.Retries
		}
		for _, k := range s.rows {
			pk := protocol.PendingKernel{ID: k.ID, Image: k.Image, Architecture: k.Architecture, Slots: k.OccupiedSlots}
			if k.Kernel.Agent != nil {
				pk.Agent = *k.Kernel.Agent
			}
			p.Kernels = append(p.Kernels, pk)
		}
		list = append(list, p)
	}
	return list
}

func (db *database) dependencies(id uuid.UUID) (list []protocol.Dependency) {
	s := db.sessions[id]
	if s == nil {
		return nil
	}
	for _, d := range s.depends {
		if on := db.sessions[d]; on != nil {
			list = append(list, protocol.Dependency{ID: d, Name: on.rows[0].SessionName, Success: on.rows[0].Result == backendai.ResultSuccess})
		}
	}
	return list
}

// holder is the live session of an access key that has a name (ix_kernels_unique_sess_token).
func (db *database) holder(key, name string) *saved {
	for _, s := range db.order {
		if m := s.rows[0]; !m.Status.IsDead() && m.AccessKey == key && m.SessionName == name {
			return s
		}
	}
	return nil
}

// take raises epochs, as package persistence/postgres/shards does.
func (db *database) take(shards []int32) map[int32]int64 {
	epochs := make(map[int32]int64, len(shards))
	for _, s := range shards {
		db.epochs[s]++
		epochs[s] = db.epochs[s]
	}
	return epochs
}

// addAgent keeps ids sorted.
func (db *database) addAgent(a record.Agent) {
	if db.agents[a.ID] == nil {
		at, _ := slices.BinarySearchFunc(db.ids, a.ID, strings.Compare)
		db.ids = slices.Insert(db.ids, at, a.ID)
	}
	db.agents[a.ID] = &a
}
