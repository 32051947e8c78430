package shard

import (
	"time"

	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
)

// Plan is what a node has to do about its shards.
type Plan struct {
	// Take: shards that should be this node's and that nobody acts for.
	Take []int32
	// Renew: shards that this node acts for and whose claims went with a lost lease. Another may have had them meanwhile.
	Renew []int32
	// Give: shards that should be another's; they are handed over.
	Give []int32
	// Drop: shards that another has claimed while this node's lease was lost; it must not act for them any more.
	Drop []int32
}

// Holding is what a node has at the moment.
type Holding struct {
	Owned map[int32]int64 // epochs
	// Unsure: of those, the ones whose renewal has begun and is not known to have succeeded.
	Unsure map[int32]bool
	// Back: the node has just become a member again after its lease was lost. When etcd was away for all, the others come back one after
	// another, and their shards look free until then: nothing is taken.
	Back bool
	// Busy: shards that are being taken, handed over or renewed; they are left alone.
	Busy map[int32]bool
}

// PlanFor decides from the view of the cluster what a node has to do. Shards move only to members that have been there for delay.
func PlanFor(v membership.View, h Holding, shards int, now time.Time, delay time.Duration) (p Plan) {
	self, member := v.Member(v.Self)
	eligible := v.Eligible(now, delay)
	names := make([]string, len(eligible))
	for i, m := range eligible {
		names[i] = m.Name
	}
	wanted := cluster.Wanted(names, shards)
	for s := range int32(shards) {
		if h.Busy[s] {
			continue
		}
		claim, claimed := v.Claims[s]
		mine := claimed && claim.Member == v.Self
		_, owned := h.Owned[s]
		switch {
		case owned && claimed && !mine:
			p.Drop = append(p.Drop, s)
		case !member:
			// The lease is lost: what is owned is kept under its epoch until someone else has claimed it.
		case owned && wanted[s] != self.Name && wanted[s] != "":
			p.Give = append(p.Give, s)
		case owned && (!claimed || h.Unsure[s]):
			p.Renew = append(p.Renew, s)
		case !owned && wanted[s] == self.Name && (mine || !claimed):
			if mine || !h.Back {
				p.Take = append(p.Take, s)
			}
		case !owned && mine:
			p.Give = append(p.Give, s) // claimed, but not wanted any more before it was taken
		}
	}
	return p
}

// Routes are the addresses of the nodes that own the shards, "" where none does.
func Routes(v membership.View, shards int) []string {
	routes := make([]string, shards)
	for s, c := range v.Claims {
		if int(s) >= shards || c.Member == v.Self || c.Epoch == 0 { // an owner without an epoch cannot act yet
			continue
		}
		if m, ok := v.Member(c.Member); ok {
			routes[s] = m.Address
		}
	}
	return routes
}
