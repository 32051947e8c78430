package journal

import (
	"errors"

	"github.com/google/uuid"

	"backend.ai/manager/persistence/postgres/record"
)

// Why an entry was not written. The journal gives exactly one of these, or the
// database's own error for an entry that it refused alone.
var (
	// ErrDeposed: the shard (or the scheduler's shard) has changed hands since the entry was made.
	ErrDeposed = errors.New("journal: the shard is owned by a later epoch")
	// ErrSchedulerDeposed: like ErrDeposed, for the second guard of a placement only.
	ErrSchedulerDeposed = errors.New("journal: the scheduler that decided this has been replaced")
	// ErrNameTaken: a live session of that access key has the name already (ix_kernels_unique_sess_token).
	ErrNameTaken = errors.New("journal: a live session has that name")
	// ErrRepeated: the session was created by an earlier entry, and is not PENDING any more.
	ErrRepeated = errors.New("journal: the session has been created before")
	// ErrUnknownScalingGroup: an agent names a scaling group that has no row.
	ErrUnknownScalingGroup = errors.New("journal: no such scaling group")
	// ErrStopped: the journal was stopped before the entry was committed.
	ErrStopped = errors.New("journal: stopped")
	// ErrFull: the writer's queue is at its bound; nothing was taken, submit again later.
	ErrFull = errors.New("journal: queue is full")
)

// Guard names a shard and the epoch under which rows were made.
type Guard struct {
	Shard int32
	Epoch int64
}

// NewSession is a session's first rows: the main kernel and its siblings, all
// PENDING, and the sessions it depends on. It is written whole or not at all.
type NewSession struct {
	Kernels   []*record.Kernel // main first
	DependsOn []uuid.UUID
}

// AgentField names a group of columns of public.agents that change together.
type AgentField uint8

// What a patch of an agent's row writes.
const (
	AgentRegistration AgentField = 1 << iota // everything a heartbeat reports; inserts the row if absent
	AgentLiveness                            // status, status_changed, lost_at
	AgentOccupied                            // occupied_slots
	AgentSchedulable                         // schedulable
)

// AgentPatch changes the columns of one agent that Mask names.
type AgentPatch struct {
	Mask  AgentField
	Agent record.Agent
}

// Entry is what one actor wants written at once.
type Entry struct {
	Guard Guard
	// Also, if set, is a second shard that must still be owned: a placement is good
	// only while both the session's shard and the scheduler's are.
	Also *Guard
	// Sure makes an entry without rows stand under its guards as well: its Done tells whether the shard was still owned after everything
	// that was submitted before.
	Sure     bool
	Sessions []NewSession
	Kernels  []*record.KernelPatch
	Agents   []*AgentPatch
	// Uses are what owners have used of scaling groups; the entry's guard is that of the group's scheduler.
	Uses []*record.PastUse
	// Done is called once, from a writer's goroutine, with nil after the commit. It must not block.
	Done func(error)
}
