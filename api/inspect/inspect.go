package inspect

import (
	"encoding/json"
	"net/http"

	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
)

// Bounds of a listing.
const (
	defaultLimit = 1000
	maxLimit     = 20000
)

// Resource is /inspect.
type Resource struct{ inspector *inspector.Inspector }

// New makes the resource of a node's inspector.
func New(in *inspector.Inspector) *Resource { return &Resource{in} }

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/actors", s.actors, api.Superadmin)
}

type view string

const (
	tree view = "tree"
	flat view = "flat"
)

type actorsParams struct {
	view  view
	kind  inspector.Kind
	id    string
	shard *int64
	limit int
}

func (p *actorsParams) bind(b *params.Binder) {
	params.Opt(b, &p.view, tree, params.Enum(tree, flat), "view")
	params.Opt(b, &p.kind, "", params.Enum(inspector.KindNode, inspector.KindShard, inspector.KindAgent, inspector.KindScheduler, inspector.KindSession, inspector.KindKernel), "kind")
	params.Opt(b, &p.id, "", params.Str, "id")
	params.Maybe(b, &p.shard, params.ToInt.AtLeast(0).Int64, "shard")
	params.Opt(b, &p.limit, defaultLimit, params.ToInt.Between(1, maxLimit).Int, "limit")
}

// actors lists or draws the actors of this node.
func (s *Resource) actors(r *api.Request) error {
	p, err := api.Params(r, (*actorsParams).bind)
	if err != nil {
		return err
	}
	filter := inspector.Filter{Kind: p.kind, ID: p.id}
	if p.shard != nil {
		shard := int32(*p.shard)
		filter.Shard = &shard
	}
	answer := struct {
		Node   string                 `json:"node"`
		Counts map[inspector.Kind]int `json:"counts"`
		Total  int                    `json:"total"` // that match, of which limit are shown
		Actors any                    `json:"actors"`
	}{Node: s.inspector.Node(), Counts: s.inspector.Counts()}
	if p.view == flat {
		answer.Actors, answer.Total = s.inspector.List(filter, p.limit)
	} else {
		answer.Actors, answer.Total = s.inspector.Tree(filter, p.limit)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", text)
}
