package session

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/sessions"
)

// Node brings messages to actors; *node.Node is one.
type Node interface {
	Ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error)
}

// Facts gathers what a request for a session is checked against; *store.Facts does.
type Facts interface {
	Read(ctx context.Context, r *enqueue.Request, owner enqueue.Owner) (*enqueue.Facts, error)
	Folders(ctx context.Context, names []string, owner enqueue.Owner, role backendai.UserRole) ([]enqueue.Folder, error)
	// Options are what a scaling group's scheduler does beyond the original's.
	Options(ctx context.Context, scalingGroup string) (protocol.Options, error)
}

// Resource is /session.
type Resource struct {
	node   Node
	pool   *pgxpool.Pool
	owners api.Owners
	facts  Facts
}

// New makes the resource.
func New(node Node, pool *pgxpool.Pool, owners api.Owners, facts Facts) *Resource {
	return &Resource{node: node, pool: pool, owners: owners, facts: facts}
}

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.POST("", s.create, api.AllAllowed, api.Auth, api.Waits)
	r.POST("/_/create", s.create, api.AllAllowed, api.Auth, api.Waits)
	r.POST("/_/plan", s.planSession, api.AllAllowed, api.Auth, api.Waits)
	r.POST("/_/what-if", s.whatIf, api.ReadAllowed, api.Superadmin, api.Waits)
	r.GET("/_/match", s.match, api.ReadAllowed, api.Auth)
	r.GET("/_/logs", s.taskLogs, api.ReadAllowed, api.Auth)
	r.HEAD("/_/logs", s.taskLogs, api.ReadAllowed, api.Auth)
	r.GET("/{session}", s.info, api.ReadAllowed, api.Auth)
	r.PATCH("/{session}", s.restart, api.ReadAllowed, api.Auth, api.Waits)
	r.DELETE("/{session}", s.destroy, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}", s.execute, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/rename", s.rename, api.AllAllowed, api.Auth)
	r.POST("/{session}/start-service", s.startService, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/shutdown-service", s.shutdownService, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/complete", s.complete, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/interrupt", s.interrupt, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/upload", s.upload, api.ReadAllowed, api.Auth, api.Waits)
	r.GET("/{session}/download", s.download, api.ReadAllowed, api.Auth, api.Waits)
	r.GET("/{session}/download_single", s.downloadSingle, api.ReadAllowed, api.Auth, api.Waits)
	r.GET("/{session}/files", s.files, api.ReadAllowed, api.Auth, api.Waits)
	r.POST("/{session}/priority", s.priority, api.AllAllowed, api.Auth)
	r.GET("/{session}/why", s.why, api.ReadAllowed, api.Auth, api.Waits)
	r.GET("/{session}/why/stream", s.whyStream, api.ReadAllowed, api.Auth)
	r.GET("/{session}/logs", s.logs, api.ReadAllowed, api.Auth, api.Waits)
}

// Time limits of calls; the original has 30 s for most and none for files (spec/rest-session §11).
const (
	callTimeout     = 30 * time.Second
	promptStart     = 5 * time.Second // in which most sessions start, or turn out not to
	completeTimeout = 10 * time.Second
	fileTimeout     = 2 * time.Minute
	destroyTimeout  = 40 * time.Second
	restartTimeout  = 6 * time.Minute
	// answerGrace is how much longer than the agent's deadline the handler waits, so that the agent's word comes first.
	answerGrace = 2 * time.Second
)

// owner is whose sessions the request is about: the requester's, or those of owner_access_key in the query string. The
// official client sends it with nearly every call; honouring it only sometimes, as the original does, helps nobody
// (spec/rest-session §1.5).
func (s *Resource) owner(r *api.Request) (accounts.Owner, error) {
	var key *backendai.AccessKey
	if v, ok := params.FromQuery(r.Query)["owner_access_key"].(string); ok && v != "" {
		k := backendai.AccessKey(v)
		key = &k
	}
	return api.OwnerScope(r.Context(), s.owners, r.Who(), key)
}

// find looks the path's reference up.
func (s *Resource) find(r *api.Request, stale bool) (sessions.Match, error) {
	owner, err := s.owner(r)
	if err != nil {
		return sessions.Match{}, err
	}
	return sessions.One(r.Context(), s.pool, r.Param("session"), string(owner.AccessKey), stale)
}

// ask sends a session's actor a message and waits for its answer. While the session changes hands the node puts the question again, if
// that does no harm.
func (s *Resource) ask(ctx context.Context, id uuid.UUID, timeout time.Duration, message func(protocol.ReplyTo) any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.node.Ask(ctx, cluster.Session(id), message)
}

// call asks the agent of a session's main kernel and decodes its answer.
func call[R any](s *Resource, r *api.Request, id uuid.UUID, req callosum.Request[R], timeout time.Duration, query bool) (result R, err error) {
	deadline := time.Now().Add(timeout)
	v, err := s.ask(r.Context(), id, timeout+answerGrace, func(to protocol.ReplyTo) any {
		return &protocol.Invoke{Call: req.Call(), Deadline: deadline, Query: query, Reply: to}
	})
	if err != nil {
		return result, agentFailure(err)
	}
	payload, _ := v.([]byte)
	result, err = req.Result(payload)
	if err != nil {
		return result, backendai.AgentException(backendai.KernelExecutionFailed, err.Error())
	}
	return result, nil
}

// agentFailure is what a client sees of a call that failed (spec/agent-protocol §3).
func agentFailure(err error) error {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return backendai.AgentException(backendai.KernelExecutionFailed, remote.Repr)
	}
	var link *callosum.LinkError
	if errors.As(err, &link) || errors.Is(err, backendai.DeadlineExceeded) {
		return backendai.AgentError(backendai.KernelExecutionFailed, backendai.AgentTimeout, "").WithCause(err)
	}
	return err
}
