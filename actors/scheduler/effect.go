package scheduler

import (
	"bytes"
	"iter"
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
	Placement *protocol.Placement // not to be changed
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

func (c *Core) books() []Effect {
	return c.appendBooks(make([]Effect, 0, len(c.touched)+len(c.owners)))
}

func (c *Core) appendBooks(effects []Effect) []Effect {
	for _, id := range c.sortedNames(c.touched) {
		if a := c.agents[id]; a != nil {
			effects = append(effects, Occupied{Agent: id, Slots: a.Occupied})
		}
	}
	for _, key := range c.sortedNames(c.owners) {
		effects = append(effects, Concurrency{AccessKey: key, Sessions: used(c.keys, key).sessions})
	}
	clear(c.touched)
	clear(c.owners)
	return effects
}

// sortedNames brings the keys of a set into an order, until the next call.
func (c *Core) sortedNames(set map[string]bool) []string {
	c.names = c.names[:0]
	for name := range set {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c.names
}

// sortedIDs brings ids out of a map into an order.
func sortedIDs(ids iter.Seq[uuid.UUID]) iter.Seq[uuid.UUID] {
	return slices.Values(slices.SortedFunc(ids, compareIDs))
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
