package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

const (
	// tickPeriod is the original's scheduling timer.
	tickPeriod = 10 * time.Second
	// rereadEvery is after how many ticks the rows are compared with what the scheduler knows: messages between nodes can be lost.
	rereadEvery = 3
	// maxStash bounds what is kept while the rows are being read.
	maxStash = 1 << 16
	// refreshAtMost bounds how many waiting sessions' limits are read again at a tick.
	refreshAtMost = 200
	// unreadable is after how many attempts the others go on without a scaling group whose rows can't be read.
	unreadable = 10
)

// passDue is the message by which a pass comes after everything that is in the mailbox already.
type passDue struct{}

// policyRead brings the policy and the slot types as they are now; loadFailed says that the rows could not be read.
type (
	policyRead struct {
		policy *protocol.PolicyChanged
		known  *protocol.KnownSlotsChanged
	}
	loadFailed struct{ err error }
)

// Actor is the shell around a scheduler's core.
type Actor struct {
	svc   *services.Services
	guard journal.Guard
	core  *Core
	// council is what this scheduler shares with those of other scaling groups; every use of the core is a step of it.
	council *Council
	ctx     actor.Context
	loaded  bool
	stash   []any
	due     bool // a passDue is in the mailbox
	timer   *time.Timer
	warned  string
	// policyWarned is the problem of the group's options that the log was last told.
	policyWarned string
	passes       int64
	ticks        int64
	// unread counts the attempts to read the rows that failed.
	unread int
	// draining: the shard is being handed over; nothing is decided any more.
	draining bool
	took     time.Duration

	followers followers
}

// Props makes the props of a scaling group's scheduler.
func Props(svc *services.Services, guard journal.Guard, council *Council, scalingGroup string) *actor.Props {
	id := inspector.Identity{Kind: inspector.KindScheduler, ID: scalingGroup, Shard: guard.Shard, Epoch: guard.Epoch}
	return svc.Inspector.Props(id, func() actor.Actor {
		core := NewCore(scalingGroup, protocol.Policy{}, nil)
		core.Ledger = council.ledger
		return &Actor{svc: svc, guard: guard, core: core, council: council}
	})
}

// Receive feeds the core; a pass is made when the mailbox has drained.
func (a *Actor) Receive(ctx actor.Context) {
	a.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.council.join(a.core.Group, ctx.Self())
		a.load()
		a.tickLater()
	case *actor.Stopping:
		if a.timer != nil {
			a.timer.Stop()
		}
		if a.loaded && !a.draining {
			a.writeUses()
		}
	case actor.SystemMessage, actor.AutoReceiveMessage:
	case *loadFailed:
		a.svc.Log.Warn("a scheduler cannot read its rows; trying again", "scaling_group", a.core.Group, "error", msg.err)
		if a.unread++; a.unread == unreadable { // it may have been deleted: the others must not wait for it
			a.counted()
		}
		self, root := ctx.Self(), a.svc.System.Root
		time.AfterFunc(time.Second, func() { root.Send(self, &protocol.Requeue{}) })
	case *protocol.Requeue:
		a.load()
	case *protocol.SchedulerLoaded:
		if a.loaded {
			a.apply(&protocol.Reread{Rows: msg})
			return
		}
		a.loaded = true
		if n := a.svc.SchedulerRecord; n > 0 {
			a.step(func() { a.core.NewRecord(n) })
		}
		a.apply(msg)
		a.counted()
		a.tellPolicyProblem()
		for _, m := range a.stash {
			a.apply(m)
		}
		a.stash = nil
	case *passDue:
		a.due = false
		if a.loaded && !a.draining && a.council.ready() {
			a.pass()
		}
	case *policyRead:
		if msg.known != nil {
			a.apply(msg.known)
		}
		if a.loaded {
			a.apply(msg.policy)
			a.tellPolicyProblem()
			if a.core.WantsUses() {
				a.load()
			}
		}
	case *protocol.Recount:
		if a.loaded {
			a.apply(msg)
			a.load()
		}
	case *lookDue:
		a.look()
	case *answered:
		a.followers.busy = false
		a.answerReady(time.Now())
		a.lookLater()
	case *protocol.PolicyStale:
		if a.loaded { // else what is being read tells
			a.readPolicy(nil)
		}
	case *protocol.Drain:
		a.draining = true
		a.writeUses()
		ctx.Send(ctx.Parent(), &protocol.Drained{ID: ctx.Self().Id})
	case *protocol.Tick:
		a.tickLater()
		if a.loaded {
			a.refresh()
			a.apply(msg)
			if a.ticks++; a.ticks%rereadEvery == 0 {
				a.load()
			}
		}
	default:
		if a.question(msg) {
			return
		}
		if !a.loaded {
			if len(a.stash) < maxStash { // beyond that the rows will tell
				a.stash = append(a.stash, msg)
			}
			return
		}
		a.apply(msg)
	}
}

// State tells what the scheduler is at.
func (a *Actor) State() string {
	switch {
	case !a.loaded:
		return "loading"
	case a.core.blocked:
		return "blocked"
	case a.core.queue.Len() == 0:
		return "idle"
	}
	return "scheduling"
}

// Facts tells the queue and the last passes.
func (a *Actor) Facts() map[string]any {
	waiting, parked := a.core.QueueLength()
	facts := map[string]any{
		"policy": a.core.Policy.Name, "queue": waiting, "parked": parked, "placing": len(a.core.byID) - waiting,
		"backfilled": a.core.backfilled, "preempted": a.core.preempted,
		"agents": len(a.core.order), "allocations": len(a.core.allocs), "passes": a.passes, "last_pass_ms": float64(a.took.Microseconds()) / 1000,
	}
	if problem := a.core.PolicyProblem(); problem != "" {
		facts["policy_problem"] = problem
	}
	if a.core.uses != nil && !a.core.usesWanted {
		facts["fair_share_owners"] = len(a.core.uses)
	}
	return facts
}

func (a *Actor) load() {
	self, root, group := a.ctx.Self(), a.svc.System.Root, a.core.Group
	ok := a.svc.Work.Go(func(ctx context.Context) {
		rows, err := a.svc.Store.Scheduler(ctx, group)
		if err != nil {
			root.Send(self, &loadFailed{err})
			return
		}
		root.Send(self, rows)
	})
	if !ok {
		root.Send(self, &loadFailed{errors.New("too much work is waiting")})
	}
}

func (a *Actor) tickLater() {
	self, root := a.ctx.Self(), a.svc.System.Root
	a.timer = time.AfterFunc(tickPeriod, func() { root.Send(self, &protocol.Tick{Now: time.Now()}) })
}

// refresh reads again what administrators may have changed: the policy, the slot types, the limits of those who wait.
func (a *Actor) refresh() {
	waiting := make(map[protocol.Owner][]uuid.UUID)
	read := 0
	a.core.queue.Ascend(func(p *pending) bool {
		o := protocol.Owner{AccessKey: p.AccessKey, GroupID: p.GroupID, DomainName: p.DomainName}
		waiting[o] = append(waiting[o], p.ID)
		read++
		return read < refreshAtMost
	})
	a.readPolicy(waiting)
}

// readPolicy reads the policy and the slot types, and the limits of some owners' sessions.
func (a *Actor) readPolicy(waiting map[protocol.Owner][]uuid.UUID) {
	self, root, group := a.ctx.Self(), a.svc.System.Root, a.core.Group
	a.svc.Work.Go(func(ctx context.Context) {
		policy, err := a.svc.Store.Policy(ctx, group)
		if err != nil {
			return // the last good policy stays
		}
		read := &policyRead{policy: policy}
		if known, err := a.svc.Store.KnownSlots(ctx); err == nil {
			read.known = &protocol.KnownSlotsChanged{Known: known}
		}
		root.Send(self, read)
		for owner, sessions := range waiting {
			limits, err := a.svc.Store.Limits(ctx, owner)
			if err != nil {
				return
			}
			for _, id := range sessions {
				root.Send(self, &protocol.LimitsChanged{SessionID: id, Limits: limits})
			}
		}
	})
}

// counted tells the council that the rows are counted; those who have waited for the last of them may decide.
func (a *Actor) counted() {
	for _, pid := range a.council.counted(a.core.Group) {
		a.ctx.Send(pid, &passDue{})
	}
}

// step uses the core, and tells the others what has become free.
func (a *Actor) step(f func()) {
	freed, others := a.council.step(a.core.Group, f)
	for _, pid := range others {
		a.ctx.Send(pid, &quotaFreed{freed})
	}
}

// tellPolicyProblem logs what of the group's options is not understood, once per change.
func (a *Actor) tellPolicyProblem() {
	problem := a.core.PolicyProblem()
	if problem == a.policyWarned {
		return
	}
	a.policyWarned = problem
	switch {
	case problem == "":
		a.svc.Log.Info("a scaling group's options are understood again", "scaling_group", a.core.Group)
	default:
		a.svc.Log.Warn("a scaling group's options are not understood", "scaling_group", a.core.Group, "problem", problem, "last_good_used", a.core.understood)
	}
}

func (a *Actor) apply(msg any) {
	var effects []Effect
	a.step(func() { effects = a.core.Apply(msg, now()) })
	a.carryOut(effects)
	switch {
	case a.core.Due() && !a.due:
		a.due = true
		a.ctx.Send(a.ctx.Self(), &passDue{})
	case !a.core.Due():
		a.step(func() { effects = a.core.Books() })
		a.carryOut(effects)
	}
	a.lookLater()
}

// now is what the core is told of the time: nothing that a record of it could not say.
func now() time.Time { return time.Now().Round(0) }

// writeUses writes down what owners have used up to now: the next owner goes on from there.
func (a *Actor) writeUses() {
	var effects []Effect
	a.step(func() { effects = a.core.Uses(now()) })
	a.carryOut(effects)
}

func (a *Actor) pass() {
	begin := time.Now()
	var effects []Effect
	var err error
	a.step(func() { effects, err = a.core.Pass(begin.Round(0)) })
	a.passes++
	a.carryOut(effects)
	a.took = time.Since(begin)
	switch {
	case err == nil:
		a.warned = ""
	case a.warned != err.Error():
		a.warned = err.Error()
		a.svc.Log.Error("nothing is scheduled", "error", err)
	}
}

func (a *Actor) carryOut(effects []Effect) {
	var agents []*journal.AgentPatch
	var uses []*record.PastUse
	for _, effect := range effects {
		switch e := effect.(type) {
		case Place:
			failpoint.Hit(failpoint.AfterPlacement)
			placement := *e.Placement
			placement.Scheduler = a.guard
			a.svc.Router.Send(cluster.Session(e.SessionID), &placement)
		case Report:
			attempt := e.Attempt
			a.svc.Router.Send(cluster.Session(e.SessionID), &attempt)
		case Preempt:
			a.svc.Router.Send(cluster.Session(e.SessionID), &protocol.Preempt{For: e.For, Now: e.Now})
		case TimeOut:
			a.svc.Router.Send(cluster.Session(e.SessionID), &protocol.TimedOut{})
		case Occupied:
			agents = append(agents, &journal.AgentPatch{Mask: journal.AgentOccupied, Agent: record.Agent{ID: e.Agent, OccupiedSlots: e.Slots}})
		case Used:
			uses = append(uses, &record.PastUse{ScalingGroup: a.core.Group, AccessKey: e.Past.AccessKey, SlotSeconds: e.Past.SlotSeconds, At: e.Past.At})
		case Concurrency:
			// As it is now: another scheduler may have counted since, and must not be overtaken.
			a.step(func() { a.svc.Live.Concurrency(e.AccessKey, used(a.core.keys, e.AccessKey).sessions) })
		}
	}
	if len(agents)+len(uses) == 0 {
		return
	}
	parent, root := a.ctx.Parent(), a.svc.System.Root
	// The agents' rows are derived, uses are written again and again; one that is not written is mended by the next change. Only deposition matters.
	_ = a.svc.Journal.Submit(&journal.Entry{Guard: a.guard, Agents: agents, Uses: uses, Done: func(err error) {
		if errors.Is(err, journal.ErrDeposed) {
			root.Send(parent, &protocol.LostShard{})
		}
	}})
}
