package scheduler

import (
	"maps"
	"math"
	"slices"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// What owners have used, for Options.FairShareHalfLife. Used are slot-seconds of each kind of slot, from the moment a container is
// placed until its slots are free, and what was used long ago counts less: half after one half-life. Owners are compared by
// the dominant share of it: the largest that their decayed slot-seconds of any kind are of the group's capacity of that kind.
//
// So a user of GPUs and a user of memory are comparable, as in drf; and since the shares are taken of the sums at the end, not of each
// container at its time, nothing has to be counted anew when agents come and go.
//
// Nothing is summed up over the past: for each owner there are a sum as of a time and what is used per second since; both change when
// a container starts, ends, or gets other slots.

const (
	// tellUsesEvery is how often what owners have used is written down. A manager that is killed loses no more of it than that.
	tellUsesEvery = time.Minute
	// forgottenAfter is after how many half-lives nothing is left that could count.
	forgottenAfter = 40
	// useUnit is the least difference that counts, in seconds of the whole group: whose sums only differ by rounding are equal.
	useUnit = 1e-6
)

// halving is exponential decay by a half-life.
type halving time.Duration

// left is what is left of 1 after a while.
func (h halving) left(after time.Duration) float64 {
	if after <= 0 {
		return 1
	}
	return math.Exp2(-float64(after) / float64(h))
}

// gain is what 1 per second adds up to over a while, decayed to its end: in seconds, never more than the while nor than h/ln 2.
func (h halving) gain(over time.Duration) float64 {
	if over <= 0 {
		return 0
	}
	return time.Duration(h).Seconds() / math.Ln2 * -math.Expm1(-float64(over)/float64(h)*math.Ln2)
}

// use is what one owner has used and uses.
type use struct {
	at      time.Time // of the sums
	slots   []usedSlot
	kernels int       // that use now
	known   time.Time // until when what was written down tells; zero if nothing was
	changed bool      // since it was written down
}

// usedSlot is that of one kind of slot.
type usedSlot struct {
	name      backendai.SlotName
	sum       float64 // slot-seconds, decayed
	perSecond backendai.Decimal
}

func (u *use) slot(name backendai.SlotName) *usedSlot {
	for i := range u.slots {
		if u.slots[i].name == name {
			return &u.slots[i]
		}
	}
	u.slots = append(u.slots, usedSlot{name: name})
	return &u.slots[len(u.slots)-1]
}

// settle brings the sums up to a time. Clocks may stand still or go back between managers; sums don't.
func (u *use) settle(h halving, now time.Time) {
	d := now.Sub(u.at)
	if d <= 0 {
		return
	}
	left, gain := h.left(d), h.gain(d)
	for i := range u.slots {
		s := &u.slots[i]
		s.sum = s.sum*left + s.perSecond.Float64()*gain
	}
	u.at = now
}

// share is the dominant share that the sums have of a capacity, in seconds, at a time that is not before that of the sums.
func (u *use) share(h halving, total backendai.ResourceSlots, now time.Time) (share float64) {
	d := now.Sub(u.at)
	left, gain := h.left(d), h.gain(d)
	for i := range u.slots {
		s := &u.slots[i]
		capacity := total.Get(s.name)
		if capacity.Sign() <= 0 {
			continue
		}
		if v := (s.sum*left + s.perSecond.Float64()*gain) / capacity.Float64(); v > share { // also leaves NaN out
			share = v
		}
	}
	return math.Round(share/useUnit) * useUnit
}

// useOf is what an owner's use counts now.
func (c *Core) useOf(owner string, total backendai.ResourceSlots, now time.Time) float64 {
	if u := c.uses[owner]; u != nil {
		return u.share(c.halving, total, now)
	}
	return 0
}

func (c *Core) useBy(owner string) *use {
	u := c.uses[owner]
	if u == nil {
		u = &use{at: c.now}
		c.uses[owner] = u
	}
	u.settle(c.halving, c.now)
	u.changed = true
	return u
}

// using changes what an owner uses per second; away takes it back.
func (c *Core) using(owner string, slots backendai.ResourceSlots, kernels int, away bool) {
	if c.uses == nil {
		return
	}
	u := c.useBy(owner)
	u.kernels += kernels
	for name, amount := range slots.All() {
		if s := u.slot(name); away {
			s.perSecond = s.perSecond.Sub(amount)
		} else {
			s.perSecond = s.perSecond.Add(amount)
		}
	}
}

// startUsing takes in an allocation that is new here; one that has been there for a while has used something already.
func (c *Core) startUsing(a *protocol.Allocation) {
	if c.uses == nil {
		return
	}
	c.using(a.AccessKey, a.Slots, 1, false)
	since := a.Placed
	if since.IsZero() {
		since = a.Since
	}
	if since.IsZero() || !since.Before(c.now) {
		return
	}
	u := c.uses[a.AccessKey]
	if u.known.After(since) {
		since = u.known
	}
	gain := c.halving.gain(c.now.Sub(since))
	for name, amount := range a.Slots.All() {
		u.slot(name).sum += amount.Float64() * gain
	}
}

// regroupUses begins to count when that is asked for, and ends it when it is not any more. What was written down by then is asked for.
func (c *Core) regroupUses() {
	h := halving(c.Policy.Options.FairShareHalfLife)
	switch {
	case h == c.halving:
		return
	case h <= 0:
		c.uses = nil
	case c.uses == nil:
		c.halving = h
		c.takeUses(nil)
		c.usesWanted = true
	default: // what was used decays otherwise from now on
		for _, u := range c.uses {
			u.settle(c.halving, c.now)
		}
	}
	c.halving = h
	c.usesWanted = c.usesWanted && c.uses != nil
}

// takeUses begins with what was written down, and what runs.
func (c *Core) takeUses(list []protocol.PastUse) {
	c.uses = make(map[string]*use, len(list))
	for _, past := range list {
		u := &use{at: past.At, known: past.At}
		for _, name := range slices.Sorted(maps.Keys(past.SlotSeconds)) {
			if sum := past.SlotSeconds[name]; sum > 0 && !math.IsInf(sum, 0) {
				u.slot(name).sum = sum
			}
		}
		u.settle(c.halving, c.now)
		c.uses[past.AccessKey] = u
	}
	for id := range sortedIDs(maps.Keys(c.allocs)) {
		c.startUsing(c.allocs[id])
	}
	c.usesWanted, c.usesTold = false, c.now
}

// WantsUses tells whether what was written down of the owners' use has not been read yet.
func (c *Core) WantsUses() bool { return c.usesWanted }

// Uses returns what is to be written down of the owners' use; those whose use has not changed but by decay are left out.
func (c *Core) Uses(now time.Time) []Effect {
	if c.uses == nil || c.usesWanted {
		return nil
	}
	effects := c.toldUses(now)
	c.record.add(wroteUses{}, now, effects, nil)
	return effects
}

func (c *Core) toldUses(now time.Time) (effects []Effect) {
	c.usesTold = now
	for _, owner := range slices.Sorted(maps.Keys(c.uses)) {
		u := c.uses[owner]
		if u.kernels == 0 && now.Sub(u.at) > forgottenAfter*time.Duration(min(c.halving, math.MaxInt64/forgottenAfter)) {
			delete(c.uses, owner)
			continue
		}
		if u.kernels == 0 && !u.changed {
			continue
		}
		u.settle(c.halving, now)
		u.changed = false
		past := protocol.PastUse{AccessKey: owner, At: u.at, SlotSeconds: make(map[backendai.SlotName]float64, len(u.slots))}
		for _, s := range u.slots {
			past.SlotSeconds[s.name] = s.sum
		}
		effects = append(effects, Used{past})
	}
	return effects
}

// tellUses is Uses, now and then.
func (c *Core) tellUses(now time.Time) []Effect {
	if c.uses == nil || c.usesWanted || now.Sub(c.usesTold) < tellUsesEvery {
		return nil
	}
	return c.toldUses(now)
}
