package kernel

import (
	"encoding/json"
	"errors"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// Stage is what a kernel's actor is doing.
type Stage string

// The stages.
const (
	Idle       Stage = "idle"       // pending, or being recovered
	Starting   Stage = "starting"   // create_kernels is out
	Running    Stage = "running"    //
	Restarting Stage = "restarting" // restart_kernel is out
	Aborting   Stage = "aborting"   // the session's start has failed; destroy_kernel is out
	Aborted    Stage = "aborted"    // gone from the agent; the session writes the row
	Ending     Stage = "ending"     // destroy_kernel is out
	Dead       Stage = "dead"       // row TERMINATED or CANCELLED
)

// Time limits. The original has none for these calls and hangs (spec/scheduling-lifecycle §7, FIX).
const (
	createTimeout  = time.Hour // an image may have to be pulled
	destroyTimeout = 3 * time.Minute
	restartTimeout = 5 * time.Minute
	probeTimeout   = 10 * time.Second
	// abortTimeout bounds how long the session of a failed start waits for the agent.
	abortTimeout = 30 * time.Second
	// retryPause is the first pause before a call that did not go through is sent again; it doubles up to maxRetryPause.
	retryPause    = 500 * time.Millisecond
	maxRetryPause = 30 * time.Second
	// createAttempts is how often a create is tried when the agent cannot be reached.
	createAttempts = 6
	// probePeriod is how often a running kernel's agent is asked whether it still has it: events can be lost.
	probePeriod = 2 * time.Minute
	// settleTime is how long an uncertain create may still be on its way to an agent, or going on inside one that does not say so.
	// In between the agent is asked whether it has come every settlePause.
	settleTime  = 15 * time.Second
	settlePause = 500 * time.Millisecond
)

// Timer kinds.
const (
	timerRetry = "retry"
	timerProbe = "probe"
	timerAbort = "abort"
)

// CallKind names an RPC of the kernel's agent.
type CallKind string

// The calls.
const (
	CallCreate  CallKind = "create_kernels"
	CallDestroy CallKind = "destroy_kernel"
	CallRestart CallKind = "restart_kernel"
	CallProbe   CallKind = "probe" // whether the agent has the kernel, by a call that has no effect
)

// Call is the effect of calling the agent; the answer comes back as a CallResult with the token.
type Call struct {
	Kind     CallKind
	Token    uint64
	Timeout  time.Duration
	Reason   string
	Suppress bool // destroy without kernel_terminated: nobody but us has seen the kernel
}

// Tell is the effect of telling the session.
type Tell struct{ Changed protocol.KernelChanged }

// Publish is the effect of putting an event on the bus.
type Publish struct {
	Name   string
	Reason string
}

// FetchStats is the effect of reading the kernel's last statistics; they come back as Stats.
type FetchStats struct{ Token uint64 }

// Stats is the event that brings them; nil if there are none.
type Stats struct {
	Token uint64
	Stats json.RawMessage
	Now   time.Time
}

// SetTimer is the effect of a Tick of that kind after a while; it replaces an earlier one of the same kind.
type SetTimer struct {
	Kind  string
	After time.Duration
}

// Recover is the first event of an actor made from a row that was alive before.
type Recover struct{ Now time.Time }

// Deposed is the effect of learning that the shard has another owner: the actor must not act any more.
type Deposed struct{}

// Crash is the effect of giving up with a reason: the supervisor rebuilds the actor from its row.
type Crash struct{ Reason string }

// inflight is an RPC whose answer is awaited.
type inflight struct {
	kind  CallKind
	token uint64
}

// Core is the state of one kernel.
type Core struct {
	Row   record.Kernel
	Stage Stage
	// Alone: the session has no other kernel, so that its end is the session's.
	Alone bool

	call      inflight
	nextToken uint64
	attempts  int
	uncertain bool // a create's answer was lost
	uncertAt  time.Time
	recreate  bool // an agent's leftover of a lost create is being destroyed; create again after
	// doubtful: there was, or may have been, an earlier incarnation. A kernel_terminated that comes late may be its, so that
	// none is believed without the agent's own word.
	doubtful bool
	// lateUntil is how long a create whose answer was lost may still reach the agent: a destroy before counts for nothing.
	lateUntil time.Time
	reason    string
	failure   *protocol.StartFailure
	statToken uint64
	stats     json.RawMessage
	statsIn   bool
	over      bool // the agent has said that the container has ended; a late create may still bring another
	gone      bool // the agent no longer has the kernel and will not get it again
	goneExit  int
}

// New makes the core of a kernel from its row.
func New(row record.Kernel) *Core {
	c := &Core{Row: row, Stage: Idle, Alone: row.ClusterSize <= 1, goneExit: -1}
	return c
}

// Step takes one event and returns what is to be done. Unknown events are ignored.
func (c *Core) Step(event any) []outbox.Effect {
	switch e := event.(type) {
	case *protocol.Start:
		return c.start(e)
	case *protocol.End:
		return c.end(e)
	case *protocol.RestartKernel:
		return c.restart(e)
	case *protocol.Renamed:
		c.Row.SessionName = e.Name
	case *protocol.CallResult:
		return c.result(e)
	case *protocol.AgentEvent:
		return c.busEvent(e)
	case *Stats:
		return c.statistics(e)
	case *protocol.Tick:
		return c.tick(e)
	case *Recover:
		return c.recover(e)
	case *protocol.Moved:
		return c.moved(e)
	case *protocol.Reconcile:
		if c.Stage == Running && c.call == (inflight{}) {
			return []outbox.Effect{c.send(CallProbe, probeTimeout)}
		}
	case *outbox.Refused:
		if errors.Is(e.Err, journal.ErrDeposed) || errors.Is(e.Err, journal.ErrStopped) {
			return []outbox.Effect{Deposed{}}
		}
		return []outbox.Effect{Crash{Reason: "rows refused at " + e.Label + ": " + e.Err.Error()}}
	}
	return nil
}

func (c *Core) send(kind CallKind, timeout time.Duration) Call {
	c.nextToken++
	c.call = inflight{kind, c.nextToken}
	return Call{Kind: kind, Token: c.nextToken, Timeout: timeout, Reason: c.reason}
}

// patch returns the effect of writing the named fields of the row as they are now.
func (c *Core) patch(label string, mask record.Field) *outbox.Persist {
	return &outbox.Persist{Label: label, Kernels: []*record.KernelPatch{{ID: c.Row.ID, Mask: mask, Kernel: c.Row}}}
}

// moveTo changes the status if the state graph has the edge. It reports whether it did.
func (c *Core) moveTo(status backendai.KernelStatus, info *string, now time.Time) bool {
	if !backendai.CanMove(c.Row.Status, status) {
		return false
	}
	restart := c.Row.Status == backendai.Running && status == backendai.Restarting || c.Row.Status == backendai.Restarting && status == backendai.Running
	c.Row.Status = status
	c.Row.StatusInfo = info
	if !restart || c.Row.StatusChanged == nil || !c.limited() {
		c.Row.StatusChanged = &now
	}
	return true
}

// limited tells whether the session has a time limit. It counts from when its rows say that they are RUNNING; a restart must not begin it
// anew, so it leaves that as it is (as all restarts do in the original, spec/scheduling-lifecycle §5.1).
func (c *Core) limited() bool {
	w, err := protocol.WishesOf(c.Row.ResourceOpts)
	return err == nil && w.TimeLimit > 0
}

func (c *Core) changed() protocol.KernelChanged {
	ch := protocol.KernelChanged{KernelID: c.Row.ID, Status: c.Row.Status, ServicePorts: c.Row.ServicePorts, Occupied: c.Row.OccupiedSlots}
	if c.Row.Agent != nil {
		ch.Agent = *c.Row.Agent
	}
	if c.Row.StatusInfo != nil {
		ch.Reason = *c.Row.StatusInfo
	}
	if c.Row.StatusChanged != nil {
		ch.Changed = *c.Row.StatusChanged
	}
	return ch
}

func text(s string) *string { return &s }
