package simulation

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"backend.ai/manager/cluster/membership"
)

const (
	leaseTTL  = 3 * time.Second
	keepAlive = time.Second
	// joinDelay is how long a member must have been there before shards move to it.
	joinDelay = 5 * time.Second
)

// registry is what package cluster/membership keeps in etcd: members on their leases, and claims on the leases of their members.
type registry struct {
	w        *World
	members  map[string]*registered // by id, which is the address of the process
	claims   map[int32]membership.Claim
	revision int64
}

type registered struct {
	membership.Member
	proc  *process
	until int64 // when its lease runs out
}

func newRegistry(w *World) *registry {
	r := &registry{w: w, members: make(map[string]*registered), claims: make(map[int32]membership.Claim)}
	return r
}

// expire takes away what lived on leases that have run out.
func (r *registry) expire() {
	for _, id := range slices.Sorted(maps.Keys(r.members)) {
		if m := r.members[id]; m.until < r.w.now {
			r.w.log("the lease of %s runs out", id)
			delete(r.members, id)
			for s, c := range r.claims {
				if c.Member == id {
					delete(r.claims, s)
				}
			}
			r.changed()
		}
	}
	r.w.after(r.w.slow(200*time.Millisecond), nil, r.expire)
}

// changed tells every member that can hear it, in its own time; who hears late hears the newest.
func (r *registry) changed() {
	r.revision++
	for _, n := range r.w.nodes {
		if p := n.proc; !p.dead {
			r.tell(p)
		}
	}
}

func (r *registry) tell(p *process) {
	if p.viewDue {
		return
	}
	p.viewDue = true
	r.w.after(r.w.between(time.Millisecond, r.w.faults.viewDelay+20*time.Millisecond), p, func() {
		p.viewDue = false
		if p.cutOff > r.w.now { // it will list everything when it is back
			p.missed = true
			return
		}
		p.owner.follow(r.view(p))
	})
}

func (r *registry) view(p *process) *membership.View {
	v := &membership.View{Self: p.address, Claims: maps.Clone(r.claims), Revision: r.revision}
	for _, m := range r.members {
		v.Members = append(v.Members, m.Member)
	}
	slices.SortFunc(v.Members, func(a, b membership.Member) int { return cmp.Compare(a.ID, b.ID) })
	return v
}

// beMember keeps a process a member for as long as it lives and reaches etcd. One whose lease is lost registers again, under its old id.
func (p *process) beMember() {
	w, r := p.w, p.w.etcd
	if p.cutOff <= w.now {
		m := r.members[p.address]
		switch {
		case m != nil:
			m.until = w.now + int64(w.slow(leaseTTL))
		case !r.nameTaken(p.node.name):
			r.members[p.address] = &registered{proc: p, until: w.now + int64(w.slow(leaseTTL)), Member: membership.Member{
				ID: p.address, Name: p.node.name, Address: p.address, Version: "22.03", Shards: len(w.db.epochs), StartedAt: w.time()}}
			w.log("%s is a member", p)
			r.changed()
		}
		if p.missed {
			p.missed = false
			r.tell(p)
		}
	}
	w.after(w.slow(keepAlive), p, p.beMember)
}

// slow stretches what happens all the time, once a healed world has had a minute: nothing new is to be learnt from it.
func (w *World) slow(d time.Duration) time.Duration {
	if w.healed && w.now > w.healedAt+int64(time.Minute) {
		return 20 * d
	}
	return d
}

func (r *registry) nameTaken(name string) bool {
	for _, m := range r.members {
		if m.Name == name {
			return true
		}
	}
	return false
}

// claim claims those of the shards that nobody has claimed.
func (r *registry) claim(p *process, shards []int32) (got []int32, err error) {
	if p.cutOff > r.w.now || r.members[p.address] == nil {
		return nil, errAway
	}
	for _, s := range shards {
		if c, ok := r.claims[s]; !ok {
			r.claims[s] = membership.Claim{Shard: s, Member: p.address}
			got = append(got, s)
		} else if c.Member == p.address {
			got = append(got, s)
		}
	}
	r.changed()
	return got, nil
}

func (r *registry) noteEpochs(p *process, epochs map[int32]int64) error {
	if p.cutOff > r.w.now || r.members[p.address] == nil {
		return errAway
	}
	for s, epoch := range epochs {
		if c, ok := r.claims[s]; ok && c.Member == p.address {
			c.Epoch = epoch
			r.claims[s] = c
		}
	}
	r.changed()
	return nil
}

func (r *registry) release(p *process, shards []int32) error {
	if p.cutOff > r.w.now || r.members[p.address] == nil {
		return errAway
	}
	for _, s := range shards {
		if r.claims[s].Member == p.address {
			delete(r.claims, s)
		}
	}
	r.changed()
	return nil
}
