package shard

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/persistence/postgres/journal"
)

// Ledger keeps the epochs; package persistence/postgres/shards does it in PostgreSQL.
type Ledger interface {
	// Take raises the epochs and returns the new ones.
	Take(ctx context.Context, shards []int32) (map[int32]int64, error)
	// Epochs reads the present ones.
	Epochs(ctx context.Context, shards []int32) (map[int32]int64, error)
}

// Claims says to other nodes who should act for a shard; *membership.Membership does it in etcd.
type Claims interface {
	Claim(ctx context.Context, shards []int32) ([]int32, error)
	NoteEpoch(ctx context.Context, epochs map[int32]int64) error
	Release(ctx context.Context, shards []int32) error
}

// Hands are what the owner works with. Claims is nil for a node that is alone: it takes what it is told to.
type Hands struct {
	Ledger Ledger
	Claims Claims
	// Flush waits until everything that has been handed to the journal is written or refused.
	Flush func(context.Context) error
	// JoinDelay is how long a member must have been there before shards move to it.
	JoinDelay time.Duration
}

// retryTake is the pause before shards are tried to be taken again.
const retryTake = time.Second

// remnantTimeout bounds the repeated destroy of a kernel whose row is dead already.
const remnantTimeout = time.Minute

// Take tells the owner to take shards.
type Take struct{ Shards []int32 }

// Status asks the owner how things stand; it answers on the channel, which must have room.
type Status struct{ Answer chan<- Ownership }

// Ownership is how things stand: by shard, its epoch; and how many are still to be taken.
type Ownership struct {
	Epochs  map[int32]int64
	Pending int
	GivenUp []int32
	Busy    []int32 // being handed over, or claimed again
}

// taken brings the epochs and rows of shards, or says why they could not be taken.
type taken struct {
	asked  []int32
	shards []int32
	epochs map[int32]int64
	rows   *services.ShardRows
	err    error
}

// Owner takes shards for this node and supervises them.
type Owner struct {
	svc     *services.Services
	hands   Hands
	ctx     actor.Context
	view    *membership.View
	away    bool      // the lease is lost
	backAt  time.Time // when the node became a member again after that
	timer   *time.Timer
	busy    map[int32]bool // being handed over or renewed
	unsure  map[int32]bool // renewed, as far as is known
	drains  map[string]chan struct{}
	epochs  map[int32]int64
	pids    map[int32]*actor.PID
	shards  map[string]int32 // by PID id
	pending map[int32]bool
	givenUp map[int32]bool
	lives   int
}

// OwnerProps makes the props of the node's owner of shards.
func OwnerProps(svc *services.Services, hands Hands) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindNode, ID: "shards", Shard: -1}
	return svc.Inspector.Props(id, func() actor.Actor {
		return &Owner{svc: svc, hands: hands, busy: make(map[int32]bool), unsure: make(map[int32]bool), drains: make(map[string]chan struct{}), epochs: make(map[int32]int64), pids: make(map[int32]*actor.PID),
			shards: make(map[string]int32), pending: make(map[int32]bool), givenUp: make(map[int32]bool)}
	}, actor.WithSupervisor(strategy{svc.System}))
}

// Receive takes shards and looks after their lives.
func (o *Owner) Receive(ctx actor.Context) {
	o.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *Take:
		o.take(msg.Shards)
	case *taken:
		o.taken(msg)
	case *Reclaim:
		o.reclaim(msg.Shard, msg.Reason)
	case *crashed:
		if shard, ok := o.shards[msg.pid.Id]; ok {
			o.reclaim(shard, fmt.Sprintf("the shard's supervisor has crashed: %v", msg.reason))
		}
	case *GaveUp:
		o.svc.Log.Error("a shard has been taken by another manager; this one no longer acts for it", "shard", msg.Shard)
		o.stop(msg.Shard)
		o.givenUp[msg.Shard] = true
		o.look()
	case *membership.View:
		o.follow(msg)
	case *Interrupted:
		o.interrupted(msg.Address)
	case *lookAgain:
		o.look()
	case *handedOver:
		o.handedOver(msg)
	case *protocol.Drained:
		if done := o.drains[msg.ID]; done != nil {
			close(done)
			delete(o.drains, msg.ID)
		}
	case *actor.Stopping:
		if o.timer != nil {
			o.timer.Stop()
		}
	case *Status:
		msg.Answer <- o.status()
	}
}

// Facts tells what the node owns.
func (o *Owner) Facts() map[string]any {
	return map[string]any{"owned": len(o.epochs), "being_taken": len(o.pending), "given_up": len(o.givenUp)}
}

func (o *Owner) status() Ownership {
	s := Ownership{Epochs: make(map[int32]int64, len(o.epochs)), Pending: len(o.pending)}
	for k, v := range o.epochs {
		s.Epochs[k] = v
	}
	for k := range o.givenUp {
		s.GivenUp = append(s.GivenUp, k)
	}
	for k := range o.busy {
		s.Busy = append(s.Busy, k)
	}
	return s
}

// take raises the epochs and reads the rows on a worker; the shards' actors are made when both are there.
func (o *Owner) take(list []int32) {
	for _, s := range list {
		o.pending[s] = true
	}
	self, root, n := o.ctx.Self(), o.svc.System.Root, o.svc.Router.Shards()
	work := func(ctx context.Context) {
		t := &taken{asked: list, shards: list}
		if o.hands.Claims != nil {
			if t.shards, t.err = o.hands.Claims.Claim(ctx, list); t.err != nil || len(t.shards) == 0 {
				root.Send(self, t)
				return
			}
		}
		failpoint.Hit(failpoint.AfterClaim)
		if t.epochs, t.err = o.hands.Ledger.Take(ctx, t.shards); t.err == nil {
			failpoint.Hit(failpoint.AfterEpoch)
			// After the epoch is raised no older owner can change these rows any more.
			t.rows, t.err = o.svc.Store.Shard(ctx, t.shards, n)
		}
		if t.err == nil && o.hands.Claims != nil {
			// Others send messages here once they see the epoch. When this fails, they do when it is noted at the next look.
			_ = o.hands.Claims.NoteEpoch(ctx, t.epochs)
		}
		root.Send(self, t)
	}
	if !o.svc.Work.Go(work) {
		time.AfterFunc(retryTake, func() { root.Send(self, &Take{list}) })
	}
}

func (o *Owner) taken(t *taken) {
	for _, s := range t.asked {
		if t.err == nil || o.hands.Claims != nil {
			delete(o.pending, s)
		}
	}
	if t.err != nil && o.hands.Claims != nil {
		o.svc.Log.Warn("shards could not be taken; trying again", "shards", len(t.asked), "error", t.err)
		o.lookLater(retryTake)
		return
	}
	if t.err != nil {
		o.svc.Log.Warn("shards could not be taken; trying again", "shards", len(t.shards), "error", t.err)
		self, root := o.ctx.Self(), o.svc.System.Root
		time.AfterFunc(retryTake, func() { root.Send(self, &Take{t.shards}) })
		return
	}
	for _, s := range t.shards {
		o.lives++
		guard := journal.Guard{Shard: s, Epoch: t.epochs[s]}
		pid, err := o.ctx.SpawnNamed(Props(o.svc, guard, t.rows), fmt.Sprintf("shard-%d-%d", s, o.lives))
		if err != nil {
			o.svc.Log.Error("a shard's actor could not be made", "shard", s, "error", err)
			continue
		}
		o.epochs[s], o.pids[s], o.shards[pid.Id] = guard.Epoch, pid, s
		delete(o.pending, s)
		delete(o.givenUp, s)
		o.svc.Router.Set(s, pid)
	}
	if len(t.shards) == 0 {
		return
	}
	o.moved(t.shards)
	for _, r := range t.rows.Remnants {
		call := callosum.DestroyKernel{KernelID: r.KernelID.String(), Reason: string(backendai.InfoForceTerminated), SuppressEvents: true}.Call()
		o.svc.Router.Send(cluster.Agent(r.Agent), &protocol.Call{Call: call, At: time.Now(), Deadline: time.Now().Add(remnantTimeout)})
	}
}

// reclaim ends a shard's epoch and takes it again.
func (o *Owner) reclaim(shard int32, reason string) {
	if o.pending[shard] {
		return
	}
	o.svc.Log.Error("a shard is taken again", "shard", shard, "reason", reason)
	o.stop(shard)
	o.pending[shard] = true
	if o.hands.Claims != nil { // the claim is still this node's
		o.lookLater(firstPause)
		delete(o.pending, shard)
		return
	}
	self, root := o.ctx.Self(), o.svc.System.Root
	time.AfterFunc(firstPause, func() { root.Send(self, &Take{[]int32{shard}}) })
}

func (o *Owner) stop(shard int32) {
	o.svc.Router.Set(shard, nil)
	if pid := o.pids[shard]; pid != nil {
		delete(o.shards, pid.Id)
		o.ctx.Stop(pid)
	}
	delete(o.pids, shard)
	delete(o.epochs, shard)
	delete(o.unsure, shard)
}
