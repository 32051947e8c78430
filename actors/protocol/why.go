package protocol

import "github.com/google/uuid"

// Why asks a scheduler why a session waits. Answered with JSON: what scheduler.Explanation says, with sentences, and the changes of
// which any alone would start it now; null when the scheduler does not know the session (any more).
type Why struct {
	SessionID uuid.UUID
	Reply     ReplyTo
}
