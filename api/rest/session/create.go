package session

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/sessions"
)

// created is the answer to a request for a session (spec/rest-session §3.6).
type created struct {
	SessionID   string `json:"sessionId"`
	SessionName string `json:"sessionName"`
	Status      string `json:"status"`
	// Raw is the agent's list, only in the answer about a session that was there; ServicePorts what clients read.
	Raw          *json.RawMessage `json:"service_ports,omitempty"`
	ServicePorts []ServicePort    `json:"servicePorts"`
	Created      bool             `json:"created"`
}

// ServicePort is a service as clients see it: ports are those inside the container.
type ServicePort struct {
	Name             string          `json:"name"`
	Protocol         string          `json:"protocol"`
	Ports            json.RawMessage `json:"ports"`
	URLTemplate      json.RawMessage `json:"url_template,omitempty"`
	AllowedArguments json.RawMessage `json:"allowed_arguments,omitempty"`
	AllowedEnvs      json.RawMessage `json:"allowed_envs,omitempty"`
}

// ServicePorts turns the agent's list, as a row has it, into the one clients read.
func ServicePorts(raw json.RawMessage) []ServicePort {
	var list []struct {
		ServicePort
		ContainerPorts json.RawMessage `json:"container_ports"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &list) != nil {
		return []ServicePort{}
	}
	ports := make([]ServicePort, len(list))
	for i, p := range list {
		ports[i] = p.ServicePort
		ports[i].Ports = p.ContainerPorts
	}
	return ports
}

// statusTimeout is shown when the caller's maxWaitSeconds has passed; the session stays in the queue.
const statusTimeout = "TIMEOUT"

// asked is a request for a session that is understood, with what it is checked against.
type asked struct {
	createParams
	owner enqueue.Owner
	facts *enqueue.Facts
	image *enqueue.Image
	ids   enqueue.IDs
}

// asks reads a request for a session, up to the image.
func (s *Resource) asks(r *api.Request) (*asked, error) {
	p, err := api.Params(r, (*createParams).bind)
	if err != nil {
		return nil, err
	}
	if p.Name == "from-template" {
		return nil, backendai.CheckNewSessionName(p.Name)
	}
	values := p.RawConfig
	if values == nil {
		values = map[string]any{}
	}
	config, err := params.Bind(values, func(c *configParams, b *params.Binder) {
		c.version = r.Version
		c.bind(b)
	})
	if err != nil {
		return nil, err
	}
	a := &asked{createParams: p}
	a.Config = config.Config
	if err := enqueue.CheckRequest(&a.Request, r.Who().User.Role); err != nil {
		return nil, err
	}
	if a.owner, err = s.sessionOwner(r, p.OwnerAccessKey); err != nil {
		return nil, err
	}
	if a.facts, err = s.facts.Read(r.Context(), &a.Request, a.owner); err != nil {
		return nil, err
	}
	a.image, err = enqueue.ChooseImage(&a.Request, a.facts)
	return a, err
}

func (s *Resource) create(r *api.Request) error {
	a, err := s.asks(r)
	if err != nil {
		return err
	}
	ids := newIDs(r)
	a.ids = ids
	// Most sessions start at once: their creation and the wait for their start are one question. One that has to wait for room is
	// asked about again.
	atMost := time.Duration(a.MaxWaitSeconds) * time.Second // 0: as long as it takes
	var until time.Time
	if atMost > 0 {
		until = time.Now().Add(atMost)
	}
	id, outcome, err := s.enqueue(r, a, !a.EnqueueOnly && (atMost == 0 || atMost > promptStart))
	if err == nil && outcome != nil {
		answer := newlyCreated(id, a.Name)
		answer.started(outcome)
		return r.JSONStatus(http.StatusCreated, answer)
	}
	// Most names are free. One that is not is found out by the database's unique index when the rows are written; but a name
	// that is taken goes before everything else that is wrong with the request.
	if err != nil && backendai.AsError(err).HTTPStatus() < http.StatusInternalServerError {
		m, err := sessions.Live(r.Context(), s.pool, a.Name, a.owner.AccessKey)
		switch {
		case err != nil:
			return err
		case m == nil:
		case ids.made(m.ID):
			return s.created(r, a.createParams, m.ID, until)
		default:
			there, err := s.existing(r, a, m.ID)
			if err != nil {
				return err
			}
			return r.JSON(there)
		}
	}
	if err != nil {
		return err
	}
	return s.created(r, a.createParams, id, until)
}

// plan makes the session's rows, and writes nothing.
func (s *Resource) plan(r *api.Request, a *asked) (_ *protocol.Create, err error) {
	if a.facts.Folders, err = s.facts.Folders(r.Context(), enqueue.FolderNames(&a.Request), a.owner, folderRole(r, a.owner)); err != nil {
		return nil, err
	}
	return enqueue.Plan(&a.Request, a.facts, a.image, a.ids)
}

// created answers that a session was created by this request, when it has started if the client waits for that.
func (s *Resource) created(r *api.Request, p createParams, id uuid.UUID, until time.Time) error {
	answer := newlyCreated(id, p.Name)
	if !p.EnqueueOnly {
		if err := s.await(r.Context(), id, until, &answer); err != nil {
			return err
		}
	}
	return r.JSONStatus(http.StatusCreated, answer)
}

func newlyCreated(id uuid.UUID, name string) created {
	return created{SessionID: id.String(), SessionName: name, Status: string(backendai.Pending), ServicePorts: []ServicePort{}, Created: true}
}

// enqueue plans the session and has its actor write its rows; it returns the session's id. With await it also waits for a prompt
// start; outcome is nil when that has not come.
func (s *Resource) enqueue(r *api.Request, a *asked, await bool) (id uuid.UUID, outcome *protocol.Outcome, err error) {
	message, err := s.plan(r, a)
	if err != nil {
		return id, nil, err
	}
	id = message.Kernels[0].ID
	create := func(timeout time.Duration, await bool) (any, error) {
		return s.ask(r.Context(), id, timeout, func(to protocol.ReplyTo) any {
			m := *message
			m.Await, m.Reply = await, to
			return &m
		})
	}
	var v any
	if await {
		v, err = create(promptStart, true)
	}
	if !await || errors.Is(err, backendai.DeadlineExceeded) && r.Context().Err() == nil {
		v, err = create(callTimeout, false) // whether it waits for room, or for its rows to be written
	}
	outcome, _ = v.(*protocol.Outcome)
	return id, outcome, err
}

// sessionOwner is who will own the session. For one's own session the role counts as a plain user's, even an administrator's
// (spec/rest-session §3.5).
func (s *Resource) sessionOwner(r *api.Request, key *string) (enqueue.Owner, error) {
	var owner *backendai.AccessKey
	if key != nil {
		k := backendai.AccessKey(*key)
		owner = &k
	}
	o, err := api.OwnerScope(r.Context(), s.owners, r.Who(), owner)
	if err != nil {
		return enqueue.Owner{}, err
	}
	who := enqueue.Owner{AccessKey: string(o.AccessKey), UserID: o.User, Domain: o.Domain, Role: backendai.RoleUser, RequesterRole: r.Who().User.Role}
	if o.AccessKey != r.Who().Keypair.AccessKey {
		who.Role, who.Delegated = o.Role, true
	}
	return who, nil
}

// folderRole is the role that decides which projects' folders are open: the owner's own, for one's own sessions too
// (spec/vfolder-storage §7).
func folderRole(r *api.Request, owner enqueue.Owner) backendai.UserRole {
	if owner.Delegated {
		return owner.Role
	}
	return r.Who().User.Role
}

// existing is the live session of that very name, if it may be taken. Error: SessionAlreadyExists if it may not.
func (s *Resource) existing(r *api.Request, a *asked, id uuid.UUID) (*created, error) {
	info, err := sessions.Read(r.Context(), s.pool, id)
	if err != nil {
		return nil, err
	}
	if !a.Reuse || info.Image != a.image.Name || info.Architecture != a.image.Architecture {
		return nil, backendai.NewError(backendai.SessionAlreadyExists).WithData(map[string]any{"existingSessionId": id.String()})
	}
	raw := info.ServicePorts
	if len(raw) == 0 {
		raw = json.RawMessage(`null`)
	}
	return &created{SessionID: id.String(), SessionName: info.Name, Status: string(info.Status), Raw: &raw, ServicePorts: ServicePorts(info.ServicePorts)}, nil
}

// started notes how the start went.
func (c *created) started(outcome *protocol.Outcome) {
	c.Status = string(outcome.Status)
	if outcome.Status == backendai.Running {
		c.ServicePorts = ServicePorts(outcome.ServicePorts)
	}
}

// await waits until the session has started or will not any more, at most until a time (zero: as long as it takes).
func (s *Resource) await(ctx context.Context, id uuid.UUID, until time.Time, answer *created) error {
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	for {
		v, err := s.ask(ctx, id, 24*time.Hour, func(to protocol.ReplyTo) any { return &protocol.AwaitStart{Reply: to} })
		switch {
		case err == nil:
			answer.started(v.(*protocol.Outcome))
			return nil
		case errors.Is(err, backendai.SessionNotFound): // it has ended meanwhile: its row says how
			info, err := sessions.Read(context.WithoutCancel(ctx), s.pool, id)
			if err != nil {
				return err
			}
			answer.Status = string(info.Status)
			return nil
		case ctx.Err() != nil:
			answer.Status = statusTimeout
			return nil
		case !errors.Is(err, backendai.ServiceUnavailable) && !errors.Is(err, backendai.DeadlineExceeded):
			return err
		}
	}
}
