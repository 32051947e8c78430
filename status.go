package backendai

// KernelStatus is where a kernel stands in its life. Its text is the name that the database, the API and GraphQL use
// (spec/scheduling §1.1). A session has no status of its own: see SessionStatus.
type KernelStatus string

// The statuses in the order of the database enum, which is also the order of ORDER BY.
const (
	Pending     KernelStatus = "PENDING"     // enqueued
	Scheduled   KernelStatus = "SCHEDULED"   // agent chosen, slots reserved
	Preparing   KernelStatus = "PREPARING"   // taken for creation, or being created by the agent
	Building    KernelStatus = "BUILDING"    // reserved, never produced
	Pulling     KernelStatus = "PULLING"     // the agent is pulling the image
	Running     KernelStatus = "RUNNING"     //
	Restarting  KernelStatus = "RESTARTING"  //
	Resizing    KernelStatus = "RESIZING"    // reserved, never produced
	Suspended   KernelStatus = "SUSPENDED"   // reserved, never produced
	Terminating KernelStatus = "TERMINATING" // destroy requested
	Terminated  KernelStatus = "TERMINATED"  // dead after having run
	Failed      KernelStatus = "ERROR"       // destroy or restart failed; still holds its resources
	Cancelled   KernelStatus = "CANCELLED"   // dead without having run, or its start failed
)

// statusBit gives each status a bit, in enum order.
var statusBit = func() map[KernelStatus]StatusSet {
	m := make(map[KernelStatus]StatusSet, len(KernelStatuses))
	for i, s := range KernelStatuses {
		m[s] = 1 << i
	}
	return m
}()

// KernelStatuses lists all statuses in enum order.
var KernelStatuses = [...]KernelStatus{Pending, Scheduled, Preparing, Building, Pulling, Running, Restarting, Resizing, Suspended,
	Terminating, Terminated, Failed, Cancelled}

// ParseKernelStatus accepts the exact upper-case name. Errors: InvalidArgument.
func ParseKernelStatus(name string) (KernelStatus, error) {
	if s := KernelStatus(name); statusBit[s] != 0 {
		return s, nil
	}
	return "", Errorf(InvalidArgument, "unknown kernel status: %s", Repr(clip(name)))
}

// Valid tells whether s is one of the statuses.
func (s KernelStatus) Valid() bool { return statusBit[s] != 0 }

// IsDead tells whether s is final: TERMINATED or CANCELLED.
func (s KernelStatus) IsDead() bool { return s == Terminated || s == Cancelled }

// OccupiesAgent tells whether a kernel in this status holds slots of its agent.
func (s KernelStatus) OccupiesAgent() bool { return AgentResourceOccupying.Has(s) }

// OccupiesUser tells whether a kernel in this status counts against the quotas of its owner.
func (s KernelStatus) OccupiesUser() bool { return UserResourceOccupying.Has(s) }

// StatusSet is a set of statuses.
type StatusSet uint16

// Every accounting rule refers to one of these sets (spec/scheduling §1.1).
var (
	// AgentResourceOccupying: slots on the agent are taken. ERROR is in: nobody knows whether the container is gone.
	AgentResourceOccupying = Statuses(Scheduled, Preparing, Building, Pulling, Running, Restarting, Resizing, Suspended, Terminating, Failed)
	// UserResourceOccupying: counts against quotas; a user who has asked for the end may start the next one.
	UserResourceOccupying = Statuses(Scheduled, Preparing, Building, Pulling, Running, Restarting, Resizing, Suspended, Failed)
	// ResourceUsage: shown in usage reports.
	ResourceUsage = Statuses(Terminated, Running)
	// Dead: final.
	Dead = Statuses(Cancelled, Terminated)
	// Live: usable by its owner now.
	Live = Statuses(Running)
)

// Statuses makes a set. An unknown status panics: it is a programming error.
func Statuses(list ...KernelStatus) (set StatusSet) {
	for _, s := range list {
		bit := statusBit[s]
		if bit == 0 {
			panic("unknown kernel status " + string(s))
		}
		set |= bit
	}
	return set
}

// Has tells whether s is in the set.
func (set StatusSet) Has(s KernelStatus) bool { return set&statusBit[s] != 0 }

// Not is the complement.
func (set StatusSet) Not() StatusSet { return ^set & (1<<len(KernelStatuses) - 1) }

// List returns the members in enum order, e.g. for a SQL array.
func (set StatusSet) List() (list []KernelStatus) {
	for _, s := range KernelStatuses {
		if set.Has(s) {
			list = append(list, s)
		}
	}
	return list
}

// RoleStatus is all that SessionStatus needs to know of a kernel.
type RoleStatus struct {
	Role   string
	Status KernelStatus
}

// SessionStatus is the status of a session: that of its main kernel (spec/scheduling §1.1). ok is false without a main kernel.
func SessionStatus(kernels []RoleStatus) (status KernelStatus, ok bool) {
	for _, k := range kernels {
		if k.Role == MainRole {
			return k.Status, true
		}
	}
	return "", false
}

// AllDead tells whether a session has ended: every kernel is dead. This, not the main kernel alone, decides when session_terminated
// is announced (spec/scheduling §12.2). False for no kernels.
func AllDead(kernels []RoleStatus) bool {
	for _, k := range kernels {
		if !k.Status.IsDead() {
			return false
		}
	}
	return len(kernels) > 0
}
