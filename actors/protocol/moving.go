package protocol

import (
	"slices"
	"time"
)

// Moved tells the actors of a node that shards have got, lost or changed their owner: what was on the way to actors there may be lost.
// It does not leave the node.
type Moved struct {
	Shards []int32 // in order
	Of     int     // shards in all
	Now    time.Time
}

// Has reports whether a shard has moved.
func (m *Moved) Has(shard int32) bool {
	_, ok := slices.BinarySearch(m.Shards, shard)
	return ok
}

// Drain tells an actor that its shard will be handed over: it begins nothing new, carries out what has been committed, and answers its
// parent with Drained.
type Drain struct{}

// Drained answers Drain. ID is the actor's.
type Drained struct{ ID string }

// NotHere is the answer of a node that was asked for an actor of a shard that it does not own (any more): the message was not handled.
type NotHere struct{}

// Reach asks a session or an agent's twin whether it is there, before it is sent what must not be sent twice. Answered with Reached.
// Errors: as the message that will follow.
type Reach struct{ Reply ReplyTo }

// Reached is the answer. Agent is that of a session's main kernel, to which its calls go; "" when it has none.
type Reached struct{ Agent string }

// SayAgain marks a message that is sent again, where that makes a difference.
func SayAgain(msg any) {
	switch m := msg.(type) {
	case *Destroy:
		m.Again = true
	case *Restart:
		m.Again = true
	}
}

// Repeatable reports whether a message may be sent again when its answer may have been lost: handling it twice comes to the same.
func Repeatable(msg any) bool {
	switch m := msg.(type) {
	case *Create, *AwaitStart, *Destroy, *Restart, *Rename, *KernelLog, *SetSchedulable, *Why, *WhyAfter, *PlanSession, *WhatIf,
		*SchedulerRecord, *Reach:
		return true
	case *Invoke:
		switch m.Call.Method {
		case "get_logs", "list_files", "download_file", "download_single", "get_completions":
			return true
		}
	}
	return false
}
