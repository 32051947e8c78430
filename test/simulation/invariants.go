package simulation

import (
	"fmt"
	"slices"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/cluster"
)

// patience is how long a healed world may take to come to rest: creations may wait an hour for an answer.
const patience = 3 * time.Hour

// settle lets the healed world run until rows and agents agree and nothing is under way (I4, I7, I8).
func (w *World) settle() {
	begin := time.Duration(w.now)
	var why string
	ok := w.runUntil(begin+patience, func() bool {
		why = w.unsettled()
		return why == ""
	})
	w.stats.HealSeconds = max(w.stats.HealSeconds, int((time.Duration(w.now)-begin)/time.Second))
	if !ok && !w.stopped {
		w.violate("I8", "rows and agents have not come to rest: %s", why)
	}
	for _, a := range w.agents { // what an operator removes by hand
		for _, c := range slices.Clone(a.order) {
			if w.dead(c) {
				w.stats.Orphans++
				a.forget(c)
			}
		}
	}
}

// excused tells of a container that nobody can be blamed for. One kind was made by the late command of a deposed owner on an agent that
// compares no epochs, or by one that a deposed twin has sent late. Of the other kind is one whose row is dead by the manager's own decision and whose actor has gone with its process:
// the next owner says the destroy once more (Remnants), and that can be lost. The third was made by a creation that came after the end, and
// the actor that was to destroy it again has gone.
func (w *World) excused(c *container) bool {
	if c.stale {
		return true
	}
	r := w.db.kernels[c.kernel]
	late := c.again || r.TerminatedAt != nil && c.born.After(*r.TerminatedAt)
	if !late && (r.StatusInfo == nil || *r.StatusInfo != string(backendai.InfoForceTerminated) && *r.StatusInfo != string(backendai.InfoFailedToStart)) {
		return false
	}
	id := cluster.Session(c.session)
	for _, n := range w.nodes {
		if a := n.proc.shards[w.db.shardOf(id)]; a != nil && a.children[id] != nil {
			return false
		}
	}
	return w.db.sessions[c.session].crashed || w.db.epochs[w.db.shardOf(id)] > r.diedIn
}

func (w *World) dead(c *container) bool {
	r := w.db.kernels[c.kernel]
	return r == nil || r.Status.IsDead()
}

// unsettled says what is still under way, "" if nothing is. PENDING is no unrest: there may be no room.
func (w *World) unsettled() string {
	for _, s := range w.db.order {
		if slices.ContainsFunc(s.rows, func(r *row) bool { return r.Status == backendai.Failed }) {
			continue // ended by force only, whatever there is of it
		}
		running, gone, waiting := 0, 0, 0
		for i, r := range s.rows {
			switch {
			case r.Status == backendai.Running:
				running++
				c := w.agentOf(*r.Kernel.Agent).containers[r.ID]
				if c == nil || !c.ready || c.ending {
					return fmt.Sprintf("%s is RUNNING and has no container on %s", w.name(r.ID), *r.Kernel.Agent)
				}
			case i > 0 && r.Status == backendai.Terminated && r.ran && !s.rows[0].Status.IsDead():
				running++ // a sub that has run and ended by itself takes nobody along
			case r.Status.IsDead():
				gone++
			case r.Status == backendai.Pending:
				waiting++
			default:
				return fmt.Sprintf("%s is %s", w.name(r.ID), r.Status)
			}
		}
		if n := len(s.rows); running != n && gone != n && waiting != n {
			return fmt.Sprintf("%s is not whole: of %d kernels %d run, %d are gone, %d wait", w.name(s.id), n, running, gone, waiting)
		}
	}
	for _, a := range w.agents {
		for _, c := range a.order {
			r := w.db.kernels[c.kernel]
			if w.dead(c) && !w.excused(c) {
				return fmt.Sprintf("%s has a container of %s, whose row is dead", a.id, w.name(c.kernel))
			}
			if r != nil && !r.Status.IsDead() && (r.Kernel.Agent == nil || *r.Kernel.Agent != a.id) {
				return fmt.Sprintf("%s has a container of %s, whose row names another agent", a.id, w.name(c.kernel))
			}
		}
	}
	return ""
}

// sweep destroys everything that runs until nothing is left, and then looks for what was leaked.
func (w *World) sweep() {
	w.log("--- the last sweep")
	var again func()
	again = func() {
		for _, s := range w.db.order {
			if s.alive() && (s.rows[0].Status != backendai.Pending || w.waitsInVain(s)) {
				w.destroy(s.id, slices.ContainsFunc(s.rows, func(r *row) bool { return r.Status == backendai.Failed }), func(error) {})
			}
		}
		w.after(10*time.Second, nil, again)
	}
	w.after(time.Second, nil, again)
	begin := time.Duration(w.now)
	var why string
	if !w.runUntil(begin+patience, func() bool {
		why = w.unfinished()
		return why == ""
	}) && !w.stopped {
		w.violate("I4", "not every session ends: %s", why)
		return
	}
	begin = time.Duration(w.now)
	if !w.runUntil(begin+patience, func() bool {
		why = w.leaked()
		return why == ""
	}) && !w.stopped {
		w.violate("leak", "%s", why)
	}
}

// waitsInVain tells of a session that depends on one that has ended without success: its user gives up.
func (w *World) waitsInVain(s *saved) bool {
	for _, d := range s.depends {
		if on := w.db.sessions[d]; on == nil || !on.alive() && on.rows[0].Result != backendai.ResultSuccess {
			return true
		}
	}
	return false
}

func (w *World) unfinished() string {
	for _, s := range w.db.order {
		if s.alive() {
			r := s.rows[0]
			info := ""
			if r.StatusInfo != nil {
				info = *r.StatusInfo
			}
			return fmt.Sprintf("%s is %s (%s, %s)", w.name(s.id), r.Status, info, r.StatusData)
		}
	}
	return ""
}

// leaked says what is left behind although every session has ended.
func (w *World) leaked() string {
	for _, a := range w.agents {
		for _, c := range a.order {
			if !c.stale {
				return fmt.Sprintf("%s still has a container of %s", a.id, w.name(c.kernel))
			}
		}
	}
	for _, g := range w.db.groups {
		s := w.schedulerOf(g)
		if s == nil || !s.loaded {
			return fmt.Sprintf("%s has no scheduler", g)
		}
		for _, a := range s.core.Agents() {
			if use := amountOf(a.Occupied); use != (amount{}) {
				return fmt.Sprintf("the scheduler of %s on %s still counts %+v of %s", g, s.p, use, a.ID)
			}
		}
		for _, key := range []string{"KEY0", "KEY1"} {
			if n := s.counts[key]; n != 0 {
				return fmt.Sprintf("the scheduler of %s still counts %d sessions of %s", g, n, key)
			}
		}
		if n, _ := s.core.QueueLength(); n != 0 {
			return fmt.Sprintf("the scheduler of %s still has %d sessions in its queue", g, n)
		}
	}
	for _, id := range w.db.ids {
		if use := amountOf(w.db.agents[id].OccupiedSlots); use != (amount{}) {
			return fmt.Sprintf("the row of %s still says that %+v is taken", id, use)
		}
	}
	for _, n := range w.nodes {
		for s := range int32(len(w.db.epochs)) {
			a := n.proc.shards[s]
			if a == nil {
				continue
			}
			for id := range a.children {
				if id.Kind == cluster.KindSession {
					s := a.children[id].(*sessionActor)
					text := fmt.Sprintf("%s still has the actor of %s (%s, waiting for %q)", n.proc, w.name(s.core.ID), s.core.Phase, s.out.Waiting())
					for _, m := range s.core.Members {
						text += fmt.Sprintf(" %s freed=%v", m.Row.Status, m.Freed)
						if k := s.kernels[m.Row.ID]; k != nil {
							text += fmt.Sprintf(" kernel %s %s", k.core.Stage, k.core.Row.Status)
						}
					}
					return text
				}
			}
		}
	}
	return ""
}

func (w *World) schedulerOf(group string) *schedulerActor {
	shard := w.db.shardOf(cluster.Scheduler(group))
	for _, n := range w.nodes {
		if a := n.proc.shards[shard]; a != nil && a.guard.Epoch == w.db.epochs[shard] {
			if s, ok := a.children[cluster.Scheduler(group)].(*schedulerActor); ok {
				return s
			}
		}
	}
	return nil
}

// shardStates tells who owns what, for the trace.
func (w *World) shardStates() (text string) {
	for s := range int32(len(w.db.epochs)) {
		text += fmt.Sprintf(" %d: epoch %d claim %+v", s, w.db.epochs[s], w.etcd.claims[s])
		for _, n := range w.nodes {
			if n.proc.owner.pending[s] || n.proc.owner.busy[s] {
				text += fmt.Sprintf(" %s(pending=%v busy=%v)", n.proc, n.proc.owner.pending[s], n.proc.owner.busy[s])
			}
			if e, ok := n.proc.owner.epochs[s]; ok {
				text += fmt.Sprintf(" %s(e%d busy=%v local=%v)", n.proc, e, n.proc.owner.busy[s], n.proc.shards[s] != nil)
			}
		}
		text += ";"
	}
	return text
}
