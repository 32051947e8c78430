package scheduler

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Effect is something the shell must do for the core.
type Effect interface{ effect() }

// Place sends a session its placement. The shell adds the scheduler's guard.
type Place struct {
	SessionID uuid.UUID
	Placement protocol.Placement
}

// Report tells a session what an attempt has found.
type Report struct {
	SessionID uuid.UUID
	Attempt   protocol.Attempt
}

// TimeOut tells a session that it has waited too long.
type TimeOut struct{ SessionID uuid.UUID }

// Occupied is an agent's new occupied_slots, to be written to its row.
type Occupied struct {
	Agent string
	Slots backendai.ResourceSlots
}

// Concurrency is the number of sessions an access key has, for the counter that clients are shown.
type Concurrency struct {
	AccessKey string
	Sessions  int
}

// Used is what an owner has used, to be written down.
type Used struct{ Past protocol.PastUse }

func (Place) effect()       {}
func (Used) effect()        {}
func (Report) effect()      {}
func (TimeOut) effect()     {}
func (Occupied) effect()    {}
func (Concurrency) effect() {}

// Books returns the derived values that have changed since the last call: what is
// written of them is always the whole value, so a lost write is mended by the next. Effects come in an order that
// depends on the events only, never on that of a map, so that a scheduler can be replayed.
func (c *Core) Books() []Effect {
	effects := c.books()
	c.record.add(booked{}, time.Time{}, effects, nil)
	return effects
}

func (c *Core) books() (effects []Effect) {
	effects = make([]Effect, 0, len(c.touched)+len(c.owners))
	for _, id := range slices.Sorted(maps.Keys(c.touched)) {
		if a := c.agents[id]; a != nil {
			effects = append(effects, Occupied{Agent: id, Slots: a.Occupied})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.owners)) {
		effects = append(effects, Concurrency{AccessKey: key, Sessions: used(c.keys, key).sessions})
	}
	clear(c.touched)
	clear(c.owners)
	return effects
}

// sortedIDs brings ids out of a map into an order.
func sortedIDs(ids iter.Seq[uuid.UUID]) iter.Seq[uuid.UUID] {
	return slices.Values(slices.SortedFunc(ids, compareIDs))
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
