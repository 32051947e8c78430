package protocol

import (
	"time"

	"github.com/google/uuid"
)

// Why asks a scheduler why a session waits. Answered with JSON: what scheduler.Explanation says, with sentences, and the changes of
// which any alone would start it now; null when the scheduler does not know the session (any more).
type Why struct {
	SessionID uuid.UUID
	Brief     bool // without the changes, which take much longer to think of
	Reply     ReplyTo
}

// WhyAfter asks a scheduler to answer Why when the answer has become another than the one the caller knows: at once, or when it changes,
// or, with Unchanged, when Patience has passed. Answered with Told, or with nil when the scheduler does not know the session (any more).
// Errors: Overloaded when too many wait.
type WhyAfter struct {
	SessionID uuid.UUID
	Known     string // Told.Mark of the answer the caller has; "" if none
	Patience  time.Duration
	Reply     ReplyTo
}

// Told answers WhyAfter.
type Told struct {
	Mark      string // equal for answers that say the same
	Unchanged bool
	Answer    []byte // JSON as that of Why; nil when Unchanged
}

// PlanSession asks a scheduler what would come of a session if it were enqueued now. Nothing comes of asking. Answered with JSON: what
// scheduler.SessionPlan says.
type PlanSession struct {
	Session PendingSession
	Reply   ReplyTo
}

// WhatIf asks a scheduler what its next pass would do if some things were different. Nothing comes of asking. Answered with JSON: what
// scheduler.Difference says. Errors: InvalidArgument for changes that are not understood.
type WhatIf struct {
	Changes []byte // JSON, a list of scheduler.Change
	Reply   ReplyTo
}

// SchedulerRecord asks a scheduler for the record of its last steps. Answered with gzipped JSON lines, see scheduler.Replay.
// Errors: ObjectNotFound when it keeps none.
type SchedulerRecord struct{ Reply ReplyTo }
