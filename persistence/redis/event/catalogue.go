package event

import (
	"reflect"

	backendai "backend.ai/manager"
)

// Event is one of the types of this package, by value.
type Event interface{ isEvent() }

// Timers, published by one manager for all.
type (
	DoSchedule   struct{}
	DoPrepare    struct{}
	DoIdleCheck  struct{}
	DoLogCleanup struct{}
)

// DoTerminateSession is an idle checker's verdict; Reason is idle-timeout, idle-utilization or idle-session_lifetime.
type DoTerminateSession struct {
	Session backendai.SessionID
	Reason  string
}

// AgentStarted: reason self-started by the agent, revived by a manager. The source is the agent.
type AgentStarted struct{ Reason string }

// AgentTerminated: reason shutdown by the agent, agent-lost by a manager, agent-restart reserved. The source is the agent.
type AgentTerminated struct{ Reason string }

// AgentError is an exception inside an agent. Severity is critical, error, warning, info or debug.
type AgentError struct {
	Message   string
	Traceback *string
	User      *string
	Context   Object
	Severity  string
}

// AgentHeartbeat comes every 3 s. The source is the agent.
type AgentHeartbeat struct{ Info Heartbeat }

// The steps of a kernel's creation. Creation is the kernel-level id; Reason is the image's name in KernelPulling, empty in most others.
type (
	KernelEnqueued struct {
		Kernel   backendai.KernelID
		Creation backendai.CreationID
		Reason   string
	}
	KernelPreparing KernelEnqueued
	KernelPulling   KernelEnqueued
	KernelCreating  KernelEnqueued
	KernelStarted   KernelEnqueued
	KernelCancelled KernelEnqueued
)

// KernelPullProgress is defined and never sent by 22.03.
type KernelPullProgress struct {
	Kernel         backendai.KernelID
	Current, Total float64
	Message        *string
}

// KernelTerminating and KernelTerminated: agents of 22.03 always send exit code -1.
type (
	KernelTerminating struct {
		Kernel   backendai.KernelID
		Reason   string
		ExitCode int
	}
	KernelTerminated KernelTerminating
)

// The steps of a session. Creation is the session-level id.
type (
	SessionEnqueued struct {
		Session  backendai.SessionID
		Creation backendai.CreationID
		Reason   string
	}
	SessionScheduled SessionEnqueued
	SessionPreparing SessionEnqueued
	SessionCancelled SessionEnqueued
	SessionStarted   SessionEnqueued
)

// SessionTerminated carries the reason of the last kernel.
type SessionTerminated struct {
	Session backendai.SessionID
	Reason  string
}

// The result of a batch session, from the agent: task-done and 0; task-failed and the exit code; task-timeout or task-cancelled and -2.
type (
	SessionSuccess struct {
		Session  backendai.SessionID
		Reason   string
		ExitCode int
	}
	SessionFailure SessionSuccess
)

// DoSyncKernelLogs: the container's log lies in Redis (Set.DrainLog).
type DoSyncKernelLogs struct {
	Kernel    backendai.KernelID
	Container string
}

// DoSyncKernelStats: the kernels' statistics were refreshed.
type DoSyncKernelStats struct{ Kernels []backendai.KernelID }

// Executions. The id is that of the session's main kernel, which is also the session's.
type (
	ExecutionStarted   struct{ Session backendai.SessionID }
	ExecutionFinished  ExecutionStarted
	ExecutionTimeout   ExecutionStarted
	ExecutionCancelled ExecutionStarted
)

// BgtaskUpdated is the progress of a background task. The original sends null for no message, which its own client prints as "None":
// send an empty text.
type BgtaskUpdated struct {
	Task           string
	Current, Total Number
	Message        *string
}

// The ends of a background task.
type (
	BgtaskDone struct {
		Task    string
		Message *string
	}
	BgtaskCancelled BgtaskDone
	BgtaskFailed    BgtaskDone
)

func (DoSchedule) isEvent()         {}
func (DoPrepare) isEvent()          {}
func (DoIdleCheck) isEvent()        {}
func (DoLogCleanup) isEvent()       {}
func (DoTerminateSession) isEvent() {}
func (AgentStarted) isEvent()       {}
func (AgentTerminated) isEvent()    {}
func (AgentError) isEvent()         {}
func (AgentHeartbeat) isEvent()     {}
func (KernelEnqueued) isEvent()     {}
func (KernelPreparing) isEvent()    {}
func (KernelPulling) isEvent()      {}
func (KernelPullProgress) isEvent() {}
func (KernelCreating) isEvent()     {}
func (KernelStarted) isEvent()      {}
func (KernelCancelled) isEvent()    {}
func (KernelTerminating) isEvent()  {}
func (KernelTerminated) isEvent()   {}
func (SessionEnqueued) isEvent()    {}
func (SessionScheduled) isEvent()   {}
func (SessionPreparing) isEvent()   {}
func (SessionCancelled) isEvent()   {}
func (SessionStarted) isEvent()     {}
func (SessionTerminated) isEvent()  {}
func (SessionSuccess) isEvent()     {}
func (SessionFailure) isEvent()     {}
func (DoSyncKernelLogs) isEvent()   {}
func (DoSyncKernelStats) isEvent()  {}
func (ExecutionStarted) isEvent()   {}
func (ExecutionFinished) isEvent()  {}
func (ExecutionTimeout) isEvent()   {}
func (ExecutionCancelled) isEvent() {}
func (BgtaskUpdated) isEvent()      {}
func (BgtaskDone) isEvent()         {}
func (BgtaskCancelled) isEvent()    {}
func (BgtaskFailed) isEvent()       {}

// catalogue is every event with its name.
var catalogue = []struct {
	name  string
	event Event
}{
	{"do_schedule", DoSchedule{}}, {"do_prepare", DoPrepare{}}, {"do_idle_check", DoIdleCheck{}}, {"do_log_cleanup", DoLogCleanup{}},
	{"do_terminate_session", DoTerminateSession{}},
	{"agent_started", AgentStarted{}}, {"agent_terminated", AgentTerminated{}}, {"agent_error", AgentError{}}, {"agent_heartbeat", AgentHeartbeat{}},
	{"kernel_enqueued", KernelEnqueued{}}, {"kernel_preparing", KernelPreparing{}}, {"kernel_pulling", KernelPulling{}}, {"kernel_pull_progress", KernelPullProgress{}},
	{"kernel_creating", KernelCreating{}}, {"kernel_started", KernelStarted{}}, {"kernel_cancelled", KernelCancelled{}},
	{"kernel_terminating", KernelTerminating{}}, {"kernel_terminated", KernelTerminated{}},
	{"session_enqueued", SessionEnqueued{}}, {"session_scheduled", SessionScheduled{}}, {"session_preparing", SessionPreparing{}},
	{"session_cancelled", SessionCancelled{}}, {"session_started", SessionStarted{}}, {"session_terminated", SessionTerminated{}},
	{"session_success", SessionSuccess{}}, {"session_failure", SessionFailure{}},
	{"do_sync_kernel_logs", DoSyncKernelLogs{}}, {"do_sync_kernel_stats", DoSyncKernelStats{}},
	{"execution_started", ExecutionStarted{}}, {"execution_finished", ExecutionFinished{}}, {"execution_timeout", ExecutionTimeout{}}, {"execution_cancelled", ExecutionCancelled{}},
	{"bgtask_updated", BgtaskUpdated{}}, {"bgtask_done", BgtaskDone{}}, {"bgtask_cancelled", BgtaskCancelled{}}, {"bgtask_failed", BgtaskFailed{}},
}

var (
	typeOf = map[string]reflect.Type{}
	nameOf = map[reflect.Type]string{}
)

func init() {
	for _, c := range catalogue {
		t := reflect.TypeOf(c.event)
		typeOf[c.name], nameOf[t] = t, c.name
	}
}

// Name is the event's name on the bus.
func Name(e Event) string { return nameOf[reflect.TypeOf(e)] }
