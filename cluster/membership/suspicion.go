package membership

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// secondLook is how long after the first look an address is looked at again before its member counts as dead.
const secondLook = 100 * time.Millisecond

// Suspect tells that the connection to the member at an address has broken. If its host refuses connections to that address, twice, the
// process has ended: its lease is revoked, so that others can claim its shards at once instead of when the lease runs out. A member that
// is only cut off, paused or slow is left to its lease. Should one be taken for dead wrongly (a firewall that refuses), it joins again, and
// the epochs of its shards keep it from doing harm meanwhile. It returns at once.
func (m *Membership) Suspect(address string) {
	view := m.View()
	for _, other := range view.Members {
		if other.Address == address && other.ID != view.Self {
			m.mu.Lock()
			running := m.cancel != nil && m.lease != 0
			m.mu.Unlock()
			if running {
				go m.bury(other)
			}
			return
		}
	}
}

// bury revokes the lease of a member whose process has ended.
func (m *Membership) bury(dead Member) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if !nobodyAt(ctx, dead.Address) || sleep(ctx, secondLook) != nil || !nobodyAt(ctx, dead.Address) {
		return
	}
	if now, there := m.View().Member(dead.ID); !there || now.Lease != dead.Lease {
		return // it has left in an orderly way
	}
	m.log.Warn("another node has ended without saying so; its shards are free at once", "node", dead.Name, "address", dead.Address)
	if err := m.revoke(ctx, clientv3.LeaseID(dead.Lease)); err != nil {
		m.log.Warn("the lease of a node that has ended was not revoked; it runs out by itself", "node", dead.Name, "error", err)
	}
}
