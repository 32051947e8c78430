package protocol

// Inspect asks a node for its actors: those that match, up to Limit. Answered with a survey as JSON.
type Inspect struct {
	Kind  string // "" any
	ID    string // "" any
	Shard *int32 // nil any
	Limit int
	Reply ReplyTo
}
