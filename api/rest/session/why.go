package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/api"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/sessions"
)

// Wait is the answer to the question why a session waits.
type Wait struct {
	scheduler.Answer
	Name   string                 `json:"name"`
	Status backendai.KernelStatus `json:"status"`
}

// Why asks the scheduler why a session waits, and what would start it now; all says whether changes that concern other people's sessions,
// and agents, may be seen. brief leaves all changes out, which take much longer to think of. A session that does not wait is no error: a
// sentence says so.
func Why(ctx context.Context, node Node, pool sessions.Querier, id uuid.UUID, all, brief bool) (*Wait, error) {
	row, err := sessions.Read(ctx, pool, id)
	if err != nil {
		return nil, err
	}
	if w := notWaiting(id, row); w != nil {
		return w, nil
	}
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	v, err := node.Ask(ctx, cluster.Scheduler(*row.ScalingGroup), func(to protocol.ReplyTo) any { return &protocol.Why{SessionID: id, Brief: brief, Reply: to} })
	if err != nil {
		return nil, err
	}
	doc, _ := v.([]byte)
	return waitOf(id, row, doc, all)
}

// notWaiting is the answer about a session that does not wait; nil if it does.
func notWaiting(id uuid.UUID, row *sessions.Info) *Wait {
	if row.Status == backendai.Pending && row.ScalingGroup != nil {
		return nil
	}
	w := emptyWait(id, row)
	w.Sentences = []string{fmt.Sprintf("The session does not wait for anything: its status is %s.", row.Status)}
	return w
}

func emptyWait(id uuid.UUID, row *sessions.Info) *Wait {
	w := &Wait{Name: row.Name, Status: row.Status}
	w.SessionID, w.Reasons, w.Sentences, w.Changes = id, []scheduler.Reason{}, []string{}, []scheduler.ToldChange{}
	return w
}

// waitOf reads a scheduler's answer; "null", or nothing, is of one that does not know the session.
func waitOf(id uuid.UUID, row *sessions.Info, doc []byte, all bool) (*Wait, error) {
	w := emptyWait(id, row)
	if len(doc) == 0 || string(doc) == "null" {
		w.Since = row.CreatedAt
		w.Sentences = []string{"The scheduler has not looked at the session yet."}
		return w, nil
	}
	if err := json.Unmarshal(doc, &w.Answer); err != nil {
		return nil, backendai.Internal(err)
	}
	if !all {
		w.Changes = slices.DeleteFunc(w.Changes, func(ch scheduler.ToldChange) bool { return ofOthers(ch.Kind) })
		hideOthers(w.Reasons, w.Estimate)
	}
	return w, nil
}

// hideOthers takes out of reasons, and of an estimate if there is one, which sessions of others, and which agents, they are about.
func hideOthers(reasons []scheduler.Reason, estimate *scheduler.Estimate) {
	if estimate != nil {
		estimate.Basis = nil
	}
	for i := range reasons {
		r := &reasons[i]
		r.Preempted = nil
		if r.Delays != nil {
			r.Delays.Head = uuid.Nil
		}
		if r.Reserved != nil {
			r.Reserved.Agents = nil
		}
	}
}

// ofOthers tells whether a change concerns the sessions and agents of others: a plain user can't bring it about, and need not know them.
func ofOthers(kind scheduler.ChangeKind) bool {
	switch kind {
	case scheduler.SessionEnds, scheduler.OthersWithdrawn, scheduler.AgentSchedulable, scheduler.AgentDrained:
		return true
	}
	return false
}

// why tells why a session waits, and what would start it now. It is this manager's own; the original has nothing like it.
func (s *Resource) why(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	w, err := Why(r.Context(), s.node, s.pool, m.ID, r.Who().IsSuperadmin(), false)
	if err != nil {
		return err
	}
	return sendJSON(r, w)
}

const (
	// followPatience is how long a scheduler keeps a question whose answer does not change.
	followPatience = 30 * time.Second
	// followRate is the least time between two events.
	followRate = 500 * time.Millisecond
	// followPause is how long to wait where asking again at once would be of no use: the session is on its way to the scheduler or from it, or
	// the scheduler to another node. It grows up to followLongest.
	followPause   = 250 * time.Millisecond
	followLongest = 5 * time.Second
)

// whyStream tells why a session waits whenever the answer changes in kind or numbers, until it does not wait any more: events "why" with what
// GET …/why answers, and in the end "done".
func (s *Resource) whyStream(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	all := r.Who().IsSuperadmin()
	return r.Events(func(ctx context.Context, to *api.Events) { s.followWhy(ctx, to, m.ID, all) })
}

func (s *Resource) followWhy(ctx context.Context, to *api.Events, id uuid.UUID, all bool) {
	send := func(name string, w *Wait) bool {
		text, err := json.Marshal(w)
		return err == nil && to.Send(name, text) == nil
	}
	known, pause, unseen := "", followPause, false
	for {
		row, err := sessions.Read(ctx, s.pool, id)
		switch {
		case errors.Is(err, backendai.SessionNotFound):
			_ = to.Send("done", []byte(`{"status":null}`))
			return
		case err == nil:
			if w := notWaiting(id, row); w != nil {
				send("done", w)
				return
			}
		}
		var told *protocol.Told
		if err == nil {
			told, err = s.askAfter(ctx, id, *row.ScalingGroup, known)
		}
		wait := followRate
		switch {
		case ctx.Err() != nil:
			return
		case err != nil, told == nil: // the database or the scheduler is not to be had, or does not know the session
			if err == nil && !unseen && known == "" {
				unseen = true
				if w, err := waitOf(id, row, nil, all); err == nil && !send("why", w) {
					return
				}
			}
			wait, pause = pause, min(2*pause, followLongest)
		default:
			pause = followPause
			if told.Unchanged {
				wait = 0
				break
			}
			known = told.Mark
			w, err := waitOf(id, row, told.Answer, all)
			if err != nil || !send("why", w) {
				return
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// askAfter waits for an answer that is another than the one that is known; nil when the scheduler does not know the session.
func (s *Resource) askAfter(ctx context.Context, id uuid.UUID, group, known string) (*protocol.Told, error) {
	ctx, cancel := context.WithTimeout(ctx, followPatience+whyTimeout+10*time.Second)
	defer cancel()
	v, err := s.node.Ask(ctx, cluster.Scheduler(group), func(to protocol.ReplyTo) any {
		return &protocol.WhyAfter{SessionID: id, Known: known, Patience: followPatience, Reply: to}
	})
	told, _ := v.(*protocol.Told)
	return told, err
}
