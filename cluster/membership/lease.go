package membership

import (
	"context"
	"encoding/json"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

// alive is a lease that is being renewed until its context ends.
type alive struct {
	answers  <-chan *clientv3.LeaseKeepAliveResponse
	deadline time.Time
	ttl      time.Duration
	cancel   context.CancelFunc
}

// join becomes a member: admitted, with a lease, registered, and not overtaken by somebody whom this process can't work beside.
func (m *Membership) join(ctx context.Context) (*alive, error) {
	for {
		if err := m.admit(ctx); err != nil {
			return nil, err
		}
		a, created, err := m.register(ctx)
		if err != nil {
			return nil, err
		}
		s, err := m.list(ctx)
		if err == nil && len(objections(m.self(), s, created)) == 0 {
			return a, nil
		}
		// Two that can't work together came at once: the earlier one stays, and this one is refused when that proves to be alive.
		a.cancel()
		_ = m.leave(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
	}
}

// register takes a lease and puts this member under it. It returns the revision that did so.
func (m *Membership) register(ctx context.Context) (*alive, int64, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	begun := time.Now()
	grant, err := m.cfg.Client.Grant(ctx, int64((m.cfg.TTL+time.Second-1)/time.Second))
	if err != nil {
		return nil, 0, unavailable(err)
	}
	m.mu.Lock()
	m.me.Lease, m.me.StartedAt = int64(grant.ID), begun.UTC()
	value, err := json.Marshal(m.me)
	m.mu.Unlock()
	if err != nil {
		return nil, 0, backendai.Internal(err)
	}
	undo := func(err error) (*alive, int64, error) {
		_ = m.revoke(context.WithoutCancel(ctx), grant.ID)
		return nil, 0, unavailable(err)
	}
	put, err := m.cfg.Client.Put(ctx, m.key(m.ID()), string(value), clientv3.WithLease(grant.ID))
	if err != nil {
		return undo(err)
	}
	renewing, stop := context.WithCancel(context.Background())
	answers, err := m.cfg.Client.KeepAlive(renewing, grant.ID)
	if err != nil {
		stop()
		return undo(err)
	}
	ttl := time.Duration(grant.TTL) * time.Second
	m.mu.Lock()
	m.lease, m.registered = grant.ID, put.Header.Revision
	m.mu.Unlock()
	signal(m.changed)
	return &alive{answers: answers, deadline: begun.Add(ttl), ttl: ttl, cancel: stop}, put.Header.Revision, nil
}

// leave gives the lease back, if there is one.
func (m *Membership) leave(ctx context.Context) error {
	m.mu.Lock()
	lease := m.lease
	m.lease = 0
	m.mu.Unlock()
	if lease == 0 {
		return nil
	}
	return m.revoke(ctx, lease)
}

func (m *Membership) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := call(ctx)
	defer cancel()
	if _, err := m.cfg.Client.Revoke(ctx, lease); err != nil && !leaseGone(err) {
		return unavailable(err)
	}
	return nil
}

func (m *Membership) timeToLive(ctx context.Context, lease clientv3.LeaseID) (*clientv3.LeaseTimeToLiveResponse, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	resp, err := m.cfg.Client.TimeToLive(ctx, lease)
	return resp, unavailable(err)
}

// hold keeps this process a member until the end of ctx: it renews the lease, and starts over whenever one is lost.
func (m *Membership) hold(ctx context.Context, a *alive) {
	for {
		why := m.renew(ctx, a)
		a.cancel()
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("this node has lost its lease; its shards are given up and it joins again", "reason", why)
		m.mu.Lock()
		lost := m.lease
		m.lease = 0
		m.mu.Unlock()
		signal(m.changed)
		if m.cfg.OnExpired != nil {
			m.cfg.OnExpired()
		}
		if a = m.rejoin(ctx, lost); a == nil {
			return
		}
		m.log.Info("this node is a member of the cluster again")
	}
}

// renew returns, with the reason, when the lease is lost, or at the end of ctx.
func (m *Membership) renew(ctx context.Context, a *alive) (why string) {
	overdue := time.NewTimer(time.Until(a.deadline))
	defer overdue.Stop()
	for {
		select {
		case resp, ok := <-a.answers:
			switch {
			case !ok:
				return "etcd has ended it"
			case time.Now().After(a.deadline):
				// The process was paused, perhaps; the answer may be as old as the pause was long.
				return "no renewal was answered in time"
			}
			a.deadline = time.Now().Add(min(time.Duration(resp.TTL)*time.Second, a.ttl))
			overdue.Reset(time.Until(a.deadline))
		case <-overdue.C:
			return "no renewal was answered in time"
		case <-m.vanished:
			if m.gone() {
				return "etcd has no such member any more"
			}
		case <-ctx.Done():
			return ""
		}
	}
}

// gone tells whether this member, which has a lease, is not where it was registered.
func (m *Membership) gone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.seen.members[m.me.ID]
	return m.lease != 0 && m.seen.revision >= m.registered && (!ok || h.lease != m.lease)
}

// rejoin tries to become a member again until it succeeds, or the end of ctx (nil).
func (m *Membership) rejoin(ctx context.Context, lost clientv3.LeaseID) *alive {
	said := ""
	for pause := pauses(); ; {
		// The old lease may still live in etcd, with claims of which nothing is known here any more.
		err := m.revoke(ctx, lost)
		if err == nil {
			var a *alive
			if a, err = m.join(ctx); err == nil {
				return a
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if text := err.Error(); text != said {
			m.log.Warn("this node can't join the cluster yet; trying again", "error", err)
			said = text
		}
		if sleep(ctx, pause.NextBackOff()) != nil {
			return nil
		}
	}
}

// SetDraining tells the others whether this member gives its shards away and takes none. It stays so when the lease is lost.
// Errors: ServiceUnavailable.
func (m *Membership) SetDraining(ctx context.Context, draining bool) error {
	m.mu.Lock()
	m.me.Draining = draining
	lease := m.lease
	value, err := json.Marshal(m.me)
	m.mu.Unlock()
	if err != nil {
		return backendai.Internal(err)
	}
	if lease == 0 {
		return errNoMember()
	}
	ctx, cancel := call(ctx)
	defer cancel()
	key := m.key(m.ID())
	resp, err := m.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", lease)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(lease))).Commit()
	if leaseGone(err) || err == nil && !resp.Succeeded {
		return errNoMember()
	}
	return unavailable(err)
}

func errNoMember() error {
	return backendai.Errorf(backendai.ServiceUnavailable, "This node is not a member of the cluster at the moment; try again.")
}
