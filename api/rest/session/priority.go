package session

import (
	"net/http"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/sessions"
)

// priority gives a waiting session another place in its queue. It is this manager's own; only scaling groups that ask for it heed priorities.
func (s *Resource) priority(r *api.Request) error {
	priority, err := api.Params(r, func(p *int, b *params.Binder) {
		params.Need(b, p, params.ToInt.Between(-protocol.MaxPriority, protocol.MaxPriority).Int, "priority")
	})
	if err != nil {
		return err
	}
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	row, err := sessions.Read(r.Context(), s.pool, m.ID)
	if err != nil {
		return err
	}
	if row.Status != backendai.Pending || row.ScalingGroup == nil {
		return backendai.Errorf(backendai.InvalidAPIParameters, "The session does not wait: its status is %s.", row.Status)
	}
	options, err := s.facts.Options(r.Context(), *row.ScalingGroup)
	if err != nil {
		return err
	}
	if !options.Priority {
		return backendai.Errorf(backendai.InvalidAPIParameters, "The scaling group %s does not heed priorities; an administrator can turn that on by its scheduler_opts.", *row.ScalingGroup)
	}
	if err := enqueue.CheckPriority(r.Who().User.Role, priority, options); err != nil {
		return err
	}
	if _, err := s.ask(r.Context(), m.ID, callTimeout, func(to protocol.ReplyTo) any {
		return &protocol.Reprioritize{SessionID: m.ID, Priority: priority, Reply: to}
	}); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}
