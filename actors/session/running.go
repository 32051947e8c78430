package session

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// recover picks the work up where the rows say it was.
func (c *Core) recover(e *Recover) []outbox.Effect {
	c.stored = true
	var effects []outbox.Effect
	for _, m := range c.Members {
		effects = append(effects, SpawnKernel{m.Row, true})
		m.Freed = m.dead()
	}
	// What clients were told of the wait goes on from there.
	var data struct {
		Scheduler protocol.SchedulerData `json:"scheduler"`
	}
	if json.Unmarshal(c.main().Row.StatusData, &data) == nil {
		c.scheduler = data.Scheduler
	}
	if len(c.Members) > 1 && c.main().Row.Agent != nil && c.main().Row.Status != backendai.Pending {
		c.network = c.networkOf()
	}
	is := func(set backendai.StatusSet) func(*Member) bool {
		return func(m *Member) bool { return set.Has(m.Row.Status) }
	}
	starting := backendai.Statuses(backendai.Scheduled, backendai.Preparing, backendai.Pulling)
	some := func(set backendai.StatusSet) bool { return !c.all(is(set.Not())) }
	switch {
	case c.main().Row.Status == backendai.Pending:
		c.Phase = Pending
		return append(effects, LoadPending{})
	case c.all(is(backendai.Live)):
		c.Phase = Running
	case c.all(is(starting | backendai.Live)):
		c.Phase = Launching
		return append(effects, c.launchOrPrepare(e.Now)...)
	case c.all((*Member).dead):
		c.Phase = Ending
		return append(effects, c.maybeGone(e.Now)...)
	case some(starting) && !some(backendai.Statuses(backendai.Failed)): // and another has ended, or is about to: the start has failed
		c.failure = &protocol.StartFailure{Src: "other", Name: "KernelTerminated", Repr: "a kernel of the session has ended before all had started"}
		effects = append(effects, c.abort()...)
		return append(effects, c.maybeCancelled(e.Now)...)
	case c.main().Row.Status == backendai.Restarting:
		c.Phase = Running
	default:
		c.Phase = Running
		if c.main().Row.Status == backendai.Terminating || c.main().dead() {
			c.Phase = Ending
			effects = append(effects, c.endOthers(string(backendai.InfoUserRequested), e.Now)...)
		}
	}
	if c.Phase == Running {
		effects = append(effects, c.timeLimit(e.Now)...)
		effects = append(effects, c.taskFinished(e.Now)...)
	}
	return effects
}

// kernelChanged takes the news of a member, whose row says so already.
func (c *Core) kernelChanged(e *protocol.KernelChanged) []outbox.Effect {
	m := c.member(e.KernelID)
	if m == nil {
		return nil
	}
	if c.Phase == Gone || m.dead() && !e.Status.IsDead() { // its row was written here
		return c.freedLate(m, e)
	}
	was := m.Row.Status
	m.Row.Status = e.Status
	m.GaveUp = m.GaveUp || e.GaveUp
	m.Row.ServicePorts = e.ServicePorts
	if e.Stats != nil {
		m.Stats = e.Stats
	}
	var effects []outbox.Effect
	if was.OccupiesUser() && (e.Status == backendai.Terminating || m.dead()) { // only now do the rows say so
		effects = append(effects, ToScheduler{m.Row.ScalingGroup, &protocol.Ending{KernelIDs: list(m.Row.ID)}})
	}
	if e.Freed && !m.Freed {
		m.Freed = true
		if m.dead() { // else its row still claims the slots: they are released when the failed start is written
			effects = append(effects, ToScheduler{m.Row.ScalingGroup, &protocol.Release{KernelIDs: list(m.Row.ID)}})
		}
	}
	if c.Phase == Ending && !m.dead() && e.Status != backendai.Terminating {
		return append(effects, c.overtaken(m, was, e)...)
	}
	if e.Failure != nil {
		m.Failed = e.Failure
		if c.restarting > 0 {
			return append(effects, c.restartDone(m)...)
		}
		if c.Phase == Starting {
			return append(effects, c.abort()...)
		}
	}
	switch {
	case c.Phase == Aborting:
		return append(effects, c.maybeCancelled(e.Now)...)
	case e.Status == backendai.Running && was == backendai.Restarting && c.restarting > 0:
		return append(effects, c.restartDone(m)...)
	case e.Status == backendai.Running && was != backendai.Running:
		effects = append(effects, c.settle(m, e)...)
		return append(effects, c.maybeRunning(e.Now)...)
	case m.dead():
		if e.Reason != "" {
			c.reason = e.Reason
		}
		if c.Phase == Starting {
			c.failure = &protocol.StartFailure{Src: "other", Name: "KernelTerminated", Repr: "a kernel of the session has ended before all had started (" + e.Reason + ")"}
			effects = append(effects, c.abort()...)
			return append(effects, c.maybeCancelled(e.Now)...)
		}
		if !was.IsDead() && m == c.main() && c.Phase != Ending {
			// The main kernel stands for the session: without it the others are of no use.
			c.Phase = Ending
			effects = append(effects, c.endOthers(e.Reason, e.Now)...)
		}
		return append(effects, c.maybeGone(e.Now)...)
	}
	return effects
}

// freedLate takes the news that an agent no longer holds a kernel of a session whose rows are dead.
func (c *Core) freedLate(m *Member, e *protocol.KernelChanged) []outbox.Effect {
	if !e.Freed || m.Freed {
		return nil
	}
	m.Freed = true
	return append([]outbox.Effect{ToScheduler{m.Row.ScalingGroup, &protocol.Release{KernelIDs: list(m.Row.ID)}}}, c.maybeStop()...)
}

// overtaken deals with a member that was told to end while it could not (PULLING), and did not hear it: it is told again when it runs,
// and its row is written when it fails to.
func (c *Core) overtaken(m *Member, was backendai.KernelStatus, e *protocol.KernelChanged) []outbox.Effect {
	switch {
	case e.Status == backendai.Running && was != backendai.Running:
		return []outbox.Effect{TellKernel{m.Row.ID, &protocol.End{Reason: c.reason, Now: e.Now}}}
	case e.Freed || e.GaveUp:
		now := e.Now
		m.Row.Status, m.Row.StatusInfo = backendai.Cancelled, text(string(backendai.InfoFailedToStart))
		m.Row.StatusChanged, m.Row.TerminatedAt = &now, &now
		effects := []outbox.Effect{
			&outbox.Persist{Label: labelCancel, Kernels: []*record.KernelPatch{{ID: m.Row.ID, Kernel: m.Row,
				Mask: record.FieldStatus | record.FieldStatusInfo | record.FieldStatusChanged | record.FieldTerminatedAt}}},
			ToScheduler{m.Row.ScalingGroup, &protocol.Ending{KernelIDs: list(m.Row.ID)}},
		}
		if m.Freed {
			effects = append(effects, ToScheduler{m.Row.ScalingGroup, &protocol.Release{KernelIDs: list(m.Row.ID)}})
		}
		return append(effects, c.maybeGone(e.Now)...)
	}
	return nil
}

// maybeStop ends the actor when no agent holds anything of the session any more.
func (c *Core) maybeStop() []outbox.Effect {
	if c.Phase == Gone && c.all(func(m *Member) bool { return m.Freed }) {
		return []outbox.Effect{Stop{}}
	}
	return nil
}

func (c *Core) maybeRunning(now time.Time) []outbox.Effect {
	if c.Phase != Starting || !c.all(func(m *Member) bool { return m.Row.Status == backendai.Running }) {
		return nil
	}
	c.Phase, c.launch = Running, nil // for the start only
	effects := append(c.answerStart(), Publish{Name: "session_started"})
	effects = append(effects, c.timeLimit(now)...)
	return append(effects, c.taskFinished(now)...)
}

// abort ends a start of which some part has failed: all or nothing.
func (c *Core) abort() (effects []outbox.Effect) {
	c.Phase = Aborting
	for _, m := range c.Members {
		if m.dead() || m.Row.Status == backendai.Terminating {
			continue // it ends by itself
		}
		effects = append(effects, TellKernel{m.Row.ID, &protocol.End{Abort: true, Reason: string(backendai.InfoFailedToStart)}})
	}
	return effects
}

// maybeCancelled writes the end of a failed start when no agent holds anything of it any more, or does not answer.
func (c *Core) maybeCancelled(now time.Time) []outbox.Effect {
	if !c.all(func(m *Member) bool {
		return m.dead() || m.Row.Status != backendai.Terminating && (m.Freed || m.GaveUp)
	}) {
		return nil
	}
	if now.IsZero() {
		now = c.latest()
	}
	doc, err := json.Marshal(map[string]any{"error": c.startError()})
	if err != nil {
		return []outbox.Effect{Crash{Reason: err.Error()}}
	}
	persist := &outbox.Persist{Label: labelCancel}
	for _, m := range c.Members {
		if m.dead() {
			continue // ended by force meanwhile
		}
		m.Row.Status, m.Row.StatusInfo, m.Row.StatusData = backendai.Cancelled, text(string(backendai.InfoFailedToStart)), doc
		m.Row.StatusChanged, m.Row.TerminatedAt = &now, &now
		persist.Kernels = append(persist.Kernels, &record.KernelPatch{ID: m.Row.ID, Kernel: m.Row,
			Mask: record.FieldStatus | record.FieldStatusInfo | record.FieldStatusData | record.FieldStatusChanged | record.FieldTerminatedAt})
	}
	c.Phase = Gone
	effects := []outbox.Effect{persist, ToScheduler{c.main().Row.ScalingGroup, &protocol.Ending{KernelIDs: c.kernelIDs()}}}
	if freed := c.freedIDs(); len(freed) > 0 {
		effects = append(effects, ToScheduler{c.main().Row.ScalingGroup, &protocol.Release{KernelIDs: freed}})
	}
	effects = append(effects, c.answerStart()...)
	effects = append(effects, c.answerDestroy()...)
	effects = append(effects, Publish{Name: "session_cancelled", Reason: string(backendai.InfoFailedToStart)})
	effects = append(effects, c.neverSuccess()...)
	if c.network != nil {
		effects = append(effects, RemoveNetwork{*c.network})
		c.network = nil
	}
	return append(effects, c.maybeStop()...)
}

func (c *Core) freedIDs() (ids []uuid.UUID) {
	for _, m := range c.Members {
		if m.Freed {
			ids = append(ids, m.Row.ID)
		}
	}
	return ids
}

// startError is status_data.error of a failed start (spec/scheduling-lifecycle §5.3):
// what agents refused always in the form of a collection, what failed before they were asked plainly.
func (c *Core) startError() any {
	clean := func(f protocol.StartFailure) protocol.StartFailure {
		if !c.Debug {
			f.AgentID = ""
		}
		return f
	}
	if c.failure != nil {
		return clean(*c.failure)
	}
	var failures []protocol.StartFailure
	for _, m := range c.Members {
		if m.Failed != nil {
			failures = append(failures, clean(*m.Failed))
		}
	}
	return map[string]any{
		"src": "agent", "name": "MultiAgentError", "repr": fmt.Sprintf("MultiAgentError(%d)", len(failures)), "collection": failures,
	}
}

// maybeGone ends the session when every member is dead, and the actor when all are freed too.
func (c *Core) maybeGone(now time.Time) (effects []outbox.Effect) {
	if !c.all((*Member).dead) {
		return nil
	}
	if c.Phase != Gone {
		c.Phase = Gone
		if len(c.Members) > 1 {
			effects = append(effects, c.sessionEnded())
		}
		effects = append(effects, c.answerStart()...)
		effects = append(effects, c.answerRestart(backendai.NewError(backendai.SessionNotFound))...)
		effects = append(effects, c.answerDestroy()...)
		effects = append(effects, Publish{Name: "session_terminated", Reason: c.reason})
		effects = append(effects, c.neverSuccess()...)
		if c.network != nil {
			effects = append(effects, RemoveNetwork{*c.network})
			c.network = nil
		}
	}
	return append(effects, c.maybeStop()...)
}

// sessionEnded notes in every row of a cluster session that the whole has ended; a lone kernel's row says so itself.
func (c *Core) sessionEnded() outbox.Effect {
	persist := &outbox.Persist{Label: "session-ended"}
	for _, m := range c.Members {
		doc := json.RawMessage(`{"kernel":{"exit_code":-1},"session":{"status":"terminated"}}`)
		if m.Row.Status == backendai.Cancelled {
			doc = json.RawMessage(`{"session":{"status":"terminated"}}`)
		}
		m.Row.StatusData = doc
		persist.Kernels = append(persist.Kernels, &record.KernelPatch{ID: m.Row.ID, Kernel: m.Row, Mask: record.FieldStatusData})
	}
	return persist
}

// invoke passes a call of the API on to the agent of the main kernel.
func (c *Core) invoke(e *protocol.Invoke) []outbox.Effect {
	m := c.main()
	if m.Row.Agent == nil || m.Row.Status != backendai.Running && m.Row.Status != backendai.Restarting {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Errorf(backendai.InvalidAPIParameters, "The session is not running (status: %s); wait until it is.", m.Row.Status)}}
	}
	effects := []outbox.Effect{Forward{Agent: *m.Row.Agent, Invoke: *e}}
	if e.Query {
		m.Row.NumQueries++
		effects = append(effects, &outbox.Persist{Label: "num-queries", Kernels: []*record.KernelPatch{{ID: m.Row.ID, Mask: record.FieldNumQueries, Kernel: m.Row}}})
	}
	return effects
}

// rename gives a running session another name (spec/rest-session §4.5).
func (c *Core) rename(e *protocol.Rename) []outbox.Effect {
	if c.main().Row.Status != backendai.Running {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Errorf(backendai.InvalidAPIParameters, "Can't change name of not running session")}}
	}
	if c.renameTo.Waits() {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Errorf(backendai.InvalidAPIParameters, "The session is being renamed already; try again.")}}
	}
	c.oldName, c.renameTo = c.main().Row.SessionName, e.Reply
	for _, m := range c.Members {
		m.Row.SessionName = e.Name
	}
	return []outbox.Effect{c.patchAll(labelRename, record.FieldSessionName), Renamed{}, Answer{To: e.Reply}}
}

// Renamed is the effect that ends a rename: the next one may come.
type Renamed struct{}

// RenameCommitted is called by the shell when it carries Renamed out.
func (c *Core) RenameCommitted() { c.renameTo = protocol.ReplyTo{} }

// restart restarts every kernel of a running session.
func (c *Core) restart(e *protocol.Restart) []outbox.Effect {
	if c.restarting > 0 {
		c.restartTo = append(c.restartTo, e.Reply)
		return nil
	}
	if e.Again && c.Phase == Running && c.joinRestart(e) {
		return nil
	}
	if c.Phase != Running || !c.all(func(m *Member) bool { return m.Row.Status == backendai.Running }) {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Errorf(backendai.InvalidAPIParameters, "Only a running session can be restarted (status: %s).", c.main().Row.Status)}}
	}
	c.restartTo = append(c.restartTo, e.Reply)
	c.restarting = len(c.Members)
	var effects []outbox.Effect
	for _, m := range c.Members {
		m.Row.Status, m.Failed = backendai.Restarting, nil
		effects = append(effects, TellKernel{m.Row.ID, &protocol.RestartKernel{Now: e.Now}})
	}
	return effects
}

// joinRestart joins a restart that an owner before this one has begun, and tells whether there is one. When there is none, nobody
// knows whether it has been done; a second one does no harm that was not asked for.
func (c *Core) joinRestart(e *protocol.Restart) bool {
	for _, m := range c.Members {
		if m.Row.Status == backendai.Restarting {
			c.restarting++
		}
	}
	if c.restarting > 0 {
		c.restartTo = append(c.restartTo, e.Reply)
	}
	return c.restarting > 0
}

// restartDone counts the members whose restart has ended one way or the other.
func (c *Core) restartDone(*Member) []outbox.Effect {
	if c.restarting--; c.restarting > 0 {
		return nil
	}
	for _, m := range c.Members {
		if m.Failed != nil {
			return c.answerRestart(restartError(m.Failed))
		}
	}
	return append(c.answerRestart(nil), Publish{Name: "session_started"})
}

func restartError(f *protocol.StartFailure) error {
	if f.Src == "agent" {
		return backendai.AgentException(backendai.KernelRestartFailed, f.Repr)
	}
	return backendai.AgentError(backendai.KernelRestartFailed, backendai.AgentTimeout, "")
}

func (c *Core) answerRestart(err error) (effects []outbox.Effect) {
	for _, to := range c.restartTo {
		effects = append(effects, Answer{To: to, Err: err})
	}
	c.restartTo, c.restarting = nil, 0
	return effects
}

// agentEvent takes an event of the bus about the session or one of its kernels.
func (c *Core) agentEvent(e *protocol.AgentEvent) []outbox.Effect {
	switch e.Name {
	case "session_success", "session_failure":
		return c.batchEnded(e)
	case "do_terminate_session":
		reason := e.Reason
		if reason == "" {
			reason = string(backendai.InfoKilledByEvent)
		}
		return c.destroy(&protocol.Destroy{Reason: reason, Now: e.Now})
	}
	if c.member(e.KernelID) == nil {
		return nil
	}
	return []outbox.Effect{TellKernel{e.KernelID, e}}
}

// batchEnded records the result of a batch session and ends it.
func (c *Core) batchEnded(e *protocol.AgentEvent) []outbox.Effect {
	m := c.main()
	if m.Row.SessionType != backendai.Batch || m.Row.Result != backendai.ResultUndefined {
		return nil
	}
	m.Row.Result = backendai.ResultFailure
	if e.Name == "session_success" {
		m.Row.Result = backendai.ResultSuccess
	}
	effects := []outbox.Effect{
		&outbox.Persist{Label: "result", Kernels: []*record.KernelPatch{{ID: m.Row.ID, Mask: record.FieldResult, Kernel: m.Row}}},
		Hook{Name: e.Name},
	}
	effects = append(effects, ToAllSchedulers{&protocol.DependencyDone{SessionID: c.ID, Failed: m.Row.Result != backendai.ResultSuccess}})
	return append(effects, c.taskFinished(e.Now)...)
}

// taskFinished ends a batch session that has a result. A task may be done before it is known here that its kernel runs: it then ends as soon as
// that is known.
func (c *Core) taskFinished(now time.Time) []outbox.Effect {
	if m := &c.main().Row; c.Phase != Running || m.SessionType != backendai.Batch || m.Result == backendai.ResultUndefined {
		return nil
	}
	return c.destroy(&protocol.Destroy{Reason: string(backendai.InfoTaskFinished), Now: now})
}

// neverSuccess tells those who may wait for a batch session's success that it has ended without any result. Sessions of other types have
// none, which is known from the start.
func (c *Core) neverSuccess() []outbox.Effect {
	if m := &c.main().Row; m.SessionType != backendai.Batch || m.Result != backendai.ResultUndefined {
		return nil
	}
	return []outbox.Effect{ToAllSchedulers{&protocol.DependencyDone{SessionID: c.ID, Failed: true}}}
}

// Hook is the effect of calling the session's web hook for an event that somebody else has put on the bus.
type Hook struct{ Name string }
