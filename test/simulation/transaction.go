package simulation

import (
	"maps"
	"math"
	"slices"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// amount is a sum of slots as whole numbers: thousandths of cpu, and mem in MiB.
type amount struct{ cpu, mem int64 }

func amountOf(s backendai.ResourceSlots) amount {
	whole := func(name backendai.SlotName, unit float64) int64 {
		d := s.Get(name)
		if d.IsInf() {
			return math.MaxInt64
		}
		return int64(d.Float64() / unit)
	}
	return amount{whole(backendai.CPU, 0.001), whole(backendai.Mem, 1<<20)}
}

func (a *amount) add(o amount)        { a.cpu, a.mem = a.cpu+o.cpu, a.mem+o.mem }
func (a *amount) sub(o amount)        { a.cpu, a.mem = a.cpu-o.cpu, a.mem-o.mem }
func (a amount) within(o amount) bool { return a.cpu <= o.cpu && a.mem <= o.mem }

// guards lists the shards that an entry stands under, as the journal does.
func guards(e *journal.Entry) []journal.Guard {
	switch {
	case len(e.Sessions) == 0 && len(e.Kernels) == 0 && len(e.Agents) == 0:
		return nil
	case e.Also != nil:
		return []journal.Guard{e.Guard, *e.Also}
	}
	return []journal.Guard{e.Guard}
}

// transact is the journal's transaction (persistence/postgres/journal: try, checkGuards, write): deposed entries are refused alone, the rest
// is written at once. errName: a rename hit a live session's name, so that the whole transaction is rolled back.
func (db *database) transact(batch []*journal.Entry) (refusals map[*journal.Entry]error, err error) {
	refusals = make(map[*journal.Entry]error)
	for _, e := range batch {
		for i, g := range guards(e) {
			if skipEpochCheck || db.epochs[g.Shard] == g.Epoch {
				continue
			}
			db.w.stats.Deposed++
			if i == 0 {
				refusals[e] = journal.ErrDeposed
				break
			}
			refusals[e] = journal.ErrSchedulerDeposed
		}
	}
	names := db.names()
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, s := range e.Sessions {
			m := s.Kernels[0]
			name := [2]string{m.AccessKey, m.SessionName}
			switch holder, taken := names[name]; {
			case db.sessions[m.ID] != nil: // an earlier try was committed; one that has moved on since was of another entry
				if db.sessions[m.ID].rows[0].Status != backendai.Pending {
					refusals[e] = journal.ErrRepeated
				}
			case taken && holder != m.ID:
				refusals[e] = journal.ErrNameTaken
			default:
				names[name] = m.ID
			}
		}
	}
	if db.renameClashes(batch, refusals, names) {
		return nil, journal.ErrNameTaken
	}
	db.write(batch, refusals)
	return refusals, nil
}

// names are the live sessions' names before the transaction.
func (db *database) names() map[[2]string]uuid.UUID {
	names := make(map[[2]string]uuid.UUID)
	for _, s := range db.order {
		if m := s.rows[0]; !m.Status.IsDead() {
			names[[2]string{m.AccessKey, m.SessionName}] = s.id
		}
	}
	return names
}

func (db *database) renameClashes(batch []*journal.Entry, refusals map[*journal.Entry]error, names map[[2]string]uuid.UUID) bool {
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, p := range e.Kernels {
			s := db.sessions[p.ID] // only the main row's name is unique
			if p.Mask&record.FieldSessionName == 0 || s == nil || s.rows[0].Status.IsDead() {
				continue
			}
			name := [2]string{s.rows[0].AccessKey, p.Kernel.SessionName}
			if holder, ok := names[name]; ok && holder != p.ID {
				return true
			}
			names[name] = p.ID
		}
	}
	return false
}

func (db *database) write(batch []*journal.Entry, refusals map[*journal.Entry]error) {
	for _, e := range batch {
		if refusals[e] == nil {
			for _, g := range guards(e) {
				if db.epochs[g.Shard] != g.Epoch && !db.w.opts.Blind {
					db.w.violate("I9", "rows of epoch %d of shard %d are written while the shard is in epoch %d", g.Epoch, g.Shard, db.epochs[g.Shard])
				}
			}
			for _, s := range e.Sessions {
				db.insert(s)
			}
		}
	}
	for _, e := range batch {
		if refusals[e] == nil {
			for _, p := range e.Kernels {
				db.patch(p)
			}
		}
	}
	for _, e := range batch {
		if refusals[e] == nil {
			for _, p := range e.Agents {
				if !db.patchAgent(p) {
					refusals[e] = journal.ErrUnknownScalingGroup
				}
			}
		}
	}
	db.checkSums()
}

func (db *database) insert(s journal.NewSession) {
	id := s.Kernels[0].ID
	if db.sessions[id] != nil {
		return // an earlier try of the same entry was committed
	}
	fresh := &saved{id: id, depends: s.DependsOn}
	for _, k := range s.Kernels {
		r := &row{Kernel: *k}
		db.w.checkMove(r, "", r.Status)
		fresh.rows = append(fresh.rows, r)
		db.kernels[k.ID] = r
	}
	db.sessions[id] = fresh
	at, _ := slices.BinarySearchFunc(db.order, fresh, func(a, b *saved) int {
		if n := a.rows[0].CreatedAt.Compare(b.rows[0].CreatedAt); n != 0 {
			return n
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	db.order = slices.Insert(db.order, at, fresh)
	db.w.stats.Sessions++
}

func (db *database) patch(p *record.KernelPatch) {
	r := db.kernels[p.ID]
	if r == nil {
		return
	}
	was := r.Status
	into := record.KernelPatch{Kernel: r.Kernel}
	into.Merge(p)
	r.Kernel = into.Kernel
	if p.Mask&record.FieldStatus != 0 && was != r.Status {
		db.w.log("  row %s %s → %s%s", db.w.name(r.ID), was, r.Status, onAgent(r))
		db.w.checkMove(r, was, r.Status)
		if r.Status.IsDead() {
			r.diedIn = db.epochs[db.shardOf(cluster.Session(r.SessionID))]
		}
		r.ran = r.ran || r.Status == backendai.Running
	}
	db.recount(r)
}

func onAgent(r *row) string {
	if r.Kernel.Agent == nil || r.Status != backendai.Preparing {
		return ""
	}
	return " on " + *r.Kernel.Agent
}

// recount keeps the sums per agent and owner.
func (db *database) recount(r *row) {
	o := owner{r.AccessKey, r.ScalingGroup}
	use, own := db.usage[r.agent], db.owned[o]
	if use != nil {
		use.sub(r.counted)
	}
	if own == nil {
		own = &owned{}
		db.owned[o] = own
	}
	own.sub(r.charged)
	own.sessions -= r.sessions
	r.counted, r.charged, r.sessions = amount{}, amount{}, 0
	if r.Kernel.Agent != nil && r.Status.OccupiesAgent() {
		r.agent = *r.Kernel.Agent
		if db.usage[r.agent] == nil {
			db.usage[r.agent] = &amount{}
		}
		r.counted = amountOf(r.OccupiedSlots)
		db.usage[r.agent].add(r.counted)
	}
	if r.Kernel.Agent != nil && r.Status.OccupiesUser() { // one that was moved to ERROR while it waited has nothing
		r.charged = amountOf(r.OccupiedSlots)
		if r.IsMain() {
			r.sessions = 1
		}
		own.add(r.charged)
		own.sessions += r.sessions
	}
}

func (db *database) patchAgent(p *journal.AgentPatch) bool {
	a := db.agents[p.Agent.ID]
	if p.Mask&journal.AgentRegistration != 0 {
		if !slices.Contains(db.groups, p.Agent.ScalingGroup) {
			return false
		}
		next := p.Agent
		if a != nil { // ON CONFLICT (id) DO UPDATE leaves these as they are
			next.Schedulable, next.OccupiedSlots, next.FirstContact, next.StatusChanged = a.Schedulable, a.OccupiedSlots, a.FirstContact, a.StatusChanged
		} else {
			next.OccupiedSlots = backendai.ResourceSlots{}
		}
		db.addAgent(next)
		a = db.agents[p.Agent.ID]
	}
	if a == nil {
		return true
	}
	if p.Mask&journal.AgentLiveness != 0 {
		if a.Status != p.Agent.Status {
			db.w.log("  row %s %s → %s", a.ID, a.Status, p.Agent.Status)
		}
		a.Status, a.StatusChanged, a.LostAt = p.Agent.Status, p.Agent.StatusChanged, p.Agent.LostAt
	}
	if p.Mask&journal.AgentOccupied != 0 {
		a.OccupiedSlots = p.Agent.OccupiedSlots
	}
	if p.Mask&journal.AgentSchedulable != 0 {
		a.Schedulable = p.Agent.Schedulable
	}
	return true
}

// checkSums checks I1 and I5 on what is committed.
func (db *database) checkSums() {
	for _, id := range db.ids {
		use := db.usage[id]
		if use != nil && !use.within(amountOf(db.agents[id].AvailableSlots)) {
			db.w.violate("I1", "agent %s: %+v is allocated of %+v", id, *use, amountOf(db.agents[id].AvailableSlots))
		}
	}
	for _, o := range slices.SortedFunc(maps.Keys(db.owned), func(a, b owner) int {
		return slices.Compare([]string{a.key, a.group}, []string{b.key, b.group})
	}) {
		limit, ok := db.limits[o.key]
		if !ok {
			continue
		}
		u := db.owned[o]
		if limit.MaxConcurrentSessions > 0 && u.sessions > limit.MaxConcurrentSessions {
			db.w.violate("I5", "%s has %d sessions in %s, %d are allowed", o.key, u.sessions, o.group, limit.MaxConcurrentSessions)
		}
		if !u.within(amountOf(limit.Keypair)) {
			db.w.violate("I5", "%s uses %+v in %s, %+v is allowed", o.key, u.amount, o.group, amountOf(limit.Keypair))
		}
	}
}

// checkMove checks I6. SCHEDULED and PREPARING are one commit, so that the step over SCHEDULED is a path of two edges.
func (w *World) checkMove(r *row, from, to backendai.KernelStatus) {
	if backendai.CanMove(from, to) {
		return
	}
	if from == backendai.Pending && to == backendai.Preparing && backendai.CanMove(from, backendai.Scheduled) && backendai.CanMove(backendai.Scheduled, to) {
		return
	}
	w.violate("I6", "kernel %s moves from %q to %s", w.name(r.ID), from, to)
}
