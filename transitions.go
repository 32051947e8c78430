package backendai

import (
	"fmt"
	"time"
)

// Trigger says what causes a status change.
type Trigger string

// The triggers (spec/scheduling §5.1).
const (
	TriggerRetry        Trigger = "retry"         // the scheduler looked and found no place, or recorded its checks
	TriggerPlaced       Trigger = "placed"        // the scheduler chose an agent
	TriggerTimeout      Trigger = "timeout"       // waited longer than pending_timeout
	TriggerPrepare      Trigger = "prepare"       // taken for creation
	TriggerPulling      Trigger = "pulling"       // event kernel_pulling
	TriggerCreating     Trigger = "creating"      // event kernel_creating
	TriggerStarted      Trigger = "started"       // creation result and event kernel_started
	TriggerStartFailure Trigger = "start-failure" // some kernel of the session could not be created
	TriggerDestroy      Trigger = "destroy"       // asked for by a user, an idle check, the end of a batch
	TriggerForced       Trigger = "forced"        // the same with force
	TriggerEnded        Trigger = "ended"         // event kernel_terminated, or there is no agent to ask
	TriggerRestart      Trigger = "restart"       // asked for by a user
	TriggerFault        Trigger = "fault"         // destroy or restart raised an error
)

// Transition is one edge of the state graph.
type Transition struct {
	From, To KernelStatus
	Trigger  Trigger
}

// Transitions is the state graph. Edges from a status to itself change only what goes with the status (status_info, status_data).
//
//	PENDING ─ SCHEDULED ─ PREPARING ⇄ PULLING ─ RUNNING ⇄ RESTARTING
//	   │          │           │          │         │          │
//	   └──────────┴─ CANCELLED ──────────┴─ (start failure)   │
//	                                               └─ TERMINATING ─ TERMINATED
//	any but a dead one ─ ERROR ─ (force) TERMINATED
//
// Other than in the original, PULLING and PREPARING are entered only from before RUNNING, so that a late event moves nothing back, and dead
// kernels of a live session are not moved to TERMINATING again. (spec/scheduling §5.1, §12.1; both marked as fixes there)
var Transitions = buildTransitions()

func buildTransitions() (edges []Transition) {
	add := func(trigger Trigger, to KernelStatus, from StatusSet) {
		for _, f := range from.List() {
			edges = append(edges, Transition{f, to, trigger})
		}
	}
	creating := Statuses(Preparing, Pulling)
	add(TriggerRetry, Pending, Statuses(Pending))
	add(TriggerPlaced, Scheduled, Statuses(Pending))
	add(TriggerTimeout, Cancelled, Statuses(Pending))
	add(TriggerDestroy, Cancelled, Statuses(Pending))
	add(TriggerPrepare, Preparing, Statuses(Scheduled))
	add(TriggerPulling, Pulling, creating|Statuses(Scheduled))
	add(TriggerCreating, Preparing, creating|Statuses(Scheduled))
	add(TriggerStarted, Running, creating|Statuses(Restarting))
	add(TriggerStartFailure, Cancelled, creating|Statuses(Scheduled, Running))
	add(TriggerRestart, Restarting, Statuses(Running))
	add(TriggerDestroy, Terminating, Statuses(Building, Running, Restarting, Resizing, Suspended))
	add(TriggerForced, Terminated, Statuses(Scheduled, Preparing, Terminating, Failed))
	add(TriggerEnded, Terminated, Statuses(Cancelled, Terminated, Restarting).Not())
	add(TriggerFault, Failed, Dead.Not())
	return edges
}

// nextStatuses is the graph without triggers.
var nextStatuses = func() map[KernelStatus]StatusSet {
	m := make(map[KernelStatus]StatusSet, len(KernelStatuses))
	for _, t := range Transitions {
		m[t.From] |= statusBit[t.To]
	}
	return m
}()

// CanMove tells whether a kernel may go from one status to another: there is an edge. A new kernel comes from "" and must be PENDING.
func CanMove(from, to KernelStatus) bool {
	if from == "" {
		return to == Pending
	}
	return nextStatuses[from].Has(to)
}

// CanTrigger is CanMove for one trigger: an agent's event may not do what only a user may ask for.
func CanTrigger(trigger Trigger, from, to KernelStatus) bool {
	for _, t := range Transitions {
		if t.From == from && t.To == to && t.Trigger == trigger {
			return true
		}
	}
	return false
}

// CheckMove is CanMove as an error. Errors: InvalidTransition.
func CheckMove(from, to KernelStatus) error {
	if CanMove(from, to) {
		return nil
	}
	return Errorf(InvalidTransition, "a kernel cannot go from %s to %s", orNew(from), to)
}

func orNew(s KernelStatus) string {
	if s == "" {
		return "(new)"
	}
	return string(s)
}

// Destroy decides what asking for the end of a kernel does to its status. Dead kernels stay as they are. Errors: GenericForbidden for
// a status that cannot be ended this way; PULLING not even by force. (spec/scheduling §12.1)
func Destroy(s KernelStatus, forced bool) (KernelStatus, error) {
	switch s {
	case Terminated, Cancelled:
		return s, nil
	case Pending:
		return Cancelled, nil
	case Pulling:
		return "", Errorf(GenericForbidden, "Cannot destroy kernels in pulling status")
	case Scheduled, Preparing, Terminating, Failed:
		if forced {
			return Terminated, nil
		}
		return "", Errorf(GenericForbidden, "Cannot destroy kernels in scheduled/preparing/terminating/error status")
	}
	return Terminating, nil
}

// StatusInfo is the short reason that goes with a status. The column is free text: images (while pulling) and reasons of agents and users
// appear there too. (spec/scheduling §5.2)
type StatusInfo string

// What the manager writes.
const (
	InfoPredicateFailed     StatusInfo = "predicate-checks-failed"
	InfoNoInstances         StatusInfo = "no-available-instances"
	InfoSchedulerError      StatusInfo = "scheduler-error"
	InfoScheduled           StatusInfo = "scheduled"
	InfoNone                StatusInfo = "" // preparing, running
	InfoPendingTimeout      StatusInfo = "pending-timeout"
	InfoFailedToStart       StatusInfo = "failed-to-start"
	InfoUserRequested       StatusInfo = "user-requested" // default of a destroy through the API
	InfoForceTerminated     StatusInfo = "force-terminated"
	InfoTaskFinished        StatusInfo = "task-finished" // end of a batch
	InfoIdleTimeout         StatusInfo = "idle-timeout"
	InfoIdleSessionLifetime StatusInfo = "idle-session_lifetime"
	InfoIdleUtilization     StatusInfo = "idle-utilization"
	InfoTimeLimit           StatusInfo = "time-limit"      // it has run as long as it said it would at most; not in the original
	InfoPreempted           StatusInfo = "preempted"       // it had to go for one of a higher priority; not in the original
	InfoKilledByEvent       StatusInfo = "killed-by-event" // terminate event without a reason
	InfoMissingAgent        StatusInfo = "missing-agent-allocation"
)

// What agents report with kernel_terminated.
const (
	InfoSelfTerminated    StatusInfo = "self-terminated"    // the container died by itself, or vanished
	InfoAlreadyTerminated StatusInfo = "already-terminated" // destroy of a kernel the agent does not know
	InfoExecTimeout       StatusInfo = "exec-timeout"
	InfoUnknownContainer  StatusInfo = "terminated-unknown-container"
	InfoAgentTermination  StatusInfo = "agent-termination"
	InfoRestartTimeout    StatusInfo = "restart-timeout"
)

// Operations that ERROR statuses name.
const (
	OperationDestroy = "destroy_session"
	OperationRestart = "restart_session"
)

// InfoOperationTimeout is the reason of an ERROR after an operation that took too long.
func InfoOperationTimeout(operation string) StatusInfo {
	return StatusInfo(fmt.Sprintf("operation-timeout (%s)", operation))
}

// InfoAgentError is the reason of an ERROR that an agent reported; repr as the agent sent it.
func InfoAgentError(repr string) StatusInfo { return StatusInfo(fmt.Sprintf("agent-error (%s)", repr)) }

// InfoOtherError is the reason of an ERROR of another kind.
func InfoOtherError(repr string) StatusInfo { return StatusInfo(fmt.Sprintf("other-error (%s)", repr)) }

// StatusChange is one entry of a history. 22.03 has no such column; the project keeps it beside the schema.
type StatusChange struct {
	Status KernelStatus `json:"status"`
	At     time.Time    `json:"at"`
	Info   StatusInfo   `json:"info,omitempty"`
}

// StatusHistory is the path of a kernel through the state graph, oldest first.
type StatusHistory []StatusChange

// Current is the latest status, "" for none.
func (h StatusHistory) Current() KernelStatus {
	if len(h) == 0 {
		return ""
	}
	return h[len(h)-1].Status
}

// Append returns h with a change. An edge to the same status updates the last entry's info and keeps its time, so that retries do not make
// a history grow. A time before the last entry's (a clock stepped back) is raised to it. h itself is not changed.
// Errors: InvalidTransition.
func (h StatusHistory) Append(status KernelStatus, at time.Time, info StatusInfo) (StatusHistory, error) {
	if err := CheckMove(h.Current(), status); err != nil {
		return h, err
	}
	next := make(StatusHistory, len(h), len(h)+1)
	copy(next, h)
	if n := len(next); n > 0 {
		last := &next[n-1]
		if last.Status == status {
			last.Info = info
			return next, nil
		}
		if at.Before(last.At) {
			at = last.At
		}
	}
	return append(next, StatusChange{status, at, info}), nil
}

// IsPath tells whether h is a path of the state graph from PENDING, in order of time.
func (h StatusHistory) IsPath() bool {
	from := KernelStatus("")
	for i, c := range h {
		if !CanMove(from, c.Status) || (i > 0 && c.At.Before(h[i-1].At)) {
			return false
		}
		from = c.Status
	}
	return true
}
