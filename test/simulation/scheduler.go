package simulation

import (
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

const (
	tickPeriod  = 10 * time.Second
	rereadEvery = 3
)

type passDue struct{}

type loadFailed struct{}

// schedulerActor mirrors actors/scheduler's Actor. What it reads again at a tick (policy, slot types, limits) never changes here.
type schedulerActor struct {
	p      *process
	shard  *shardActor
	box    *mailbox
	core   *scheduler.Core
	loaded bool
	stash  []any
	due    bool
	timer  *timer
	counts map[string]int // sessions by access key, as it has told
	ticks  int

	draining bool
}

func (a *schedulerActor) mail() *mailbox { return a.box }

func (a *shardActor) spawnScheduler(group string) child {
	s := &schedulerActor{p: a.p, shard: a, core: scheduler.NewCore(group, protocol.Policy{}, nil), counts: make(map[string]int)}
	s.box = a.p.spawn("scheduler-"+group, s.receive, func() { s.timer.stop() }, nil)
	s.box.crashed = a.failed(s.box)
	return a.add(cluster.Scheduler(group), s)
}

func (s *schedulerActor) receive(msg any) {
	switch msg := msg.(type) {
	case started:
		s.load()
		s.tickLater()
	case poke:
		panic(crash{"poked"})
	case loadFailed:
		s.box.later(time.Second, func() any { return &protocol.Requeue{} })
	case *protocol.Requeue:
		s.load()
	case *protocol.SchedulerLoaded:
		if s.loaded {
			s.apply(&protocol.Reread{Rows: msg})
			return
		}
		s.loaded = true
		s.apply(msg)
		for _, m := range s.stash {
			s.apply(m)
		}
		s.stash = nil
	case passDue:
		s.due = false
		if s.draining {
			return
		}
		effects, _ := s.core.Pass(s.p.w.time())
		s.carryOut(effects, false)
	case *protocol.Tick:
		s.tickLater()
		if s.loaded {
			if s.ticks++; s.ticks%rereadEvery == 0 {
				s.load()
			}
			s.apply(msg)
		}
	case *protocol.Drain:
		s.draining = true
		s.shard.box.send(drained{s.box})
	default:
		if !s.loaded {
			s.stash = append(s.stash, msg)
			return
		}
		s.apply(msg)
	}
}

func (s *schedulerActor) load() {
	db, group := s.p.w.db, s.core.Group
	rows := &protocol.SchedulerLoaded{Known: db.known}
	s.p.work([]func() error{ // in the order of actors/store: one query after the other
		func() error { rows.Policy = db.policies[group]; return nil },
		func() error { rows.Agents = db.groupAgents(group); return nil },
		func() error { rows.Allocations = db.allocations(group); return nil },
		func() error { rows.Pending = db.pending(group); return nil },
	}, func(err error) {
		if err != nil {
			s.box.send(loadFailed{})
			return
		}
		s.box.send(rows)
	})
}

func (s *schedulerActor) tickLater() {
	s.timer = s.box.later(tickPeriod, func() any { return &protocol.Tick{Now: s.p.w.time()} })
}

func (s *schedulerActor) apply(msg any) {
	unordered := false
	switch msg.(type) {
	case *protocol.Tick, *protocol.Moved, *protocol.Reread:
		unordered = true
	}
	s.carryOut(s.core.Apply(msg, s.p.w.time()), unordered)
	switch {
	case s.core.Due() && !s.due:
		s.due = true
		s.box.send(passDue{})
	case !s.core.Due():
		s.carryOut(s.core.Books(), false)
	}
	s.checkBooks()
}

// checkBooks checks I1 on what the scheduler believes.
func (s *schedulerActor) checkBooks() {
	for _, a := range s.core.Agents() {
		if use := amountOf(a.Occupied); !use.within(amountOf(a.Available)) {
			s.p.w.violate("I1", "scheduler %s on %s has allocated %+v of %s", s.core.Group, s.p, use, a.ID)
		} else if use.cpu < 0 || use.mem < 0 {
			s.p.w.violate("I1", "scheduler %s on %s has %+v of %s", s.core.Group, s.p, use, a.ID)
		}
	}
}

// carryOut does what the core wants. What comes from walking a map (unordered: what a tick sends again, and the books) is put in order.
func (s *schedulerActor) carryOut(effects []scheduler.Effect, unordered bool) {
	key := func(e scheduler.Effect) string {
		switch e := e.(type) {
		case scheduler.Place:
			if unordered {
				return "0" + e.SessionID.String()
			}
		case scheduler.Occupied:
			return "1" + e.Agent
		case scheduler.Concurrency:
			return "2" + e.AccessKey
		}
		return ""
	}
	slices.SortStableFunc(effects, func(a, b scheduler.Effect) int { return strings.Compare(key(a), key(b)) })
	var agents []*journal.AgentPatch
	for _, effect := range effects {
		switch e := effect.(type) {
		case scheduler.Place:
			placement := *e.Placement
			placement.Scheduler = s.shard.guard
			s.p.w.log("%s scheduler %s places %s%s", s.p, s.core.Group, s.p.w.name(e.SessionID), where(&placement))
			s.p.route(cluster.Session(e.SessionID), &placement)
		case scheduler.Report:
			attempt := e.Attempt
			s.p.route(cluster.Session(e.SessionID), &attempt)
		case scheduler.Preempt:
			s.p.route(cluster.Session(e.SessionID), &protocol.Preempt{For: e.For, Now: e.Now})
		case scheduler.TimeOut:
			s.p.route(cluster.Session(e.SessionID), &protocol.TimedOut{})
		case scheduler.Occupied:
			agents = append(agents, &journal.AgentPatch{Mask: journal.AgentOccupied, Agent: record.Agent{ID: e.Agent, OccupiedSlots: e.Slots}})
		case scheduler.Concurrency:
			s.counts[e.AccessKey] = e.Sessions
		}
	}
	if len(agents) == 0 {
		return
	}
	_ = s.p.Submit(&journal.Entry{Guard: s.shard.guard, Agents: agents, Done: func(err error) {
		if err == journal.ErrDeposed {
			s.shard.box.send(lostShard{})
		}
	}})
}

func where(p *protocol.Placement) (text string) {
	for _, k := range p.Kernels {
		text += " " + k.Agent
	}
	return text
}

// slotsOf is a small pool of sizes.
func slotsOf(cpu, gib string) backendai.ResourceSlots {
	return backendai.SlotsOf("cpu", cpu, "mem", gib+"g")
}
