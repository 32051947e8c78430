package simulation

import (
	"slices"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/shard"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

const (
	retryTake      = time.Second
	remnantTimeout = time.Minute
	lookPeriod     = time.Second
	drainPatience  = time.Second
)

// shardOwner mirrors actors/shard's Owner; what to take, renew, hand over and drop is decided by its own PlanFor.
type shardOwner struct {
	p       *process
	view    *membership.View
	pending map[int32]bool
	busy    map[int32]bool // being handed over or renewed
	epochs  map[int32]int64
	actors  map[int32]*shardActor // also those that are being handed over and not routed to any more
	drains  map[*shardActor]func()
	timer   *timer
}

func newShardOwner(p *process) *shardOwner {
	return &shardOwner{p: p, pending: make(map[int32]bool), busy: make(map[int32]bool), epochs: make(map[int32]int64),
		actors: make(map[int32]*shardActor), drains: make(map[*shardActor]func()), timer: &timer{}}
}

type shardRows struct {
	sessions map[int32][][]record.Kernel
	agents   map[int32][]record.Agent
	groups   map[int32][]string
	remnants []remnant
}

// follow takes a new view of the cluster.
func (o *shardOwner) follow(v *membership.View) {
	o.view = v
	var moved []int32
	for s, address := range shard.Routes(*v, len(o.p.views)) {
		if q := o.p.w.procs[address]; o.p.views[s] != q {
			o.p.views[s] = q
			moved = append(moved, int32(s))
		}
	}
	o.moved(moved)
	o.look()
}

// moved tells the actors of this node that what they have on the way to some shards may be lost.
func (o *shardOwner) moved(shards []int32) {
	if len(shards) == 0 {
		return
	}
	slices.Sort(shards)
	msg := &protocol.Moved{Shards: shards, Of: len(o.p.views), Now: o.p.w.time()}
	for s := range int32(len(o.p.views)) {
		if a := o.actors[s]; a != nil && (!msg.Has(s) || o.p.views[s] != nil) {
			a.box.send(msg)
		}
	}
}

func (o *shardOwner) lookLater(d time.Duration) {
	o.timer.stop()
	t := &timer{}
	o.timer = t
	o.p.w.after(d, o.p, func() {
		if !t.off {
			o.look()
		}
	})
}

// look compares what the node has with what it should have, and begins to change it.
func (o *shardOwner) look() {
	if o.view == nil {
		return
	}
	o.lookLater(o.p.w.slow(lookPeriod))
	h := shard.Holding{Owned: o.epochs, Busy: make(map[int32]bool)}
	for s := range o.busy {
		h.Busy[s] = true
	}
	for s := range o.pending {
		h.Busy[s] = true
	}
	plan := shard.PlanFor(*o.view, h, len(o.p.views), o.p.w.time(), joinDelay)
	for _, s := range plan.Drop {
		o.p.w.log("%s drops shard %d", o.p, s)
		o.stop(s)
	}
	if len(plan.Take) > 0 {
		o.take(plan.Take)
	}
	if len(plan.Renew) > 0 {
		o.renew(plan.Renew)
	}
	if len(plan.Give) > 0 {
		o.give(plan.Give)
	}
	o.note()
}

// note writes epochs into claims that do not show them.
func (o *shardOwner) note() {
	missing := make(map[int32]int64)
	for s, epoch := range o.epochs {
		if c, ok := o.view.Claims[s]; ok && c.Member == o.view.Self && c.Epoch != epoch && !o.busy[s] {
			missing[s] = epoch
		}
	}
	if len(missing) > 0 {
		o.p.reach(func() error { return o.p.w.etcd.noteEpochs(o.p, missing) }, func(error) {})
	}
}

// reach asks etcd something.
func (p *process) reach(f func() error, done func(error)) {
	p.w.after(p.w.between(500*time.Microsecond, 5*time.Millisecond), p, func() {
		err := f()
		p.w.after(500*time.Microsecond, p, func() { done(err) })
	})
}

// take claims shards, raises their epochs and reads their rows; the shards' actors are made when all is there.
func (o *shardOwner) take(list []int32) {
	for _, s := range list {
		o.pending[s] = true
	}
	w, db := o.p.w, o.p.w.db
	var got []int32
	o.p.reach(func() (err error) {
		got, err = w.etcd.claim(o.p, list)
		return err
	}, func(err error) {
		if err != nil || len(got) == 0 {
			o.taken(list, got, nil, shardRows{}, err)
			return
		}
		var epochs map[int32]int64
		var rows shardRows
		o.p.work([]func() error{
			func() error {
				epochs = db.take(got)
				w.log("%s raises epochs %v", o.p, epochs)
				return nil
			},
			func() error { rows.sessions = db.sessionsOf(got); return nil },
			func() error { rows.agents = db.agentsOf(got); return nil },
			func() error { rows.groups = db.groupsOf(got); return nil },
			func() error { rows.remnants = db.remnants(got); return nil },
		}, func(err error) {
			if err != nil {
				o.taken(list, got, nil, rows, err)
				return
			}
			o.p.reach(func() error { return w.etcd.noteEpochs(o.p, epochs) }, func(error) { o.taken(list, got, epochs, rows, nil) })
		})
	})
}

func (o *shardOwner) taken(asked, got []int32, epochs map[int32]int64, rows shardRows, err error) {
	w := o.p.w
	for _, s := range asked {
		delete(o.pending, s)
	}
	if err != nil {
		o.lookLater(retryTake)
		return
	}
	for _, s := range got {
		guard := journal.Guard{Shard: s, Epoch: epochs[s]}
		a := newShardActor(o.p, guard, rows.sessions[s], rows.agents[s], rows.groups[s])
		o.epochs[s], o.actors[s], o.p.shards[s] = guard.Epoch, a, a
	}
	if len(got) == 0 {
		return
	}
	o.moved(slices.Clone(got))
	for _, r := range rows.remnants {
		call := request{Kind: destroyKernel, Kernel: r.kernel, Reason: string(backendai.InfoForceTerminated), Suppress: true}
		o.p.route(cluster.Agent(r.agent), &protocol.Call{Call: call.wire(), Deadline: w.time().Add(remnantTimeout)})
	}
}

// renew claims shards again whose claims went with a lost lease, and gives up those whose epoch another has raised meanwhile.
func (o *shardOwner) renew(shards []int32) {
	epochs := make(map[int32]int64, len(shards))
	for _, s := range shards {
		o.busy[s] = true
		epochs[s] = o.epochs[s]
	}
	var got []int32
	o.p.reach(func() (err error) {
		if got, err = o.p.w.etcd.claim(o.p, shards); err == nil {
			err = o.p.w.etcd.noteEpochs(o.p, epochs)
		}
		return err
	}, func(err error) {
		var lost []int32
		for _, s := range shards {
			if err == nil && (!slices.Contains(got, s) || o.p.w.db.epochs[s] != epochs[s]) {
				lost = append(lost, s)
			}
		}
		o.handedOver(shards, lost)
	})
}

// give hands shards over: nothing new is begun, what is committed is carried out, what is submitted is written, and only then are the
// shards released.
func (o *shardOwner) give(shards []int32) {
	w := o.p.w
	w.log("%s hands shards %v over", o.p, shards)
	var list []*shardActor
	waiting := 0
	over := false
	release := func() {
		if over {
			return
		}
		over = true
		for _, a := range list {
			a.box.stop()
		}
		w.after(time.Millisecond, o.p, func() {
			o.p.flush(func() {
				o.p.reach(func() error { return w.etcd.release(o.p, shards) }, func(error) { o.handedOver(shards, nil) })
			})
		})
	}
	for _, s := range shards {
		o.busy[s] = true
		delete(o.p.shards, s)
		if a := o.actors[s]; a != nil {
			list = append(list, a)
			waiting++
			o.drains[a] = func() {
				if waiting--; waiting == 0 {
					release()
				}
			}
			a.box.send(&protocol.Drain{})
		}
	}
	w.after(drainPatience, o.p, release)
	if waiting == 0 {
		release()
	}
}

func (o *shardOwner) drained(a *shardActor) {
	if f := o.drains[a]; f != nil {
		delete(o.drains, a)
		f()
	}
}

func (o *shardOwner) handedOver(shards, lost []int32) {
	for _, s := range shards {
		delete(o.busy, s)
		if a := o.actors[s]; a != nil && o.p.shards[s] == nil { // handed over, not renewed
			delete(o.drains, a)
			o.stop(s)
		}
	}
	for _, s := range lost {
		o.stop(s)
	}
	o.lookLater(100 * time.Millisecond)
}

// gaveUp is the end of a shard that another process has taken.
func (o *shardOwner) gaveUp(shard int32) {
	o.p.w.log("%s gives shard %d up", o.p, shard)
	o.p.w.stats.GaveUp++
	o.stop(shard)
	o.look()
}

func (o *shardOwner) reclaim(shard int32, reason string) {
	if o.pending[shard] {
		return
	}
	o.p.w.log("%s takes shard %d again: %s", o.p, shard, reason)
	o.stop(shard)
	o.lookLater(firstPause) // the claim is still this node's
}

func (o *shardOwner) stop(shard int32) {
	delete(o.p.shards, shard)
	if a := o.actors[shard]; a != nil {
		a.box.stop()
	}
	delete(o.actors, shard)
	delete(o.epochs, shard)
}
