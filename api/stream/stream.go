package stream

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/api/rest/session"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/sessions"
)

// Node brings messages to actors; *node.Node is one.
type Node interface {
	Ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error)
}

// Resource is /stream.
type Resource struct {
	node       Node
	pool       *pgxpool.Pool
	owners     api.Owners
	maxMessage int64
}

// New makes the resource. maxMessage bounds an incoming message in bytes (manager.max-wsmsg-size).
func New(node Node, pool *pgxpool.Pool, owners api.Owners, maxMessage int64) *Resource {
	return &Resource{node: node, pool: pool, owners: owners, maxMessage: maxMessage}
}

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/session/{session}/apps", s.apps, api.ReadAllowed, api.Auth)
	r.GET("/session/{session}/execute", s.execute, api.ReadAllowed, api.Auth)
}

// find looks the path's reference up among live sessions of the requester, or of the owner named in the query string.
func (s *Resource) find(r *api.Request) (sessions.Match, error) {
	var key *backendai.AccessKey
	if v, ok := params.FromQuery(r.Query)["owner_access_key"].(string); ok && v != "" {
		k := backendai.AccessKey(v)
		key = &k
	}
	owner, err := api.OwnerScope(r.Context(), s.owners, r.Who(), key)
	if err != nil {
		return sessions.Match{}, err
	}
	return sessions.One(r.Context(), s.pool, r.Param("session"), string(owner.AccessKey), false)
}

// apps lists the apps of a session (spec/rest-session §9.1).
func (s *Resource) apps(r *api.Request) error {
	m, err := s.find(r)
	if err != nil {
		return err
	}
	info, err := sessions.Read(r.Context(), s.pool, m.ID)
	if err != nil {
		return err
	}
	return r.JSON(session.ServicePorts(info.ServicePorts))
}

// ask sends the session's actor a message and waits for its answer.
func (s *Resource) ask(ctx context.Context, id uuid.UUID, timeout time.Duration, message func(protocol.ReplyTo) any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err := s.node.Ask(ctx, cluster.Session(id), message)
	payload, _ := v.([]byte)
	return payload, err
}

// frame is one message to the client (spec/rest-session §9.3).
type frame struct {
	Status   string          `json:"status"`
	Msg      string          `json:"msg,omitempty"`
	Console  *[][]any        `json:"console,omitempty"`
	ExitCode json.RawMessage `json:"exitCode,omitempty"`
	Options  json.RawMessage `json:"options,omitempty"`
	Files    *[]any          `json:"files,omitempty"`
}
