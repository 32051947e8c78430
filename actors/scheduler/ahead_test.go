package scheduler

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// world is a scaling group in which sessions run from when they are placed until their time limit, or end before.
type world struct {
	t     *rapid.T
	core  *Core
	now   time.Time
	made  uint32
	all   map[uuid.UUID]*life
	seen  map[uuid.UUID]time.Time // reservations, by head: the earliest so far
	known *backendai.KnownSlots
	quota bool
	// limited is how many have a time limit for one that has none.
	limited int
	order   bool // sessions are looked at in order of their age: nothing comes before the head but what was laid aside for a quota

	overtook, preempted int
	told                map[uuid.UUID]uuid.UUID // victims that have not gone, by whom they have to go for
	since               time.Time               // when the last of them were told,
	first               uuid.UUID               // and for whom
}

// life is a session as it really is.
type life struct {
	protocol.PendingSession
	placed, runs, ends time.Time
	gone               bool
}

func newWorld(t *rapid.T, policy protocol.Policy) *world {
	w := &world{t: t, now: time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC), all: map[uuid.UUID]*life{}, seen: map[uuid.UUID]time.Time{}, known: backendai.NewKnownSlots(), told: map[uuid.UUID]uuid.UUID{}, limited: 6}
	w.core = NewCore("g", policy, w.known)
	for i := range rapid.IntRange(1, 4).Draw(t, "agents") {
		w.core.Apply(&protocol.AgentState{ID: fmt.Sprintf("a%d", i), ScalingGroup: "g", Architecture: "x", Alive: true, Schedulable: true,
			Available: backendai.SlotsOf("cpu", fmt.Sprint(rapid.IntRange(2, 6).Draw(t, "cpu")), "mem", fmt.Sprint(rapid.IntRange(2, 6).Draw(t, "mem"), "g"))}, w.now)
	}
	w.quota = rapid.IntRange(0, 2).Draw(t, "quota") == 0
	return w
}

func (w *world) id() uuid.UUID {
	w.made++
	var id uuid.UUID
	binary.BigEndian.PutUint32(id[:], w.made)
	return id
}

func (w *world) arrive() {
	t := w.t
	free, _ := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, w.known)
	s := protocol.PendingSession{ID: w.id(), Type: backendai.Interactive, AccessKey: rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key"), DomainName: "d", ScalingGroup: "g",
		ClusterMode: backendai.SingleNode, CreatedAt: w.now.Add(time.Duration(w.made) * time.Microsecond),
		Limits: protocol.Limits{Keypair: free, Group: free, Domain: free, ScalingGroups: map[string][]backendai.SessionType{"g": backendai.SessionTypes}}}
	if w.quota {
		s.Limits.MaxConcurrentSessions = rapid.IntRange(0, 3).Draw(t, "limit")
		if n := rapid.IntRange(0, 12).Draw(t, "quota"); n > 6 {
			s.Limits.Domain = free.With("cpu", backendai.DecimalOf(int64(n)))
		}
	}
	s.Wishes.Priority, s.Wishes.Preemptible = rapid.IntRange(0, 3).Draw(t, "priority"), rapid.Bool().Draw(t, "preemptible")
	if rapid.IntRange(0, w.limited).Draw(t, "limited") > 0 {
		s.Wishes.TimeLimit = time.Duration(rapid.IntRange(1, 40).Draw(t, "time limit")) * time.Second
	}
	n, most := 1, 5
	if rapid.IntRange(0, 2).Draw(t, "cluster") == 0 {
		n, most, s.ClusterMode = rapid.IntRange(2, 3).Draw(t, "kernels"), 3, backendai.MultiNode
	}
	slots := func() backendai.ResourceSlots {
		return backendai.SlotsOf("cpu", fmt.Sprint(rapid.IntRange(1, most).Draw(t, "cpu")), "mem", fmt.Sprint(rapid.IntRange(0, most).Draw(t, "mem"), "g"))
	}
	want := slots()
	for i := range n {
		if i > 0 && !w.core.Policy.Options.Preemption && rapid.Bool().Draw(t, "other size") {
			want = slots()
		}
		s.Kernels = append(s.Kernels, protocol.PendingKernel{ID: w.id(), Architecture: "x", Slots: want})
	}
	w.all[s.ID] = &life{PendingSession: s}
	w.core.Apply(&protocol.Enqueue{Session: s}, w.now)
}

func (l *life) kernels() (ids []uuid.UUID) {
	for _, k := range l.Kernels {
		ids = append(ids, k.ID)
	}
	return ids
}

func (w *world) end(l *life) {
	l.gone = true
	delete(w.told, l.ID)
	w.core.Apply(&protocol.Release{KernelIDs: l.kernels()}, w.now)
}

// pass makes passes while there is something to look at, and checks what must always hold.
func (w *world) pass() {
	for first := true; first || w.core.Due(); first = false {
		before := w.core.Clone()
		effects, err := w.core.Pass(w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		w.preempts(before, effects)
		for _, e := range effects {
			if e, ok := e.(Place); ok {
				w.start(e.SessionID)
				w.older(e.SessionID)
			}
		}
		for _, a := range w.core.Agents() {
			if !a.Occupied.LessEq(a.Available) {
				w.t.Fatalf("agent %s has %s and gives %s", a.ID, a.Available, a.Occupied)
			}
		}
		if w.core.blocked {
			w.older(w.core.holdsUp.ID)
		}
		r := w.core.reservation
		if r == nil {
			continue
		}
		if !w.order {
			continue
		}
		if at, ok := w.seen[r.head]; ok && r.at.After(at) {
			w.t.Fatalf("at %s the reservation of %s went from %s to %s", w.now, r.head, at, r.at)
		}
		for id := range w.seen {
			if id != r.head && w.all[id].placed.IsZero() {
				w.t.Fatalf("%s has lost its turn to %s", id, r.head)
			}
		}
		w.seen[r.head] = r.at
	}
}

// older forgets the reservations of those before which a session is that has had to wait for a quota.
func (w *world) older(id uuid.UUID) {
	for other := range w.seen {
		if w.all[other].placed.IsZero() && w.all[id].CreatedAt.Before(w.all[other].CreatedAt) {
			delete(w.seen, other)
		}
	}
}

func (w *world) start(id uuid.UUID) {
	l := w.all[id]
	l.placed, l.runs = w.now, w.now
	if at, ok := w.seen[id]; ok && w.now.After(at) {
		w.t.Fatalf("%s starts at %s; %s was reserved for it", id, w.now, at)
	}
	for other, at := range w.seen {
		if o := w.all[other]; other != id && o.placed.IsZero() && at.After(w.now) {
			w.overtook++
		}
	}
	w.core.Apply(&protocol.Placed{SessionID: id, Committed: true}, w.now)
	for _, k := range l.Kernels {
		w.core.Apply(&protocol.Settle{KernelID: k.ID, Slots: k.Slots, Since: w.now}, w.now)
	}
	if l.Wishes.TimeLimit > 0 {
		l.ends = w.now.Add(l.Wishes.TimeLimit)
	}
}

// until lets time pass; what reaches its limit ends then, neither before nor later.
func (w *world) until(t time.Time) {
	for {
		at := t
		for _, l := range w.all {
			if l.running() && !l.ends.IsZero() && l.ends.Before(at) {
				at = l.ends
			}
		}
		w.now = at
		for _, l := range w.running() {
			if !l.ends.IsZero() && !l.ends.After(at) {
				w.end(l)
			}
		}
		if w.core.Due() {
			w.pass()
		}
		if !at.Before(t) {
			return
		}
	}
}

func (l *life) running() bool { return !l.runs.IsZero() && !l.gone }

// running lists those that run, in order of id.
func (w *world) running() (list []*life) {
	for _, l := range w.all {
		if l.running() {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *life) int { return compareIDs(a.ID, b.ID) })
	return list
}

// tick is as long as nothing else happens.
func (w *world) tick() {
	w.core.Apply(&protocol.Tick{Now: w.now}, w.now)
	w.pass()
}

func (w *world) step() {
	t := w.t
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1, 2, 3:
		w.arrive()
	case 4, 5, 6:
		w.until(w.now.Add(time.Duration(rapid.IntRange(1, 15).Draw(t, "pause")) * time.Second))
	case 7: // early
		if list := w.running(); len(list) > 0 {
			w.end(rapid.SampledFrom(list).Draw(t, "early"))
		}
	case 8:
		for _, l := range w.running() {
			if _, told := w.told[l.ID]; told {
				w.end(l)
			}
		}
	case 9:
		w.tick()
	}
	if w.core.Due() {
		w.pass()
	}
}

// Whatever ends when it has to or before, what starts behind a session that waits for room does not put its start off.
func TestNoReservationIsDelayed(t *testing.T) {
	overtook, reserved := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		policy := protocol.Policy{Name: rapid.SampledFrom([]string{policyFIFO, policyMOF}).Draw(t, "policy"), Options: protocol.Options{Backfill: true}}
		w := newWorld(t, policy)
		w.order = true
		for range rapid.IntRange(20, 60).Draw(t, "steps") {
			w.step()
		}
		w.until(w.now.Add(time.Hour))
		for id, at := range w.seen {
			if reserved++; w.all[id].placed.IsZero() && at.Before(w.now) {
				e, _ := w.core.Explain(id, w.now)
				t.Fatalf("%s has never started; %s was reserved for it (%v, blocked %v by %v, due %v)", id, at, e.Sentences(), w.core.blocked, w.core.holdsUp, w.core.Due())
			}
		}
		overtook += w.overtook
	})
	t.Logf("%d reservations, %d starts behind one", reserved, overtook)
	if reserved < 20 || overtook < 10 {
		t.Error("the states mean little")
	}
}

// preempts checks who was told to go: nobody who is protected, nobody who is not needed, nobody in vain, and not more while some still end.
func (w *world) preempts(before *Core, effects []Effect) {
	var head *life
	var victims []uuid.UUID
	begun := func(id uuid.UUID) bool { // before, or in this pass
		return !w.all[id].placed.IsZero() || slices.ContainsFunc(effects, func(e Effect) bool { p, ok := e.(Place); return ok && p.SessionID == id })
	}
	for _, e := range effects {
		e, ok := e.(Preempt)
		if !ok {
			continue
		}
		v, h := w.all[e.SessionID], w.all[e.For]
		switch o := w.core.Policy.Options; {
		case !o.Preemption || !v.Wishes.Preemptible:
			w.t.Fatalf("%s is protected", v.ID)
		case v.Wishes.Priority >= h.Wishes.Priority:
			w.t.Fatalf("%s is of priority %d, and has to go for %d", v.ID, v.Wishes.Priority, h.Wishes.Priority)
		case !v.running() || w.now.Sub(v.runs) < o.PreemptionMinRuntime:
			w.t.Fatalf("%s has run since %s only", v.ID, v.runs)
		case begun(h.ID) || head != nil && head != h:
			w.t.Fatalf("%s has to go for %s", v.ID, h.ID)
		case len(w.told) > 0 && w.now.Sub(w.since) < heldFor && !begun(w.first):
			w.t.Fatalf("%s has to go while others still end", v.ID)
		case len(before.evaluate(before.byID[h.ID], w.now).failed) > 0:
			w.t.Fatalf("%s has to go for one that a quota holds back", v.ID)
		}
		head, victims = h, append(victims, e.SessionID)
	}
	if head == nil {
		return
	}
	w.preempted += len(victims)
	if w.now.Sub(w.since) > endsWithin { // they do not go
		clear(w.told)
	}
	gone := slices.Clone(victims)
	for id := range w.told {
		gone = append(gone, id)
	}
	if !w.fitsWithout(head, gone) {
		w.t.Fatalf("%v have to go in vain", gone)
	}
	for i := range victims {
		if w.fitsWithout(head, slices.Delete(slices.Clone(gone), i, i+1)) {
			w.t.Fatalf("%s need not go", gone[i])
		}
	}
	for _, id := range victims {
		w.told[id] = head.ID
	}
	w.first, w.since = head.ID, w.now
}

// fitsWithout tries every way to place a session when some have gone.
func (w *world) fitsWithout(head *life, gone []uuid.UUID) bool {
	free := map[string]backendai.ResourceSlots{}
	for _, a := range w.core.Agents() {
		free[a.ID] = a.Available
	}
	for _, a := range w.core.allocs {
		if !slices.Contains(gone, a.SessionID) {
			free[a.Agent] = free[a.Agent].Sub(a.Slots)
		}
	}
	var try func(kernels []protocol.PendingKernel) bool
	try = func(kernels []protocol.PendingKernel) bool {
		if len(kernels) == 0 {
			return true
		}
		for id, left := range free {
			if kernels[0].Slots.LessEq(left) {
				free[id] = left.Sub(kernels[0].Slots)
				if try(kernels[1:]) {
					return true
				}
				free[id] = left
			}
		}
		return false
	}
	return try(head.Kernels)
}

// Nobody has to go who said no, who is as important, or who is not needed; and what they leave is for the one they had to go for.
func TestNobodyIsPreemptedWrongly(t *testing.T) {
	preempted, started := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		policy := protocol.Policy{Name: rapid.SampledFrom(policies).Draw(t, "policy"), Options: protocol.Options{Preemption: true, Backfill: rapid.Bool().Draw(t, "backfill"),
			PreemptionMinRuntime: time.Duration(rapid.IntRange(0, 3).Draw(t, "min runtime")) * time.Second}}
		w := newWorld(t, policy)
		w.quota, w.limited = false, 1
		for range rapid.IntRange(20, 60).Draw(t, "steps") {
			w.step()
			if h := w.core.held; h != nil && len(w.told) == 0 && len(w.core.stillHere()) == 0 {
				t.Fatalf("all have gone, and %s waits", h.head)
			}
		}
		if h := w.core.held; h != nil && w.now.Sub(w.since) < heldFor {
			for _, l := range w.running() {
				if _, told := w.told[l.ID]; told {
					w.end(l)
				}
			}
			for w.core.Due() {
				w.pass()
			}
			if w.all[h.head].placed.IsZero() {
				t.Fatalf("all have gone, and %s waits", h.head)
			}
			started++
		}
		preempted += w.preempted
	})
	t.Logf("%d preempted, %d last ones followed", preempted, started)
	if preempted < 10 {
		t.Error("the states mean little")
	}
}

// If all runs as long as it may and nobody comes, a session starts when it was estimated to.
func TestEstimatesComeTrue(t *testing.T) {
	estimated, later, unknown := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		policy := protocol.Policy{Name: rapid.SampledFrom(policies).Draw(t, "policy"), Options: protocol.Options{Backfill: rapid.Bool().Draw(t, "backfill")}}
		w := newWorld(t, policy)
		w.limited = 60
		for range rapid.IntRange(10, 40).Draw(t, "steps") {
			w.arriveOrRun()
		}
		w.tick() // nobody waits only to be looked at
		at, said := map[uuid.UUID]time.Time{}, map[uuid.UUID]string{}
		for id, l := range w.all {
			if !l.placed.IsZero() {
				continue
			}
			when, basis, ok := w.core.Estimate(id, w.now)
			if !ok {
				unknown++
				continue
			}
			for _, e := range basis {
				if e.At.After(when) {
					t.Fatalf("%s is to start at %s because of an end at %s", id, when, e.At)
				}
			}
			e, _ := w.core.Explain(id, w.now)
			at[id], said[id] = when, fmt.Sprint(w.now, e.Sentences(), basis, l.Limits.MaxConcurrentSessions, l.AccessKey)
		}
		for range 10 * 60 {
			w.until(w.now.Add(time.Second))
		}
		for id, when := range at {
			if estimated++; !w.all[id].placed.Equal(when) {
				t.Fatalf("%s was to start at %s, and has at %s (%+v; %s, %d waited)", id, when, w.all[id].placed, policy, said[id], len(at))
			}
			if when.After(w.now.Add(-10 * time.Minute)) {
				later++
			}
		}
	})
	t.Logf("%d estimates have come true, %d of them later than at once; %d not known", estimated, later, unknown)
	if later < 50 {
		t.Error("the states mean little")
	}
}

func (w *world) arriveOrRun() {
	if rapid.IntRange(0, 2).Draw(w.t, "run") == 0 {
		w.until(w.now.Add(time.Duration(rapid.IntRange(1, 15).Draw(w.t, "pause")) * time.Second))
	} else {
		w.arrive()
	}
	if w.core.Due() {
		w.pass()
	}
}
