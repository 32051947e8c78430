package session

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/api"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/sessions"
)

// whyTimeout bounds how long the scheduler may think of what would start a session.
const whyTimeout = 10 * time.Second

// why tells why a session waits, and what would start it now. It is this manager's own; the original has nothing like it.
func (s *Resource) why(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	row, err := sessions.Read(r.Context(), s.pool, m.ID)
	if err != nil {
		return err
	}
	answer := map[string]any{"session_id": m.ID, "name": row.Name, "status": row.Status, "reasons": []any{}, "sentences": []string{}, "changes": []any{}}
	if row.Status != backendai.Pending || row.ScalingGroup == nil {
		answer["sentences"] = []string{fmt.Sprintf("The session does not wait for anything: its status is %s.", row.Status)}
		return r.JSON(answer)
	}
	ctx, cancel := context.WithTimeout(r.Context(), whyTimeout)
	defer cancel()
	v, err := s.node.Ask(ctx, cluster.Scheduler(*row.ScalingGroup), func(to protocol.ReplyTo) any { return &protocol.Why{SessionID: m.ID, Reply: to} })
	if err != nil {
		return err
	}
	doc, _ := v.([]byte)
	var told map[string]any
	if err := json.Unmarshal(doc, &told); err != nil {
		return backendai.Internal(err)
	}
	for name, value := range told {
		answer[name] = value
	}
	if told == nil {
		answer["sentences"] = []string{"The scheduler has not looked at the session yet."}
	}
	if !r.Who().IsSuperadmin() {
		answer["changes"] = ownChanges(answer["changes"])
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return backendai.Internal(err)
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", text)
}

// ownChanges leaves out what concerns the sessions and agents of others: a plain user can't change that, and need not know them.
func ownChanges(changes any) []any {
	own := []any{}
	list, _ := changes.([]any)
	for _, c := range list {
		change, _ := c.(map[string]any)
		kind, _ := change["kind"].(string)
		switch scheduler.ChangeKind(kind) {
		case scheduler.SessionEnds, scheduler.OthersWithdrawn, scheduler.AgentSchedulable, scheduler.AgentDrained:
		default:
			own = append(own, c)
		}
	}
	return own
}
