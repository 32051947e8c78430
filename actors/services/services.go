package services

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/redis/event"
)

// Services are shared by all actors of a node.
type Services struct {
	Log       *slog.Logger
	System    *actor.ActorSystem
	Inspector *inspector.Inspector
	Router    *cluster.Router
	Journal   outbox.Journal
	Agents    *callosum.Client
	Bus       Bus
	Live      Live
	Store     Store
	Hooks     Hooks
	Networks  Networks
	Work      *Workers
	Roster    *Roster
	// Seek brings an event, of whose kernel there is no session of that id, to the session that the kernel's row names. It never blocks.
	Seek func(*protocol.AgentEvent)
	// HeartbeatTimeout is how long an agent may be silent before it counts as lost.
	HeartbeatTimeout time.Duration
	// Debug records agents' ids with start failures, as the original's debug mode does.
	Debug bool
	// SchedulerRecord is of how many of its last steps a scheduler keeps a record, to be replayed; 0: none.
	SchedulerRecord int
}

// Bus puts events on the stream, on behalf of a source: an agent, or "" for this manager. It never blocks; events may be lost.
type Bus interface {
	Publish(e event.Event, source string)
}

// Live is the volatile state that clients and agents share through Redis; all of it can be lost.
type Live interface {
	// Seen notes that an agent was heard of. It never blocks.
	Seen(agent string, at time.Time)
	// Forget removes an agent that has left or was lost. It never blocks.
	Forget(agent string)
	// Images notes which images an agent has. It never blocks.
	Images(agent string, images []string)
	// Concurrency notes how many sessions an access key has. It never blocks.
	Concurrency(accessKey string, sessions int)
	// Accessed starts (or, when busy, stops) the idle clock of a session. It never blocks.
	Accessed(session uuid.UUID, busy bool)
	// Statistics reads a kernel's last statistics as JSON; nil if there are none.
	Statistics(ctx context.Context, kernel uuid.UUID) (json.RawMessage, error)
	// ContainerLog hands the log that a container's agent has left to keep, and removes it when keep has succeeded.
	ContainerLog(ctx context.Context, container string, keep func([]byte) error) error
}

// Store reads what actors need and do not own.
type Store interface {
	// Shard reads the live rows of sessions and the agents that hash to the given shards, of n in all.
	Shard(ctx context.Context, shards []int32, n int) (*ShardRows, error)
	// Session reads the rows of one session, main first; none if it does not exist.
	Session(ctx context.Context, id uuid.UUID) ([]record.Kernel, error)
	// SessionOfKernel finds the session of a kernel.
	SessionOfKernel(ctx context.Context, kernel uuid.UUID) (uuid.UUID, bool, error)
	// SessionsOn lists the live sessions that have a kernel on an agent.
	SessionsOn(ctx context.Context, agent string) ([]uuid.UUID, error)
	// Scheduler reads what a scheduler of a scaling group starts from.
	Scheduler(ctx context.Context, scalingGroup string) (*protocol.SchedulerLoaded, error)
	// ScalingGroups lists the names of all scaling groups.
	ScalingGroups(ctx context.Context) ([]string, error)
	// Policy reads how a scaling group schedules now, and what of it is not understood.
	Policy(ctx context.Context, scalingGroup string) (*protocol.PolicyChanged, error)
	// Limits reads the quotas and rights that bind an owner.
	Limits(ctx context.Context, owner protocol.Owner) (protocol.Limits, error)
	// Dependencies reads what a pending session waits for.
	Dependencies(ctx context.Context, session uuid.UUID) ([]protocol.Dependency, error)
	// Launch reads what starting a session needs beyond its rows.
	Launch(ctx context.Context, rows []record.Kernel) (*protocol.Launch, error)
	// SlotTypes tells the cluster of slot types that an agent has.
	SlotTypes(ctx context.Context, slots []protocol.AgentSlot) error
	// KnownSlots are the cluster's slot types.
	KnownSlots(ctx context.Context) (*backendai.KnownSlots, error)
}

// ShardRows are the rows a shard starts from.
type ShardRows struct {
	Sessions map[int32][][]record.Kernel // by shard, each main first
	Agents   map[int32][]record.Agent
	// Remnants are kernels with dead rows that their agents may still hold: the destroy is said again.
	Remnants []Remnant
	// ScalingGroups whose schedulers live in the shard.
	ScalingGroups map[int32][]string
}

// Remnant is a kernel that its agent may still hold although its row is dead.
type Remnant struct {
	KernelID uuid.UUID
	Agent    string
}

// Hooks calls the web hooks of sessions. It never blocks.
type Hooks interface {
	Session(url, event string, session uuid.UUID, at time.Time)
}

// Networks makes and removes the networks that span agents.
type Networks interface {
	CreateOverlay(ctx context.Context, name, mtu string) (created bool, err error)
	RemoveOverlay(ctx context.Context, name string) error
}
