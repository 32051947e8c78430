package protocol

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// Start tells a kernel, whose placement is committed, to have itself created.
type Start struct {
	Agent        string
	Addr         string
	ScalingGroup string
	Now          time.Time
	Config       callosum.KernelCreationConfig
	Cluster      callosum.ClusterInfo
}

// End tells a kernel to go.
type End struct {
	Reason string
	Forced bool
	// Abort ends a start that failed elsewhere in the session: the row is left to the session.
	Abort bool
	Now   time.Time
}

// RestartKernel tells a running kernel to have itself restarted.
type RestartKernel struct{ Now time.Time }

// Renamed tells a kernel its session's new name.
type Renamed struct{ Name string }

// KernelChanged tells the session what has become of a kernel, after its row says so.
type KernelChanged struct {
	KernelID     uuid.UUID
	Status       backendai.KernelStatus
	Changed      time.Time // when the row has got its status; zero if it does not say
	Reason       string
	ServicePorts json.RawMessage
	Occupied     backendai.ResourceSlots // what the agent really gave, when RUNNING
	Stats        json.RawMessage         // last statistics, when dead
	Agent        string
	// Failure says why a start or restart failed.
	Failure *StartFailure
	// Freed: the agent no longer holds the kernel's slots.
	Freed bool
	// GaveUp: the agent has not said in time that it no longer holds the kernel of a failed start. The session need not
	// wait for it; the kernel goes on asking.
	GaveUp bool
	Now    time.Time
}

// StartFailure is one entry of status_data.error (spec/scheduling-lifecycle §5.3).
type StartFailure struct {
	Src     string `json:"src"` // agent, other
	AgentID string `json:"agent_id,omitempty"`
	Name    string `json:"name"`
	Repr    string `json:"repr"`
}

// Reconcile asks a session to have its running kernels find out whether their agents still have them.
type Reconcile struct{}

// LostShard tells a shard, or a kernel's session, that a write was refused because the shard has another owner.
type LostShard struct{}
