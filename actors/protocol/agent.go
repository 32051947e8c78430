package protocol

import (
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// Heartbeat is what an agent says of itself every few seconds (spec/agent-protocol §10.2).
type Heartbeat struct {
	Agent          string
	Region         string
	ScalingGroup   string
	Addr           string
	Slots          []AgentSlot
	Version        string
	Architecture   string
	ComputePlugins json.RawMessage
	Images         []string // canonical references
	Features       []string // abilities beyond the original's, of bundled agents
	Received       time.Time
}

// AgentSlot is one slot type of an agent with its unit and amount.
type AgentSlot struct {
	Name   string
	Type   backendai.SlotType
	Amount backendai.Decimal
}

// AgentLeft tells the twin that the agent said goodbye (agent_terminated) or was found lost.
type AgentLeft struct {
	Agent  string
	Reason string
	Now    time.Time
}

// AgentJoined tells the twin that the agent said hello (agent_started).
type AgentJoined struct {
	Agent  string
	Reason string
}

// Call asks a twin for an RPC of its agent. The answer goes to From as a
// CallResult, or to Reply.
type Call struct {
	Call callosum.Call
	// At is when it was asked for. A twin does not carry out what is older than CallTimeout.
	At       time.Time
	Deadline time.Time
	Token    uint64
	From     Ref
	Reply    ReplyTo
	// Fence is the caller's shard and epoch; agents that know epochs refuse older ones.
	Fence callosum.Fence
}

// CallTimeout is how long a Call may take from who asks to the agent's twin. A node that was stopped meanwhile has been replaced, and its successor
// does not wait longer than a little more than this for what it may have left on the way.
const CallTimeout = 8 * time.Second

// CallResult answers a Call of an actor. Value is raw MessagePack; Err is nil, a
// *callosum.RemoteError or a *callosum.LinkError.
type CallResult struct {
	Token uint64
	Value []byte
	Err   error
	// Repeatable: the agent creates a kernel once, however often it is asked to.
	Repeatable bool
	Now        time.Time
}

// SetSchedulable includes the agent in scheduling or takes it out. Answered with nil.
type SetSchedulable struct {
	Agent       string
	Schedulable bool
	Reply       ReplyTo
}

// AgentState is what the scheduler of the agent's scaling group must know of it.
type AgentState struct {
	ID           string
	Addr         string
	ScalingGroup string
	Architecture string
	Alive        bool
	Schedulable  bool
	Available    backendai.ResourceSlots
}
