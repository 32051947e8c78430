package node

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
)

const (
	// inspectorName is the id of every node's inspector.
	inspectorName = "inspector"
	// surveyTimeout bounds how long other nodes are waited for.
	surveyTimeout = 3 * time.Second
)

// spawnInspector makes the actor that answers looks of other nodes.
func (n *Node) spawnInspector() error {
	in, root := n.svc.Inspector, n.svc.System.Root
	props := in.Props(inspector.Identity{Kind: inspector.KindNode, ID: inspectorName, Shard: -1}, func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			m, ok := ctx.Message().(*protocol.Inspect)
			if !ok {
				return
			}
			// Copying thousands of entries takes a while; it needs nothing of the actor.
			n.svc.Work.Go(func(context.Context) {
				doc, err := json.Marshal(in.Survey(inspector.Filter{Kind: inspector.Kind(m.Kind), ID: m.ID, Shard: m.Shard}, m.Limit))
				ask.Reply(root, m.Reply, doc, err)
			})
		})
	})
	_, err := root.SpawnNamed(props, inspectorName)
	return err
}

// Survey looks at the actors of all nodes. Missing names those that did not answer in time.
func (n *Node) Survey(ctx context.Context, f inspector.Filter, limit int) (s inspector.Survey, missing []string) {
	s = n.svc.Inspector.Survey(f, limit)
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var mu sync.Mutex
	var others sync.WaitGroup
	view := n.View()
	for _, m := range view.Members {
		if m.ID == view.Self {
			continue
		}
		others.Go(func() {
			o, err := n.surveyOf(ctx, m.Address, f, limit)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				n.cfg.Log.Warn("a node has not told of its actors", "node", m.Name, "error", err)
				missing = append(missing, m.Name)
				return
			}
			s.Merge(o, limit)
		})
	}
	others.Wait()
	return s, missing
}

func (n *Node) surveyOf(ctx context.Context, address string, f inspector.Filter, limit int) (s inspector.Survey, err error) {
	call := n.desk.Begin()
	defer call.End()
	n.svc.System.Root.Send(actor.NewPID(address, inspectorName), &protocol.Inspect{Kind: string(f.Kind), ID: f.ID, Shard: f.Shard, Limit: limit, Reply: call.To})
	select {
	case a := <-call.Answer:
		if a.Err != nil {
			return s, a.Err
		}
		doc, _ := a.Value.([]byte)
		err = json.Unmarshal(doc, &s)
		return s, err
	case <-ctx.Done():
		return s, ctx.Err()
	}
}
