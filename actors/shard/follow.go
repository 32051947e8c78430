package shard

import (
	"context"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/config/failpoint"
)

const (
	// lookPeriod is how often an owner looks whether a member has been there for long enough, or whether something was missed.
	lookPeriod = time.Second
	// backFor is how long a node that has lost its lease and joined again leaves shards alone that nobody has claimed.
	backFor = 4 * time.Second
	// drainPatience is how long the actors of a shard may take to carry out what is committed before the shard is handed over anyway;
	// its next owner then finishes it from the rows.
	drainPatience = time.Second
	// handOverTimeout bounds the writing and the release of a hand-over.
	handOverTimeout = 10 * time.Second
)

// lookAgain makes the owner compare what it has with what it should have.
type lookAgain struct{}

// handedOver tells that shards have been released, or renewed; err says that they were not.
type handedOver struct {
	shards  []int32
	renewed bool
	lost    []int32 // renewed in vain: another has them, or has had them
	err     error
}

// follow takes a new view of the cluster.
func (o *Owner) follow(v *membership.View) {
	if _, member := v.Member(v.Self); !member {
		o.away = true
	} else if o.away {
		o.away, o.backAt = false, time.Now()
	}
	o.view = v
	var moved []int32
	for s, address := range Routes(*v, o.svc.Router.Shards()) {
		shard := int32(s)
		if o.svc.Router.Node(shard) != address {
			o.svc.Router.SetNode(shard, address)
			moved = append(moved, shard)
		}
	}
	o.moved(moved)
	o.look()
}

// moved tells the actors of this node that what they have on the way to some shards may be lost.
func (o *Owner) moved(shards []int32) {
	if len(shards) == 0 || o.hands.Claims == nil {
		return
	}
	slices.Sort(shards)
	msg := &protocol.Moved{Shards: shards, Of: o.svc.Router.Shards(), Now: time.Now()}
	for s, pid := range o.pids {
		if !msg.Has(s) || o.svc.Router.Node(s) != "" { // a shard that has just been taken has nothing on the way
			o.ctx.Send(pid, msg)
		}
	}
}

// Interrupted tells an owner that the connection between this node and the one at an address had broken, and is there again.
type Interrupted struct{ Address string }

// interrupted has everyone who waits for something from the shards of another node ask for it again.
func (o *Owner) interrupted(address string) {
	var shards []int32
	for s := range int32(o.svc.Router.Shards()) {
		if o.svc.Router.Node(s) == address {
			o.svc.Router.Renew(s)
			shards = append(shards, s)
		}
	}
	o.moved(shards)
}

func (o *Owner) lookLater(after time.Duration) {
	self, root := o.ctx.Self(), o.svc.System.Root
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(after, func() { root.Send(self, &lookAgain{}) })
}

// look compares what the node has with what it should have, and begins to change it.
func (o *Owner) look() {
	if o.view == nil || o.hands.Claims == nil {
		return
	}
	o.lookLater(lookPeriod)
	h := Holding{Owned: o.epochs, Back: time.Since(o.backAt) < backFor, Unsure: o.unsure, Busy: make(map[int32]bool, len(o.busy)+len(o.pending))}
	for s := range o.busy {
		h.Busy[s] = true
	}
	for s := range o.pending {
		h.Busy[s] = true
	}
	p := PlanFor(*o.view, h, o.svc.Router.Shards(), time.Now(), o.hands.JoinDelay)
	if len(p.Drop) > 0 {
		o.svc.Log.Warn("other nodes have claimed shards while this one had no lease; it no longer acts for them", "shards", len(p.Drop))
	}
	for _, s := range p.Drop {
		o.stop(s)
	}
	if len(p.Take) > 0 {
		o.take(p.Take)
	}
	if len(p.Renew) > 0 {
		o.renew(p.Renew)
	}
	if len(p.Give) > 0 {
		o.give(p.Give)
	}
	o.note()
}

// note writes epochs into claims that do not show them.
func (o *Owner) note() {
	missing := make(map[int32]int64)
	for s, epoch := range o.epochs {
		if c, ok := o.view.Claims[s]; ok && c.Member == o.view.Self && c.Epoch != epoch && !o.busy[s] {
			missing[s] = epoch
		}
	}
	if len(missing) > 0 {
		o.svc.Work.Go(func(ctx context.Context) { _ = o.hands.Claims.NoteEpoch(ctx, missing) })
	}
}

// renew claims shards again whose claims went with a lost lease. Their epochs stay, unless another has raised them meanwhile and is gone
// again: what it has written is not known here, so such shards are given up and taken anew. The journal would only say so at a write.
func (o *Owner) renew(shards []int32) {
	epochs := make(map[int32]int64, len(shards))
	for _, s := range shards {
		o.busy[s], o.unsure[s] = true, true
		epochs[s] = o.epochs[s]
	}
	self, root, claims, ledger := o.ctx.Self(), o.svc.System.Root, o.hands.Claims, o.hands.Ledger
	work := func(ctx context.Context) {
		h := &handedOver{shards: shards, renewed: true}
		var got []int32
		var present map[int32]int64
		if got, h.err = claims.Claim(ctx, shards); h.err == nil {
			present, h.err = ledger.Epochs(ctx, got)
		}
		if h.err == nil {
			for _, s := range shards {
				if present[s] != epochs[s] { // claimed by another, or raised by one
					h.lost = append(h.lost, s)
					delete(epochs, s)
				}
			}
			_ = claims.NoteEpoch(ctx, epochs) // or at the next look
		}
		root.Send(self, h)
	}
	if !o.svc.Work.Go(work) {
		root.Send(self, &handedOver{shards: shards, renewed: true, err: errBusy})
	}
}

// give hands shards over: nothing new is begun, what is committed is carried out, what is submitted is written, and only then are the
// shards released for their next owners.
func (o *Owner) give(shards []int32) {
	var pids []*actor.PID
	var drained []<-chan struct{}
	for _, s := range shards {
		o.busy[s] = true
		o.svc.Router.Set(s, nil)
		pid := o.pids[s]
		if pid == nil {
			continue
		}
		done := make(chan struct{})
		o.drains[pid.Id] = done
		o.ctx.Send(pid, &protocol.Drain{})
		pids, drained = append(pids, pid), append(drained, done)
	}
	o.svc.Log.Info("handing shards over", "shards", len(shards))
	self, system, claims := o.ctx.Self(), o.svc.System, o.hands.Claims
	// Not a worker's work: it waits for actors, which may wait for workers. It ends by its deadlines.
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), handOverTimeout)
		defer cancel()
		late := time.After(drainPatience)
		for _, done := range drained {
			select {
			case <-done:
			case <-late:
				late = expired // no one waits any more
			}
		}
		for _, pid := range pids {
			_ = system.Root.StopFuture(pid).Wait()
		}
		err := o.hands.Flush(ctx)
		failpoint.Hit(failpoint.BeforeRelease)
		if err == nil {
			err = claims.Release(ctx, shards)
		}
		system.Root.Send(self, &handedOver{shards: shards, err: err})
	}()
}

// expired is a timer that has run out for everyone.
var expired = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

func (o *Owner) handedOver(h *handedOver) {
	for _, s := range h.shards {
		delete(o.busy, s)
		if pid := o.pids[s]; pid != nil && !h.renewed {
			delete(o.drains, pid.Id)
			o.stop(s)
		}
		if h.renewed && h.err == nil {
			delete(o.unsure, s)
		}
	}
	for _, s := range h.lost {
		o.stop(s)
	}
	if h.err != nil {
		o.svc.Log.Warn("shards could not be released or claimed again; trying again", "shards", len(h.shards), "error", h.err)
	}
	o.lookLater(100 * time.Millisecond)
}
