package inspect

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/shard"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cluster/transport"
)

// Bounds of a listing.
const (
	defaultLimit = 1000
	maxLimit     = 20000
)

// Node is the node that is asked; it asks the others. *node.Node is one.
type Node interface {
	Name() string
	Survey(ctx context.Context, f inspector.Filter, limit int) (s inspector.Survey, missing []string)
	View() membership.View
	Ownership(ctx context.Context) (shard.Ownership, error)
	Healthy() bool
	Peers() []transport.PeerStats
	Ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error)
}

// Resource is /inspect.
type Resource struct {
	node   Node
	groups func(context.Context) ([]string, error)
}

// New makes the resource. groups lists the scaling groups.
func New(n Node, groups func(context.Context) ([]string, error)) *Resource {
	return &Resource{n, groups}
}

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/actors", s.actors, api.Superadmin)
	r.GET("/cluster", s.cluster, api.Superadmin)
	r.GET("/schedulers/{group}/record", s.record, api.Superadmin, api.Waits)
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

// actors lists or draws the actors of all nodes.
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
	survey, missing := s.node.Survey(r.Context(), filter, p.limit)
	slices.Sort(missing)
	answer := struct {
		Node    string                 `json:"node"` // that was asked
		Missing []string               `json:"missing,omitempty"`
		Counts  map[inspector.Kind]int `json:"counts"`
		Total   int                    `json:"total"` // that match, of which limit are shown
		Actors  any                    `json:"actors"`
	}{Node: s.node.Name(), Missing: missing, Counts: survey.Counts, Total: survey.Total, Actors: survey.Actors}
	if p.view == tree {
		answer.Actors = inspector.Tree(survey.Actors)
	}
	return send(r, answer)
}

// member is a node as an administrator sees it.
type member struct {
	membership.Member
	Self   bool `json:"self,omitempty"`
	Claims int  `json:"claims"`
}

// cluster shows the nodes, who acts for which shard under which epoch, and what is moving.
func (s *Resource) cluster(r *api.Request) error {
	own, err := s.node.Ownership(r.Context())
	if err != nil {
		return err
	}
	v := s.node.View()
	answer := struct {
		Node      string                     `json:"node"`
		At        time.Time                  `json:"at"`
		Revision  int64                      `json:"revision"` // of etcd
		Healthy   bool                       `json:"healthy"`  // a member, and sees the others
		Members   []member                   `json:"members"`
		Claims    map[int32]membership.Claim `json:"claims"` // by shard: who should act
		Acting    map[int32]int64            `json:"acting"` // by shard: epochs under which this node acts
		Taking    int                        `json:"taking"` // shards that this node is taking
		HandingOn []int32                    `json:"handing_over"`
		Peers     []transport.PeerStats      `json:"peers"` // messages to other nodes
	}{Node: s.node.Name(), At: time.Now(), Revision: v.Revision, Healthy: s.node.Healthy(), Members: []member{}, Claims: v.Claims,
		Acting: own.Epochs, Taking: own.Pending, HandingOn: own.Busy, Peers: s.node.Peers()}
	for _, m := range v.Members {
		answer.Members = append(answer.Members, member{Member: m, Self: m.ID == v.Self, Claims: len(v.Claimed(m.ID))})
	}
	return send(r, answer)
}

func send(r *api.Request, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return r.Send(http.StatusOK, "application/json; charset=utf-8", text)
}

// recordTimeout bounds how long a scheduler may take to write its record.
const recordTimeout = time.Minute

// record answers with the last steps of a scheduler as JSON lines (scheduler.NewReplay reads them). Errors: ScalingGroupNotFound;
// ObjectNotFound when the schedulers keep no record.
func (s *Resource) record(r *api.Request) error {
	groups, err := s.groups(r.Context())
	if err != nil {
		return err
	}
	group := r.Param("group")
	if !slices.Contains(groups, group) {
		return backendai.Errorf(backendai.ScalingGroupNotFound, "The scaling group %s does not exist.", group)
	}
	ctx, cancel := context.WithTimeout(r.Context(), recordTimeout)
	defer cancel()
	v, err := s.node.Ask(ctx, cluster.Scheduler(group), func(to protocol.ReplyTo) any { return &protocol.SchedulerRecord{Reply: to} })
	if err != nil {
		return err
	}
	packed, _ := v.([]byte)
	lines, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return backendai.Internal(err)
	}
	res := r.Fiber().Response()
	res.SetStatusCode(http.StatusOK)
	res.Header.SetContentType("application/jsonl")
	res.SetBodyStream(lines, -1)
	return nil
}
