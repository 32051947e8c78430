package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
)

// estimateSteps bounds how many moments of the future are thought through for one estimate.
const estimateSteps = 1000

// Estimate is when a session will start at the latest, if all that run end when their time limits say, and nothing comes before it.
type Estimate struct {
	At    time.Time `json:"at"`
	Basis []EndsAt  `json:"basis,omitempty"` // the ends it rests on; only shown to super-administrators
	// Sentence says it to people.
	Sentence string `json:"sentence"`
}

func estimated(at time.Time, basis []EndsAt) *Estimate {
	e := &Estimate{At: at, Basis: basis, Sentence: fmt.Sprintf("It is expected to start by %s", at.UTC().Format(time.RFC3339))}
	switch n := len(basis); {
	case n == 1:
		e.Sentence += ", when another session has reached its time limit"
	case n > 1:
		e.Sentence += fmt.Sprintf(", when %d other sessions have reached their time limits", n)
	default:
		e.Basis = []EndsAt{}
	}
	e.Sentence += ", if nothing comes before it."
	return e
}

// Estimate tells when a waiting session will start, and which sessions' ends that rests on. The future is thought through on a copy, from one end
// to the next, with the real decisions: sessions run for as long as their time limits allow, those without one for ever. For the head that is the time
// of its reservation, unless one comes before it that has had to wait for a quota. ok is false when it needs an end that is not known, or is too far off.
//
// It takes a copy of the state and up to a thousand passes; where that is too long to hold up a scheduler, ask a Clone.
func (c *Core) Estimate(id uuid.UUID, now time.Time) (at time.Time, basis []EndsAt, ok bool) {
	p := c.byID[id]
	if p == nil {
		return time.Time{}, nil, false
	}
	if p.placing != nil {
		return now, nil, true
	}
	d := c.Clone()
	if d.tenures == nil {
		d.retrack(true)
	}
	var r *reservation
	if p := d.byID[id]; d.blocked && d.holdsUp == p && d.held == nil {
		if policy, err := d.policyOf(now); err == nil && len(d.evaluate(p, now).failed) == 0 {
			r = d.reservationFor(policy, p, now, d.reservation)
		}
	}
	f := &future{core: d, id: id, now: now, used: make(map[string]time.Time)}
	at, basis, ok = f.run()
	if ok && r != nil && r.at.Equal(at) {
		basis = r.basis // it knows exactly
	}
	return at, basis, ok
}

// future is a simulation of what comes.
type future struct {
	core  *Core // a copy
	id    uuid.UUID
	now   time.Time
	ended []ended
	used  map[string]time.Time // agents, by when something was last placed there
}

// ended is a session that has gone, and where it was.
type ended struct {
	EndsAt
	agents []string
}

func (f *future) run() (at time.Time, basis []EndsAt, ok bool) {
	d := f.core
	quotas := len(d.evaluate(d.byID[f.id], f.now).failed) > 0
	for range estimateSteps {
		effects, err := d.Pass(f.now)
		if err != nil {
			return time.Time{}, nil, false
		}
		if f.placed(effects) {
			return f.now, f.basis(quotas), true
		}
		if d.byID[f.id] == nil || !f.next() { // it has waited too long, or nothing is known to happen any more
			return time.Time{}, nil, false
		}
	}
	return time.Time{}, nil, false
}

// placed lets what was placed run, and tells whether it was the one.
func (f *future) placed(effects []Effect) (found bool) {
	for _, effect := range effects {
		e, ok := effect.(Place)
		if !ok {
			continue
		}
		for _, k := range e.Placement.Kernels {
			f.used[k.Agent] = f.now
		}
		if e.SessionID == f.id {
			found = true
		}
		f.core.Apply(&protocol.Placed{SessionID: e.SessionID, Committed: true}, f.now)
	}
	return found
}

// next goes on to the next moment at which something is known to happen: what leaves soon first.
func (f *future) next() bool {
	d := f.core
	var at time.Time
	var group []departure
	for at, group = range d.moments(f.now) {
		break
	}
	if start, ok := d.clock.Min(); ok && start.StartsAt.After(f.now) && (len(group) == 0 || start.StartsAt.Before(at)) {
		f.now = *start.StartsAt
		return true
	}
	if len(group) == 0 {
		return false
	}
	f.now = at
	for _, gone := range group {
		e := ended{EndsAt: EndsAt{gone.session, at}}
		var kernels []uuid.UUID
		for _, k := range gone.kernels {
			kernels = append(kernels, k.KernelID)
			if !slices.Contains(e.agents, k.Agent) {
				e.agents = append(e.agents, k.Agent)
			}
		}
		f.ended = append(f.ended, e)
		d.Apply(&protocol.Release{KernelIDs: kernels}, at)
	}
	return true
}

// basis are the ends that mattered: those on agents where something was placed since. Where quotas were waited for, all may have.
func (f *future) basis(quotas bool) (list []EndsAt) {
	for _, e := range f.ended {
		if quotas || slices.ContainsFunc(e.agents, func(a string) bool { at, ok := f.used[a]; return ok && !at.Before(e.At) }) {
			list = append(list, e.EndsAt)
		}
	}
	slices.SortFunc(list, byTime)
	return list
}
