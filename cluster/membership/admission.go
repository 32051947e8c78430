package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

// refusal says in a sentence why self can't work beside other; "" when it can. Pure.
func refusal(self, other Member) string {
	who := fmt.Sprintf("the live node %s (%s)", other.Name, other.Address)
	switch {
	case self.Name == other.Name:
		return fmt.Sprintf("%s has the name of this one: give every node of a cluster a name of its own.", who)
	case self.Namespace != other.Namespace:
		return fmt.Sprintf("%s serves the namespace %q, this one %q: they must not share a prefix in etcd.", who, other.Namespace, self.Namespace)
	case self.Database != other.Database:
		return fmt.Sprintf("%s works on another database (%s, not %s): clusters must not share a namespace in etcd.", who, other.Database, self.Database)
	case self.Shards != other.Shards:
		return fmt.Sprintf("%s divides the actors into %d shards, this one into %d: all nodes of a cluster must agree.", who, other.Shards, self.Shards)
	case generation(self.Version) != generation(other.Version):
		return fmt.Sprintf("%s runs version %s, this one %s: only versions of one generation work together.", who, other.Version, self.Version)
	case self.Trust != other.Trust:
		return fmt.Sprintf("%s has another cluster secret: give all nodes the same actors.cluster-secret (without one it is made of the database's "+
			"user, name and password), or certificates to all. To change it, stop all nodes first.", who)
	case self.Host != other.Host && (loopback(self.Address) || loopback(other.Address)):
		return fmt.Sprintf("%s is on another machine (%s), this one (%s) is on %s; an address of loopback reaches nobody there: set actors.cluster-addr on every node.",
			who, other.Host, self.Address, self.Host)
	}
	return ""
}

// loopback tells whether only processes on the same machine can reach an address.
func loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// generation is the first two numbers of a version: "22.03" of "22.03.14". Versions of one generation work together.
func generation(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

// objector is a member that self can't work beside.
type objector struct {
	member held[Member]
	why    string
}

// objections lists the members among s that self can't work beside: all of them, or only those that registered before the given revision.
func objections(self Member, s *snapshot, before int64) (list []objector) {
	for id, h := range s.members {
		if id == self.ID || before != 0 && h.created >= before {
			continue
		}
		if why := refusal(self, h.value); why != "" {
			list = append(list, objector{h, why})
		}
	}
	slices.SortFunc(list, func(a, b objector) int { return strings.Compare(a.member.value.ID, b.member.value.ID) })
	return list
}

// watchInterval is how often an objecting member's lease is looked at.
const watchInterval = 200 * time.Millisecond

// expirySlack is how long etcd may take to remove a lease that has expired: it looks twice a second, and tells the time left in whole seconds.
const expirySlack = 2 * time.Second

// proof is what shows that a lease is being renewed: more time left than before, or life beyond the time that was left.
type proof struct {
	left int64 // seconds
	by   time.Time
}

// admit waits until nobody objects any more. A process that was killed leaves its member behind until its lease expires; one whose lease
// is renewed meanwhile lives, and that is the error.
func (m *Membership) admit(ctx context.Context) error {
	proofs := map[clientv3.LeaseID]proof{}
	for {
		s, err := m.list(ctx)
		if err != nil {
			return err
		}
		list := objections(m.self(), s, 0)
		if len(list) == 0 {
			return nil
		}
		for _, o := range list {
			if m.replaces(o.member.value) || o.member.value.Name == m.self().Name && nobodyAt(ctx, o.member.value.Address) {
				// Its process was killed: why wait for the lease?
				if err := m.revoke(ctx, o.member.lease); err != nil {
					return err
				}
				continue
			}
			resp, err := m.timeToLive(ctx, o.member.lease)
			if err != nil {
				return err
			}
			p, seen := proofs[o.member.lease]
			switch {
			case !seen:
				p.by = time.Now().Add(time.Duration(resp.TTL)*time.Second + expirySlack)
			case resp.TTL > p.left, resp.TTL > 0 && time.Now().After(p.by):
				return refused(o.why)
			}
			p.left = resp.TTL
			proofs[o.member.lease] = p
		}
		if err := sleep(ctx, watchInterval); err != nil {
			return refused(list[0].why)
		}
	}
}

// replaces tells whether other is the process that was where this one is now. The machine gives an address to one process at a time.
func (m *Membership) replaces(other Member) bool {
	self := m.self()
	return m.cfg.Bound && other.Name == self.Name && other.Address == self.Address && other.Host == self.Host && self.Host != ""
}

// nobodyAt tells whether an address surely has no listener: its host refuses the connection. A host that does not answer may be cut off.
func nobodyAt(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func refused(why string) error {
	return backendai.Errorf(backendai.InvalidConfig, "This node can't join the cluster: %s", why)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
