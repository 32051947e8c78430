package inspector

import (
	"sort"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// lookTimeout is how long actors that are looked at may take to tell their facts.
const lookTimeout = 300 * time.Millisecond

// Inspector holds the entries of one node's actors.
type Inspector struct {
	node string
	root *actor.RootContext

	mu      sync.RWMutex
	entries map[string]*Entry // by PID id
}

// New makes the inspector of a node's actor system.
func New(node string, system *actor.ActorSystem) *Inspector {
	return &Inspector{node: node, root: system.Root, entries: make(map[string]*Entry)}
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
			if l, ok := env.Message.(*look); ok {
				t := told{entry: e}
				if f, ok := ctx.Actor().(Factual); ok {
					t.facts = f.Facts()
				}
				l.answer <- t // has room for every answer
				return
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
	var entries []*Entry
	for _, e := range in.all() {
		if f.Kind != "" && e.identity.Kind != f.Kind || f.ID != "" && e.identity.ID != f.ID || f.Shard != nil && e.identity.Shard != *f.Shard {
			continue
		}
		entries = append(entries, e)
	}
	sort.Slice(entries, func(i, j int) bool { return before(entries[i].identity, entries[j].identity) })
	total := len(entries)
	if limit > 0 && total > limit {
		entries = entries[:limit]
	}
	in.ask(entries)
	list := make([]Snapshot, len(entries))
	for i, e := range entries {
		list[i] = e.Snapshot()
	}
	return list, total
}

// ask has the actors tell their facts. Those that do not in time, because they are busy, show what they told before.
func (in *Inspector) ask(entries []*Entry) {
	answers := make(chan told, len(entries))
	asked := 0
	for _, e := range entries {
		e.mu.Lock()
		pid := e.pid
		e.mu.Unlock()
		if pid != nil {
			in.root.Send(pid, &look{answers})
			asked++
		}
	}
	late := time.After(lookTimeout)
	for range asked {
		select {
		case t := <-answers:
			t.entry.mu.Lock()
			t.entry.facts = t.facts
			t.entry.mu.Unlock()
		case <-late:
			return
		}
	}
}

func before(a, b Identity) bool {
	switch {
	case a.Kind != b.Kind:
		return a.Kind < b.Kind
	case a.Shard != b.Shard:
		return a.Shard < b.Shard
	}
	return a.ID < b.ID
}

// identity is who a snapshot is of.
func (s *Snapshot) identity() Identity {
	id := Identity{Kind: s.Kind, ID: s.ID, Shard: -1, Epoch: s.Epoch}
	if s.Shard != nil {
		id.Shard = *s.Shard
	}
	return id
}

// Branch is one actor with those it supervises.
type Branch struct {
	Snapshot
	Children []*Branch `json:"children,omitempty"`
}

// Tree arranges a listing by supervision: actors whose parent is not in the listing are roots.
func Tree(list []Snapshot) []*Branch {
	type place struct{ node, pid string } // processes of different nodes have equal ids
	byPID := make(map[place]*Branch, len(list))
	branches := make([]*Branch, len(list))
	for i, s := range list {
		branches[i] = &Branch{Snapshot: s}
		byPID[place{s.Node, s.PID}] = branches[i]
	}
	roots := []*Branch{}
	for _, b := range branches {
		if parent := byPID[place{b.Node, b.Parent}]; parent != nil && parent != b {
			parent.Children = append(parent.Children, b)
		} else {
			roots = append(roots, b)
		}
	}
	return roots
}

// Survey is what a node, or all of them together, answer to a look.
type Survey struct {
	Counts map[Kind]int `json:"counts"` // of all actors
	Total  int          `json:"total"`  // that match
	Actors []Snapshot   `json:"actors"` // of these as many as were asked for
}

// Survey looks at the node.
func (in *Inspector) Survey(f Filter, limit int) Survey {
	s := Survey{Counts: in.Counts()}
	s.Actors, s.Total = in.List(f, limit)
	return s
}

// Merge adds what another node has answered, up to the limit.
func (s *Survey) Merge(o Survey, limit int) {
	for k, n := range o.Counts {
		s.Counts[k] += n
	}
	s.Total += o.Total
	s.Actors = append(s.Actors, o.Actors...)
	sort.SliceStable(s.Actors, func(i, j int) bool { return before(s.Actors[i].identity(), s.Actors[j].identity()) })
	if limit > 0 && len(s.Actors) > limit {
		s.Actors = s.Actors[:limit]
	}
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
