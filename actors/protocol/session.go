package protocol

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// Create asks for a new session; the shard makes its actor. Answered with
// Enqueued once the rows are committed or, with Await, with Outcome as AwaitStart is;
// with Enqueued all the same if the session has been there before and is gone.
// Errors: SessionAlreadyExists, InvalidAPIParameters, ServiceUnavailable.
type Create struct {
	Kernels      []*record.Kernel // PENDING, main first
	Dependencies []Dependency
	Launch       Launch
	Scheduling   Limits
	Await        bool
	Reply        ReplyTo
}

// Enqueued answers Create.
type Enqueued struct{ SessionID uuid.UUID }

// Launch is what create_kernels needs beyond the rows. It is derived from rows of
// other tables when the session starts, so it is not persisted with the session.
type Launch struct {
	IdleTimeout int64  // of the keypair's resource policy, seconds
	AutoPull    string // etcd config/docker/image/auto_pull
	// Images by canonical name: registry, digest and labels as the agent wants them.
	Images map[string]LaunchImage
	// Network is what to create before a session of several containers starts.
	OverlayMTU string
}

// LaunchImage is an image of a session as create_kernels describes it (spec/agent-protocol §4.2).
type LaunchImage struct {
	RegistryName string
	RegistryURL  string
	Username     string
	Password     Secret
	Digest       string
	Labels       map[string]string
}

// Secret is text that must not be shown; it renders as asterisks.
type Secret string

func (Secret) String() string   { return "***" }
func (Secret) GoString() string { return "***" }

// AwaitStart asks to be told when the session has started or will not any more.
// Answered with Outcome. Error: SessionNotFound when the session is gone.
type AwaitStart struct{ Reply ReplyTo }

// Outcome answers AwaitStart.
type Outcome struct {
	Status       backendai.KernelStatus
	ServicePorts json.RawMessage
}

// Destroy asks to end the session. Answered with Destroyed when its rows are dead
// or the agents have not answered in time.
// Errors: GenericForbidden (a status that cannot be destroyed), SessionNotFound.
type Destroy struct {
	Reason string
	Forced bool
	// Again: the answer to the same request, or its first owner, was lost; it may have been carried out already.
	Again bool
	Now   time.Time
	Reply ReplyTo
}

// Destroyed answers Destroy with the main kernel's last statistics, nil if there are none.
type Destroyed struct{ Stats json.RawMessage }

// Restart asks to restart every kernel of a running session. Answered with nil.
// Errors: KernelRestartFailed, SessionNotFound, InvalidAPIParameters.
type Restart struct {
	Again bool // as in Destroy
	Now   time.Time
	Reply ReplyTo
}

// Rename gives a running session another name. Answered with nil.
// Errors: SessionAlreadyExists, InvalidAPIParameters.
type Rename struct {
	Name  string
	Reply ReplyTo
}

// Invoke asks the agent of the session's main kernel something. Answered with the
// RPC's result as raw MessagePack.
// Errors: SessionNotFound, InvalidAPIParameters (not running), the call's own.
type Invoke struct {
	Call     callosum.Call
	Deadline time.Time
	Query    bool // counts in num_queries
	Reply    ReplyTo
}

// Placement is the scheduler's decision where each kernel runs. The session
// commits it under both epochs and answers with Placed.
type Placement struct {
	SessionID    uuid.UUID
	ScalingGroup string
	Scheduler    journal.Guard
	Kernels      []KernelPlacement
	Now          time.Time
}

// KernelPlacement puts one kernel on one agent.
type KernelPlacement struct {
	KernelID uuid.UUID
	Agent    string
	Addr     string
}

// Attempt tells a pending session that the scheduler has looked at it and what it
// found; the session keeps it in its row's status_info and status_data.
type Attempt struct {
	StatusInfo *string // nil: unchanged
	Scheduler  SchedulerData
	KernelID   uuid.UUID // the row to write besides the main one; zero: only that
}

// SchedulerData is status_data.scheduler as clients read it (spec/scheduling-lifecycle §5.3).
type SchedulerData struct {
	Retries int                `json:"retries,omitempty"`
	LastTry string             `json:"last_try,omitempty"` // UTC, ISO 8601 with microseconds
	Failed  []PredicateFailure `json:"failed_predicates"`
	Passed  []PredicateName    `json:"passed_predicates"`
	Msg     string             `json:"msg,omitempty"`
}

// PredicateFailure is a predicate that said no, and its message.
type PredicateFailure struct {
	Name string `json:"name"`
	Msg  string `json:"msg"`
}

// PredicateName is a predicate that said yes.
type PredicateName struct {
	Name string `json:"name"`
}

// Preempt tells a running session that it has to go, because its slots are wanted for one of a higher priority. It ends as if its owner
// had asked for it, with the reason "preempted"; a session that does not run, or did not say that it may be preempted, stays.
// Saying it twice comes to the same.
type Preempt struct {
	For uuid.UUID // the session that gets the slots
	Now time.Time
}

// TimedOut tells a pending session that its scaling group's pending_timeout has passed.
type TimedOut struct{}

// AgentEvent is an event about one kernel (or its session) from the bus.
type AgentEvent struct {
	Name       string // kernel_started, …
	KernelID   uuid.UUID
	CreationID string // kernel events of a creation
	Reason     string
	ExitCode   int
	Now        time.Time // when it was received
	// Sought is set once the kernel's row was asked whose it is. Before that the event may have come to where a main kernel would be,
	// which has its session's id.
	Sought bool
}

// Misled tells whether an event has come to a session that is not there, and may be about a kernel of another one.
func (e *AgentEvent) Misled(session string) bool { return !e.Sought && session == e.KernelID.String() }

// KernelLog is the log that a container has left behind; the shard keeps it, whether the session still lives or not.
// Answered with nil once it is written.
type KernelLog struct {
	KernelID uuid.UUID
	Log      []byte
	Reply    ReplyTo
}
