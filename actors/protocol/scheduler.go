package protocol

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// Enqueue puts a committed pending session into its scaling group's queue.
type Enqueue struct{ Session PendingSession }

// PendingSession is what a scheduler decides on.
type PendingSession struct {
	ID           uuid.UUID
	CreationID   string
	Name         string
	Type         backendai.SessionType
	AccessKey    string
	DomainName   string
	GroupID      uuid.UUID
	ScalingGroup string
	ClusterMode  backendai.ClusterMode
	CreatedAt    time.Time
	StartsAt     *time.Time
	Kernels      []PendingKernel // main first
	DependsOn    []Dependency
	// Unmeetable are those of DependsOn that have ended without success, so that this one waits in vain. Only explanations look at it.
	Unmeetable []uuid.UUID
	Retries    int
	Limits     Limits
	Wishes     Wishes
}

// PendingKernel is one container to place.
type PendingKernel struct {
	ID           uuid.UUID
	Image        string
	Architecture string
	Slots        backendai.ResourceSlots
	Agent        string // designated by a superadmin; "" = any
}

// Dependency is a session that must have ended in success first.
type Dependency struct {
	ID      uuid.UUID
	Name    string
	Success bool
	// Failed: it has ended otherwise, or is of a type that never ends in success.
	Failed bool
}

// Owner is whose quotas bind a session.
type Owner struct {
	AccessKey  string
	GroupID    uuid.UUID
	DomainName string
}

// Limits are the quotas and rights that the predicates compare with. They come
// from rows that administrators change; LimitsChanged brings newer ones.
type Limits struct {
	MaxConcurrentSessions int // ≤ 0: no limit
	Keypair               backendai.ResourceSlots
	Group                 backendai.ResourceSlots
	Domain                backendai.ResourceSlots
	// Groups the requester may use, with the session types each accepts.
	ScalingGroups map[string][]backendai.SessionType
}

// Reprioritize asks a session that waits for another priority in its scaling group's queue; the session keeps it with its other
// options. Answered with nil once that is committed. Whether who asks may raise it is checked before.
// Errors: InvalidAPIParameters (not a priority; the session does not wait any more), SessionNotFound, ServiceUnavailable.
type Reprioritize struct {
	SessionID uuid.UUID
	Priority  int
	Reply     ReplyTo
}

// WishesChanged tells a scheduler what a waiting session says of itself now.
type WishesChanged struct {
	SessionID uuid.UUID
	Wishes    Wishes
}

// Withdraw takes a pending session out of the queue.
type Withdraw struct{ SessionID uuid.UUID }

// Placed tells the scheduler whether its placement was committed. If not, its slots are free again.
type Placed struct {
	SessionID uuid.UUID
	Committed bool
}

// Settle replaces a running kernel's request by what its agent really gave, and says since when it runs where its scheduler may
// want to know: it has a time limit, or may be preempted.
type Settle struct {
	KernelID uuid.UUID
	Slots    backendai.ResourceSlots
	Since    time.Time // zero: not said
}

// Ending frees the owner's quota of kernels whose end was asked for; the agent's slots stay taken.
type Ending struct{ KernelIDs []uuid.UUID }

// Release frees the slots of dead kernels.
type Release struct{ KernelIDs []uuid.UUID }

// LimitsChanged replaces the limits of pending sessions of one access key.
type LimitsChanged struct {
	SessionID uuid.UUID
	Limits    Limits
}

// DependencyDone tells schedulers that a batch session ended in success or, with Failed, that a session ended otherwise.
type DependencyDone struct {
	SessionID uuid.UUID
	Failed    bool
}

// PolicyChanged brings a scaling group's scheduler and its options. Where something of them is not understood, Problem says what, and
// Policy has the defaults in its place: they count only as long as nothing better was ever known.
type PolicyChanged struct {
	Policy  Policy
	Problem string
}

// PolicyStale tells a scheduler that its group's options may have changed: it reads them at once.
type PolicyStale struct{}

// Policy is how a scaling group schedules.
type Policy struct {
	Name           string // fifo, …
	RetriesToSkip  int
	PendingTimeout time.Duration // 0: none
	Options        Options
}

// Options are what a scaling group's scheduler does beyond the original's; all of it is off unless scheduler_opts.config asks for it.
type Options struct {
	// Priority ("priority": true) looks at sessions of a higher Wishes.Priority first, before the policy's own order.
	Priority bool
	// Backfill ("backfill": true) lets sessions behind one that fits nowhere start when that can't delay it (EASY).
	Backfill bool
	// Preemption ("preemption": true) ends preemptible sessions of lower priority for one that fits nowhere.
	Preemption bool
	// PreemptionMinRuntime ("preemption_min_runtime", seconds) is how long a session has run before it may be preempted.
	PreemptionMinRuntime time.Duration
	// FairShareHalfLife ("fair_share_half_life", seconds) orders by the owners' use in the past, which counts half after so long. 0: off.
	FairShareHalfLife time.Duration
	// Placement ("placement": "spread" or "pack") overrides how the policy chooses among the agents that fit. "": the policy's way.
	Placement string
	// MaxPending ("max_pending_sessions") and MaxPendingPerKeypair ("max_pending_sessions_per_keypair") bound the queue. 0: no bound.
	MaxPending, MaxPendingPerKeypair int
}

// Wishes are what a session may say of itself in its resource_opts, for the schedulers' Options.
type Wishes struct {
	// Priority ("priority"), -1000…1000; higher goes first.
	Priority int
	// Preemptible ("preemptible": true): it may be ended for others.
	Preemptible bool
	// TimeLimit ("time_limit", seconds): it is ended when it has been RUNNING so long. 0: none.
	TimeLimit time.Duration
}

// Requeue asks a session to enqueue itself again (the scheduler has restarted, or refused a stale request).
type Requeue struct{}

// Allocation is one kernel's share of one agent.
type Allocation struct {
	SessionID  uuid.UUID
	KernelID   uuid.UUID
	Agent      string
	Slots      backendai.ResourceSlots
	Main       bool
	AccessKey  string
	GroupID    uuid.UUID
	DomainName string
	// CountsForUser is false once the end was asked for: the agent's slots are still
	// taken, the owner's quota is not (USER_RESOURCE_OCCUPYING excludes TERMINATING).
	CountsForUser bool
	Wishes        Wishes
	// Since is when the kernel has become RUNNING, as far as is known; zero before.
	Since time.Time
	// Placed is when it got its agent, as far as is known.
	Placed time.Time
}

// SchedulerLoaded is what the rows say when a scheduler takes its scaling group over.
type SchedulerLoaded struct {
	Policy      Policy
	Problem     string // of the policy, as in PolicyChanged
	Known       *backendai.KnownSlots
	Agents      []AgentState
	Allocations []*Allocation
	Pending     []PendingSession
	// Uses are what owners had used when it was written down. UsesRead: they were read, which only a fair share is worth.
	Uses     []PastUse
	UsesRead bool
}

// PastUse is what an access key had used of a scaling group as of a time: slot-seconds of each kind of slot, decayed by the half-life of
// the group's fair share.
type PastUse struct {
	AccessKey   string
	SlotSeconds map[backendai.SlotName]float64
	At          time.Time
}

// Recount has a scheduler read its rows again and write what it derives of them (agents' occupied slots, sessions of access keys) anew.
type Recount struct{}

// Reread is what the rows say while the scheduler is at work: messages between nodes can be lost, rows can't.
type Reread struct{ Rows *SchedulerLoaded }

// KnownSlotsChanged brings the cluster's slot types; messages about quotas name them all.
type KnownSlotsChanged struct{ Known *backendai.KnownSlots }
