package enqueue

import (
	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Preset is a named request of slots.
type Preset struct {
	Name         string
	Slots        backendai.ResourceSlots
	SharedMemory *int64 // bytes
}

// Taken is what kernels of one kind take, all together.
type Taken struct {
	OfKey, OfUser, OfGroup, OfDomain bool
	Ending                           bool // its owner's quota is free again, its agent's slots are not
	ScalingGroup                     string
	Slots                            backendai.ResourceSlots
}

// Room is what an agent that is alive has, and what is taken of it.
type Room struct {
	ScalingGroup        string
	Available, Occupied backendai.ResourceSlots
}

// Quota is a limit, what is used of it, and what is left.
type Quota struct{ Limits, Using, Remaining backendai.ResourceSlots }

// GroupRoom is what a user takes of a scaling group, and what is left there for him.
type GroupRoom struct{ Using, Remaining backendai.ResourceSlots }

// Choice tells what of the presets can be had now.
type Choice struct {
	// Keypair has as remaining the least that the keypair, the project and the domain leave.
	Keypair, Group Quota
	ScalingGroups  map[string]GroupRoom
	Remaining      backendai.ResourceSlots // of all these scaling groups, no more than the quotas leave
	Allocatable    []bool                  // by preset
}

// CheckPresets compares presets with the quotas and with what single agents have left (spec/rest-core §7.8.1, spec/scheduling-lifecycle §17). The
// presets' slots are normalized; scalingGroups are those that count.
func CheckPresets(presets []Preset, limits protocol.Limits, taken []Taken, rooms []Room, scalingGroups []string, known *backendai.KnownSlots) (c Choice) {
	zero := backendai.ResourceSlots{}.Normalize(known)
	c.Keypair, c.Group = Quota{Limits: limits.Keypair, Using: zero}, Quota{Limits: limits.Group, Using: zero}
	domain := Quota{Limits: limits.Domain, Using: zero}
	c.ScalingGroups = make(map[string]GroupRoom, len(scalingGroups))
	for _, name := range scalingGroups {
		c.ScalingGroups[name] = GroupRoom{zero, zero}
	}
	for _, t := range taken {
		if g, ok := c.ScalingGroups[t.ScalingGroup]; ok && t.OfUser {
			g.Using = g.Using.Add(t.Slots)
			c.ScalingGroups[t.ScalingGroup] = g
		}
		if t.Ending {
			continue
		}
		slots := t.Slots.Normalize(known)
		for quota, counts := range map[*Quota]bool{&c.Keypair: t.OfKey, &c.Group: t.OfGroup, &domain: t.OfDomain} {
			if counts {
				quota.Using = quota.Using.Add(slots)
			}
		}
	}
	for _, quota := range []*Quota{&c.Keypair, &c.Group, &domain} {
		quota.Remaining = quota.Limits.Sub(quota.Using)
	}
	for _, name := range known.Names() {
		least := smaller(c.Keypair.Remaining.Get(name), smaller(c.Group.Remaining.Get(name), domain.Remaining.Get(name)))
		c.Keypair.Remaining = c.Keypair.Remaining.With(name, least)
	}
	c.Remaining = zero
	c.Allocatable = make([]bool, len(presets))
	for _, r := range rooms {
		g, ok := c.ScalingGroups[r.ScalingGroup]
		if !ok {
			continue
		}
		left := r.Available.Sub(r.Occupied)
		g.Remaining, c.Remaining = g.Remaining.Add(left), c.Remaining.Add(left)
		c.ScalingGroups[r.ScalingGroup] = g
		for i, p := range presets {
			c.Allocatable[i] = c.Allocatable[i] || p.Slots.LessEq(left) && p.Slots.LessEq(c.Keypair.Remaining)
		}
	}
	for name, g := range c.ScalingGroups {
		g.Remaining = cutTo(g.Remaining, c.Keypair.Remaining, known)
		c.ScalingGroups[name] = g
	}
	c.Remaining = cutTo(c.Remaining, c.Keypair.Remaining, known)
	return c
}

// cutTo cuts the known slots to what is left of the quotas.
func cutTo(slots, limit backendai.ResourceSlots, known *backendai.KnownSlots) backendai.ResourceSlots {
	for _, name := range known.Names() {
		slots = slots.With(name, smaller(slots.Get(name), limit.Get(name)))
	}
	return slots
}

func smaller(a, b backendai.Decimal) backendai.Decimal {
	if b.Less(a) {
		return b
	}
	return a
}
