package scheduler

import (
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"reflect"
	"time"

	"backend.ai/manager/actors/protocol"
)

// Record keeps a scheduler's last steps (events with their times, passes, and a sum over the effects of each) so that its decisions can
// be made again elsewhere, one by one. The oldest steps are folded into the state from which the others start:
//
//	base, a Core ──▶ step n ─ step n+1 ─ … ─ step n+k ──▶ the live Core
//	     ▲────────────── folded when there are too many
//
// What the schedulers of other scaling groups take of the quotas that they share is among the steps.
//
// So a record costs a second Core's memory, and each step is made twice. Not for concurrent use; what Snapshot returns is its own.
type Record struct {
	base   *Core
	most   int
	weight int
	steps  []step // from at on
	at     int
	next   uint64
	broken bool // a folded step has not led to the same effects
}

// step is something that was done to a core.
type step struct {
	n     uint64
	now   time.Time
	event any // what Apply takes, or one of those below
	sum   string
}

// A pass, and the books where no pass was due.
type (
	passed struct{}
	booked struct{}
	// wroteUses is a call of Uses.
	wroteUses struct{}
)

// NewRecord begins a record of a core, of about so many steps. The core goes on being used as before.
func (c *Core) NewRecord(most int) *Record {
	c.record = &Record{base: c.Clone(), most: max(most, 1)}
	if c.records == nil {
		c.records = make(map[string]*Record)
	}
	c.records[c.Group] = c.record
	return c.record
}

// rowsPerStep is how many rows of a reading count as one step: what is bounded is memory.
const rowsPerStep = 100

func (s step) weight() int {
	rows := func(l *protocol.SchedulerLoaded) int {
		return 1 + (len(l.Agents)+len(l.Allocations)+len(l.Pending))/rowsPerStep
	}
	switch e := s.event.(type) {
	case *protocol.SchedulerLoaded:
		return rows(e)
	case *protocol.Reread:
		return rows(e.Rows)
	}
	return 1
}

func (r *Record) add(event any, now time.Time, effects []Effect, err error) {
	if r == nil {
		return
	}
	s := step{n: r.next, now: now.Round(0), event: event, sum: sumOf(effects, err)}
	r.next++
	r.steps = append(r.steps, s)
	r.weight += s.weight()
	for r.weight > r.most && len(r.steps)-r.at > 1 {
		first := r.steps[r.at]
		r.steps[r.at] = step{}
		r.at++
		r.weight -= first.weight()
		effects, err := r.base.redo(first)
		r.broken = r.broken || sumOf(effects, err) != first.sum
	}
	if r.at > len(r.steps)/2 {
		r.steps = append([]step(nil), r.steps[r.at:]...)
		r.at = 0
	}
}

// redo does a step again.
func (c *Core) redo(s step) ([]Effect, error) {
	switch e := s.event.(type) {
	case *charged:
		c.Ledger.charge(e)
		return nil, nil
	case passed:
		return c.Pass(s.now)
	case booked:
		return c.Books(), nil
	case wroteUses:
		return c.Uses(s.now), nil
	}
	return c.Apply(s.event, s.now), nil
}

// sumOf is equal for equal effects in the same order.
func sumOf(effects []Effect, err error) string {
	h := fnv.New128a()
	h.Write(effectsText(effects, err))
	return hex.EncodeToString(h.Sum(nil))
}

// effectsText is all of some effects as JSON: a list of objects with the effect's name as their only key.
func effectsText(effects []Effect, err error) []byte {
	list := make([]map[string]any, 0, len(effects)+1)
	for _, e := range effects {
		list = append(list, map[string]any{reflect.TypeOf(e).Name(): e})
	}
	if err != nil {
		list = append(list, map[string]any{"Error": err.Error()})
	}
	text, _ := json.Marshal(list) // plain values: never fails
	return text
}

// Recording is a record at some moment, to be written by somebody else.
type Recording struct {
	base   *Core
	steps  []step
	broken bool
}

// Recording copies the record as it is now.
func (r *Record) Recording() Recording {
	return Recording{base: r.base.Clone(), steps: append([]step(nil), r.steps[r.at:]...), broken: r.broken}
}
