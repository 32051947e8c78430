package protocol

import "time"

// ReplyTo is where code outside of actors waits for an answer. The zero value: nobody waits.
type ReplyTo struct {
	Address string // of the node that waits
	N       uint64
}

// Waits reports whether someone waits.
func (r ReplyTo) Waits() bool { return r.N != 0 }

// Ref names an actor wherever it lives.
type Ref struct {
	Address string
	ID      string
}

// Tick is a timer that an actor has set for itself; Kind says which. Now is when it fired.
type Tick struct {
	Kind string
	Now  time.Time
}
