package inspector

import (
	"sort"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Inspector holds the entries of one node's actors.
type Inspector struct {
	node string

	mu      sync.RWMutex
	entries map[string]*Entry // by PID id
}

// New makes the inspector of a node.
func New(node string) *Inspector {
	return &Inspector{node: node, entries: make(map[string]*Entry)}
}

// Props makes the props of one actor that is inspected for as long as it lives.
// They are for a single spawn: each actor has its own entry.
func (in *Inspector) Props(id Identity, produce actor.Producer, opts ...actor.PropsOption) *actor.Props {
	e := &Entry{identity: id, node: in.node, started: time.Now()}
	base := []actor.PropsOption{
		actor.WithMailbox(actor.UnboundedLockfree(e)),
		actor.WithReceiverMiddleware(in.receive(e)),
	}
	return actor.PropsFromProducer(produce, append(base, opts...)...)
}

func (in *Inspector) receive(e *Entry) actor.ReceiverMiddleware {
	return func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(ctx actor.ReceiverContext, env *actor.MessageEnvelope) {
			switch env.Message.(type) {
			case *actor.Started:
				e.mu.Lock()
				e.pid, e.parent = ctx.Self(), ctx.Parent()
				e.mu.Unlock()
				in.mu.Lock()
				in.entries[ctx.Self().Id] = e
				in.mu.Unlock()
			case *actor.Stopped:
				in.mu.Lock()
				if in.entries[ctx.Self().Id] == e {
					delete(in.entries, ctx.Self().Id)
				}
				in.mu.Unlock()
			}
			e.begin(env.Message)
			finished := false
			defer func() {
				if !finished { // the actor panicked: the mailbox recovers and its supervisor decides
					r := recover()
					e.failed(r)
					panic(r)
				}
			}()
			next(ctx, env)
			finished = true
			e.end(ctx.Actor())
		}
	}
}

// Node is the name of the node.
func (in *Inspector) Node() string { return in.node }

// Filter narrows a listing. Zero fields mean any.
type Filter struct {
	Kind  Kind
	ID    string
	Shard *int32
}

// List copies the entries that match, ordered by kind, shard and id, and how many matched before limit.
func (in *Inspector) List(f Filter, limit int) ([]Snapshot, int) {
	list := []Snapshot{}
	for _, e := range in.all() {
		if f.Kind != "" && e.identity.Kind != f.Kind || f.ID != "" && e.identity.ID != f.ID || f.Shard != nil && e.identity.Shard != *f.Shard {
			continue
		}
		list = append(list, e.Snapshot())
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		if a.Shard != nil && b.Shard != nil && *a.Shard != *b.Shard {
			return *a.Shard < *b.Shard
		}
		return a.ID < b.ID
	})
	total := len(list)
	if limit > 0 && total > limit {
		list = list[:limit]
	}
	return list, total
}

// Branch is one actor with those it supervises.
type Branch struct {
	Snapshot
	Children []*Branch `json:"children,omitempty"`
}

// Tree is List arranged by supervision: actors whose parent is not in the listing are roots.
func (in *Inspector) Tree(f Filter, limit int) ([]*Branch, int) {
	list, total := in.List(f, limit)
	byPID := make(map[string]*Branch, len(list))
	nodes := make([]*Branch, len(list))
	for i, s := range list {
		nodes[i] = &Branch{Snapshot: s}
		byPID[s.PID] = nodes[i]
	}
	roots := []*Branch{}
	for _, n := range nodes {
		if parent := byPID[n.Parent]; parent != nil && parent != n {
			parent.Children = append(parent.Children, n)
		} else {
			roots = append(roots, n)
		}
	}
	return roots, total
}

// Counts says how many actors of each kind live on the node.
func (in *Inspector) Counts() map[Kind]int {
	counts := make(map[Kind]int)
	for _, e := range in.all() {
		counts[e.identity.Kind]++
	}
	return counts
}

func (in *Inspector) all() []*Entry {
	in.mu.RLock()
	defer in.mu.RUnlock()
	list := make([]*Entry, 0, len(in.entries))
	for _, e := range in.entries {
		list = append(list, e)
	}
	return list
}
