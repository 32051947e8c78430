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

	gql "github.com/graph-gophers/graphql-go"
	"github.com/graph-gophers/graphql-go/errors"
	"github.com/graph-gophers/graphql-go/log"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
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
	// HideAgents tells whether agents are hidden from all but superadmins (manager.hide-agents); nil = no.
	HideAgents func() bool
	// Architecture of images where a query names none; "" = x86_64.
	Architecture string
}

// Resource is /admin's GraphQL.
type Resource struct {
	pool   *pgxpool.Pool
	deps   Deps
	schema *gql.Schema
}

// New makes the resource.
func New(pool *pgxpool.Pool, deps Deps) *Resource {
	r := &Resource{pool: pool, deps: deps}
	if r.deps.Architecture == "" {
		r.deps.Architecture = "x86_64"
	}
	text := strings.ReplaceAll(schemaText, `architecture: String = "x86_64"`, `architecture: String = "`+r.deps.Architecture+`"`)
	r.schema = gql.MustParseSchema(text, &queries{r},
		gql.UseFieldResolvers(), gql.MaxDepth(deepestQuery), gql.MaxQueryLength(longestQuery), gql.MaxSelections(mostSelections),
		gql.OverlapValidationLimit(mostOverlaps), gql.Logger(log.LoggerFunc(logPanic)), gql.PanicHandler(hidePanic{}))
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
	return r.Send(http.StatusOK, "application/json; charset=utf-8", respell(nil, a.data))
}

type whoKey struct{}

func who(ctx context.Context) *accounts.Credential { return ctx.Value(whoKey{}).(*accounts.Credential) }

func (s *Resource) answer(ctx context.Context, who *accounts.Credential, p queryParams) answer {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, whoKey{}, who), timeLimit)
	defer cancel()
	if len(p.query) > longestQuery {
		return answer{errors: []problem{{Message: fmt.Sprintf("Syntax Error GraphQL: the query is longer than %d bytes", longestQuery)}}}
	}
	doc, ok := outline(p.query)
	if !ok {
		return answer{errors: []problem{{Message: fmt.Sprintf("Syntax Error GraphQL: the query is nested deeper than %d levels", mostNesting)}}}
	}
	name := ""
	if p.operation != nil {
		name = *p.operation
	}
	operation := doc.operation(name)
	variables, missing := doc.coerce(operation, p.variables, map[string]any{"architecture": s.deps.Architecture})
	if missing != nil {
		if static := notAboutVariables(s.schema.ValidateWithVariables(p.query, nil)); len(static) > 0 {
			return answer{errors: describe(static, doc, operation)}
		}
		return answer{errors: missing}
	}
	slog.Debug("ADMIN.GQL", "access_key", who.Keypair.AccessKey, "fields", operation.fields(), "operation", name)
	res := s.schema.Exec(ctx, p.query, name, variables)
	return answer{data: res.Data, errors: describe(res.Errors, doc, operation)}
}

// notAboutVariables leaves what is wrong with the query's text.
func notAboutVariables(all []*errors.QueryError) (list []*errors.QueryError) {
	for _, e := range all {
		if e.Rule != "VariablesOfCorrectType" {
			list = append(list, e)
		}
	}
	return list
}

func logPanic(_ context.Context, value any) {
	slog.Error("a GraphQL resolver panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}

// hidePanic keeps what panicked from clients.
type hidePanic struct{}

// MakePanicError implements the library's handler.
func (hidePanic) MakePanicError(context.Context, any) *errors.QueryError {
	return errors.Errorf("%s", backendai.NewError(backendai.InternalServerError).Text())
}
