package session

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/live"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/postgres/sessions"
)

// plannedKernel is where a container would run. Agents are for superadmins only.
type plannedKernel struct {
	ClusterRole string `json:"cluster_role"`
	ClusterIdx  int    `json:"cluster_idx"`
	Agent       string `json:"agent,omitempty"`
}

// planned is the answer to a request for a plan.
type planned struct {
	Name      string                  `json:"name"`
	Image     string                  `json:"image"`
	Resources backendai.ResourceSlots `json:"resources"` // of each container, with what the image needs filled in
	scheduler.SessionPlan
	Placements []plannedKernel `json:"placements"`
	// Existing is the session of that name that would be answered with instead of making one.
	Existing *created `json:"existing,omitempty"`
}

// planSession tells what would come of the same request to POST /session, whose checks, in the same order, it is refused by. Nothing is
// written and nothing reserved: a session that is asked for a moment later may find another queue. It is this manager's own; the original
// has nothing like it.
func (s *Resource) planSession(r *api.Request) error {
	a, err := s.asks(r)
	if err != nil {
		return err
	}
	a.ids = newIDs(r)
	message, err := s.plan(r, a)
	if err == nil || backendai.AsError(err).HTTPStatus() < http.StatusInternalServerError {
		m, err := sessions.Live(r.Context(), s.pool, a.Name, a.owner.AccessKey)
		if err != nil {
			return err
		}
		if m != nil {
			there, err := s.existing(r, a, m.ID)
			if err != nil {
				return err
			}
			answer := planned{Name: a.Name, Image: a.image.Name, Placements: []plannedKernel{}, Existing: there,
				SessionPlan: scheduler.SessionPlan{At: a.facts.Now, Reasons: []scheduler.Reason{}, Changes: []scheduler.ToldChange{},
					Sentences: []string{fmt.Sprintf("There is a session of this name already; it would be taken as it is. Its status is %s.", there.Status)}}}
			return sendJSON(r, answer)
		}
	}
	if err != nil {
		return err
	}
	main := message.Kernels[0]
	asked := protocol.PendingOf(message.Kernels, message.Scheduling, message.Dependencies)
	answer := planned{Name: a.Name, Image: main.Image, Resources: main.OccupiedSlots, Placements: []plannedKernel{}}
	doc, err := s.askScheduler(r.Context(), main.ScalingGroup, func(to protocol.ReplyTo) any { return &protocol.PlanSession{Session: asked, Reply: to} })
	if err != nil {
		return err
	}
	if err := json.Unmarshal(doc, &answer.SessionPlan); err != nil {
		return backendai.Internal(err)
	}
	all := r.Who().IsSuperadmin()
	for _, p := range answer.SessionPlan.Placements {
		at := slices.IndexFunc(message.Kernels, func(k *record.Kernel) bool { return k.ID == p.KernelID })
		if at < 0 {
			return backendai.Internal(fmt.Errorf("a plan places the kernel %s, which nobody has asked for", p.KernelID))
		}
		k := plannedKernel{ClusterRole: message.Kernels[at].ClusterRole, ClusterIdx: message.Kernels[at].ClusterIdx}
		if all {
			k.Agent = p.Agent
		}
		answer.Placements = append(answer.Placements, k)
	}
	if !all {
		answer.Changes = slices.DeleteFunc(answer.Changes, func(ch scheduler.ToldChange) bool { return ofOthers(ch.Kind) })
		hideOthers(answer.Reasons, answer.Estimate)
	}
	for i := range answer.Changes {
		if ch := &answer.Changes[i]; ch.Session == asked.ID { // which will never be seen
			ch.Session = uuid.Nil
		}
	}
	return sendJSON(r, answer)
}

// whatIfParams are those of POST /session/_/what-if.
type whatIfParams struct {
	scalingGroup string
	changes      json.RawMessage
}

func (p *whatIfParams) bind(b *params.Binder) {
	params.Need(b, &p.scalingGroup, params.Str, "scaling_group", "scalingGroup")
	params.Need(b, &p.changes, params.Raw, "changes")
}

// whatIf tells superadmins what a scaling group's next pass would do if some things were different, compared with what it will do. It is
// this manager's own; the original has nothing like it.
func (s *Resource) whatIf(r *api.Request) error {
	p, err := api.Params(r, (*whatIfParams).bind)
	if err != nil {
		return err
	}
	if _, err := scheduler.ParseChanges(p.changes); err != nil {
		return err
	}
	group, err := live.Group(r.Context(), s.pool, p.scalingGroup)
	switch {
	case err != nil:
		return err
	case group == nil:
		return backendai.Errorf(backendai.ScalingGroupNotFound, "The scaling group %s does not exist.", p.scalingGroup)
	}
	doc, err := s.askScheduler(r.Context(), p.scalingGroup, func(to protocol.ReplyTo) any { return &protocol.WhatIf{Changes: p.changes, Reply: to} })
	if err != nil {
		return err
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", doc)
}

// askScheduler asks a scaling group's scheduler something that it answers with JSON.
func (s *Resource) askScheduler(ctx context.Context, group string, message func(protocol.ReplyTo) any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	v, err := s.node.Ask(ctx, cluster.Scheduler(group), message)
	doc, _ := v.([]byte)
	return doc, err
}

func sendJSON(r *api.Request, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return backendai.Internal(err)
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", text)
}

// whyTimeout bounds how long the scheduler may think of what would start a session.
const whyTimeout = 10 * time.Second
