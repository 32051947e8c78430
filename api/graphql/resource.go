package graphql

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/graphql/engine"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/redis/event"
)

//go:embed schema.graphql
var schemaText string

// Bounds of a query. The original has none; those of its clients are far below.
const (
	longestQuery   = 128 << 10 // bytes
	deepestQuery   = 20        // fields; the usual introspection query needs 13
	mostNesting    = 100       // brackets, before anything is parsed
	mostOverlaps   = 50_000    // pairs of fields compared during validation
	mostSelections = 20_000
	timeLimit      = 30 * time.Second
)

// Live is what the live state in Redis tells; *redis.Set does. Ids without an answer are left out.
type Live interface {
	KernelStats(context.Context, []backendai.KernelID) (map[backendai.KernelID]event.Object, error)
	AgentStats(context.Context, []backendai.AgentID) (map[backendai.AgentID]event.Object, error)
	Concurrency(context.Context, []backendai.AccessKey) (map[backendai.AccessKey]int, error)
	QueryCounts(context.Context, []backendai.AccessKey) (map[backendai.AccessKey]int, error)
	ImageAgents(ctx context.Context, canonicalNames []string) (map[string][]backendai.AgentID, error)
}

// Deps is what the resource asks besides the database. All may be nil.
type Deps struct {
	// Live; nil = nothing is known: statistics are null, counts 0.
	Live Live
	// Hardware asks an agent for its hardware, a JSON object; nil = nobody can. It may take as long as its context.
	Hardware func(context.Context, backendai.AgentID) (json.RawMessage, error)
	// Why asks why a pending session waits: a JSON object; nil = nobody can tell. all and brief are those of package rest/session.
	Why func(ctx context.Context, session uuid.UUID, all, brief bool) (json.RawMessage, error)
	// HideAgents tells whether agents are hidden from all but superadmins (manager.hide-agents); nil = no.
	HideAgents func() bool
	// Architecture of images where a query names none; "" = x86_64.
	Architecture string
}

// Resource is /admin's GraphQL.
type Resource struct {
	pool   *pgxpool.Pool
	deps   Deps
	schema *engine.Schema
}

// New makes the resource.
func New(pool *pgxpool.Pool, deps Deps) *Resource {
	r := &Resource{pool: pool, deps: deps}
	if r.deps.Architecture == "" {
		r.deps.Architecture = "x86_64"
	}
	text := strings.ReplaceAll(schemaText, `architecture: String = "x86_64"`, `architecture: String = "`+r.deps.Architecture+`"`)
	r.schema = engine.New(text, &queries{r}, engine.Limits{Nesting: mostNesting, Depth: deepestQuery, Selections: mostSelections, Overlaps: mostOverlaps},
		engine.Hooks{Explain: textOf, Panicked: panicked})
	return r
}

// Register adds the routes; the prefix is /admin (spec/rest-core §7.4).
func (s *Resource) Register(r *api.Router) {
	r.POST("/gql", s.gql, api.Auth)
	r.POST("/graphql", s.graphql, api.Auth)
}

type queryParams struct {
	query     string
	variables map[string]any
	operation *string
}

func (p *queryParams) bind(b *params.Binder) {
	params.Need(b, &p.query, params.Str, "query")
	params.Opt(b, &p.variables, nil, params.Else(nil, params.Dict), "variables")
	params.Maybe(b, &p.operation, params.Str, "operation_name", "operationName")
}

// gql always answers 200; errors are part of the answer.
func (s *Resource) gql(r *api.Request) error {
	p, err := api.Params(r, (*queryParams).bind)
	if err != nil {
		return err
	}
	a := s.answer(r.Context(), r.Who(), p)
	return r.Send(http.StatusOK, "application/json; charset=utf-8", a.modern())
}

// graphql answers the bare data, or 400 when there is any error.
func (s *Resource) graphql(r *api.Request) error {
	p, err := api.Params(r, (*queryParams).bind)
	if err != nil {
		return err
	}
	a := s.answer(r.Context(), r.Who(), p)
	if len(a.errors) > 0 {
		return backendai.NewError(backendai.GraphQLError).WithData(a.errors)
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", a.bare())
}

type whoKey struct{}

func who(ctx context.Context) *accounts.Credential { return ctx.Value(whoKey{}).(*accounts.Credential) }

func (s *Resource) answer(ctx context.Context, who *accounts.Credential, p queryParams) answer {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, whoKey{}, who), timeLimit)
	defer cancel()
	if len(p.query) > longestQuery {
		return answer{errors: []engine.Problem{{Message: fmt.Sprintf("Syntax Error GraphQL: the query is longer than %d bytes", longestQuery)}}}
	}
	doc, problems := s.schema.Document(p.query)
	if problems != nil {
		return answer{errors: problems}
	}
	name := ""
	if p.operation != nil {
		name = *p.operation
	}
	if slog.Default().Enabled(ctx, slog.LevelDebug) {
		slog.Debug("ADMIN.GQL", "access_key", who.Keypair.AccessKey, "fields", doc.Fields(name), "operation", name)
	}
	data, problems := s.schema.Execute(ctx, head, doc, name, p.variables)
	return answer{data: data, errors: problems}
}

// panicked keeps what panicked from clients.
func panicked(value any) string {
	slog.Error("a GraphQL resolver panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return backendai.NewError(backendai.InternalServerError).Text()
}
