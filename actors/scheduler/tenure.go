package scheduler

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/btree"
	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
)

// endsWithin is how long after its time, or after it was asked to go, a session is believed to be about to end. What takes longer
// hangs, and has no known end any more.
const endsWithin = time.Minute

// tenure is what a session holds that has a time limit or may be preempted: it ends one day, or can be made to. Only kept
// where the policy's options ask for it.
type tenure struct {
	session uuid.UUID
	kernels []uuid.UUID // of which nobody has asked for the end, in order of id
	wishes  protocol.Wishes
	end     time.Time // as it is sorted into Core.ends; zero: not known
	ending  bool      // somebody has asked for the end of one of its kernels
}

func endsEarlier(a, b *tenure) bool {
	if n := a.end.Compare(b.end); n != 0 {
		return n < 0
	}
	return bytes.Compare(a.session[:], b.session[:]) < 0
}

// retrack gathers the tenures anew, if the options need them or it is asked for; else there are none, and nothing is kept.
func (c *Core) retrack(always bool) {
	c.tenures, c.ends, c.leaving, c.dismissed = nil, nil, nil, nil
	if o := c.Policy.Options; !always && !o.Backfill && !o.Preemption {
		c.reservation, c.held = nil, nil
		return
	}
	c.tenures, c.leaving, c.dismissed = make(map[uuid.UUID]*tenure), make(map[uuid.UUID]time.Time), make(map[uuid.UUID]time.Time)
	c.ends = btree.NewG(degree, endsEarlier)
	for _, counts := range []bool{true, false} { // what leaves finds the rest of its session
		for _, a := range c.allocs {
			if a.CountsForUser == counts {
				c.track(a)
			}
		}
	}
}

// track takes a new or changed allocation in.
func (c *Core) track(a *protocol.Allocation) {
	if c.tenures == nil {
		return
	}
	if !a.CountsForUser {
		c.leaving[a.KernelID] = c.now
		if t := c.tenures[a.SessionID]; t != nil {
			t.ending = true
		}
		return
	}
	if a.Wishes.TimeLimit <= 0 && !a.Wishes.Preemptible {
		return
	}
	t := c.tenures[a.SessionID]
	if t == nil {
		t = &tenure{session: a.SessionID, wishes: a.Wishes}
		c.tenures[a.SessionID] = t
	}
	if at, ok := slices.BinarySearchFunc(t.kernels, a.KernelID, compareIDs); !ok {
		t.kernels = slices.Insert(t.kernels, at, a.KernelID)
	}
	c.retime(t)
}

// untrack takes an allocation out that ends or changes.
func (c *Core) untrack(a *protocol.Allocation) {
	if c.tenures == nil {
		return
	}
	delete(c.leaving, a.KernelID)
	t := c.tenures[a.SessionID]
	if t == nil {
		return
	}
	if at, ok := slices.BinarySearchFunc(t.kernels, a.KernelID, compareIDs); ok {
		t.kernels = slices.Delete(t.kernels, at, at+1)
	}
	if len(t.kernels) == 0 {
		c.ends.Delete(t)
		delete(c.tenures, a.SessionID)
		delete(c.dismissed, a.SessionID)
		return
	}
	c.retime(t)
}

// retime sorts a tenure in by when it ends.
func (c *Core) retime(t *tenure) {
	if !t.end.IsZero() {
		c.ends.Delete(t)
	}
	if t.end = c.endOf(t); !t.end.IsZero() {
		c.ends.ReplaceOrInsert(t)
	}
}

// endOf is when a session will have reached its time limit; zero: not known. The limit counts from when the last of its kernels
// runs. Until that is known, from when they got their agents.
func (c *Core) endOf(t *tenure) time.Time {
	if t.wishes.TimeLimit <= 0 {
		return time.Time{}
	}
	var begin time.Time
	for _, id := range t.kernels {
		a := c.allocs[id]
		from := a.Since
		if from.IsZero() {
			from = a.Placed
		}
		if from.IsZero() {
			return time.Time{}
		}
		if from.After(begin) {
			begin = from
		}
	}
	return begin.Add(t.wishes.TimeLimit)
}

// runsSince is when the last of a session's kernels has become RUNNING; zero if any has not.
func (c *Core) runsSince(t *tenure) (since time.Time) {
	for _, id := range t.kernels {
		switch s := c.allocs[id].Since; {
		case s.IsZero():
			return time.Time{}
		case s.After(since):
			since = s
		}
	}
	return since
}

// departure is a session, or a part of one, that will be gone.
type departure struct {
	session uuid.UUID
	kernels []*protocol.Allocation
}

// moments are the times at which something will be freed as far as is known, and what. First comes, for now, what is about to be: what was
// asked to end, or told to go.
func (c *Core) moments(now time.Time) iter.Seq2[time.Time, []departure] {
	return func(yield func(time.Time, []departure) bool) {
		at, group := now, c.leavingSoon(now)
		stopped := false
		c.ends.Ascend(func(t *tenure) bool {
			if t.end.Add(endsWithin).Before(now) || c.goesSoon(t, now) {
				return true
			}
			if t.end.After(at) {
				if len(group) > 0 && !yield(at, group) {
					stopped = true
					return false
				}
				at, group = t.end, nil
			}
			group = append(group, c.departureOf(t))
			return true
		})
		if !stopped && len(group) > 0 {
			yield(at, group)
		}
	}
}

func (c *Core) departureOf(t *tenure) departure {
	d := departure{session: t.session, kernels: make([]*protocol.Allocation, len(t.kernels))}
	for i, id := range t.kernels {
		d.kernels[i] = c.allocs[id]
	}
	return d
}

// leavingSoon is what will be freed any moment, in order of the sessions' ids.
func (c *Core) leavingSoon(now time.Time) (list []departure) {
	parts := make(map[uuid.UUID]int)
	add := func(a *protocol.Allocation) {
		i, ok := parts[a.SessionID]
		if !ok {
			i = len(list)
			parts[a.SessionID] = i
			list = append(list, departure{session: a.SessionID})
		}
		list[i].kernels = append(list[i].kernels, a)
	}
	for id, since := range c.leaving {
		if a := c.allocs[id]; a != nil && now.Sub(since) <= endsWithin {
			add(a)
		}
	}
	for session := range c.dismissed {
		if t := c.tenures[session]; c.goesSoon(t, now) {
			for _, id := range t.kernels {
				add(c.allocs[id])
			}
		}
	}
	slices.SortFunc(list, func(a, b departure) int { return compareIDs(a.session, b.session) })
	for _, d := range list {
		slices.SortFunc(d.kernels, func(a, b *protocol.Allocation) int { return compareIDs(a.KernelID, b.KernelID) })
	}
	return list
}

// goesSoon tells whether the scheduler itself has told a session to make room, and it is believed that it will.
func (c *Core) goesSoon(t *tenure, now time.Time) bool {
	at, told := c.dismissed[t.session]
	return told && now.Sub(at) <= endsWithin
}

// cloneTenures copies what is kept of reservations over to a clone.
func (c *Core) cloneTenures(d *Core) {
	if c.tenures != nil {
		d.tenures, d.leaving, d.dismissed = make(map[uuid.UUID]*tenure, len(c.tenures)), maps.Clone(c.leaving), maps.Clone(c.dismissed)
		own := make([]tenure, 0, len(c.tenures))
		for id, t := range c.tenures {
			own = append(own, *t)
			n := &own[len(own)-1]
			n.kernels = slices.Clone(t.kernels)
			d.tenures[id] = n
		}
		d.ends = btree.NewG(degree, endsEarlier)
		c.ends.Ascend(func(t *tenure) bool {
			d.ends.ReplaceOrInsert(d.tenures[t.session])
			return true
		})
	}
	d.reservation, d.held = c.reservation.clone(), c.held.clone()
}

// byTime orders what ends.
func byTime(a, b EndsAt) int {
	return cmp.Or(a.At.Compare(b.At), compareIDs(a.Session, b.Session))
}
