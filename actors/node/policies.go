package node

import (
	"context"

	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// PoliciesChanged tells the schedulers of all scaling groups, wherever they live, that their options may have changed. It doesn't block, and it
// may come to nothing: they look by themselves every ten seconds.
func (n *Node) PoliciesChanged() {
	n.svc.Work.Go(func(ctx context.Context) {
		groups, err := n.svc.Store.ScalingGroups(ctx)
		if err != nil {
			return
		}
		for _, g := range groups {
			n.svc.Router.Send(cluster.Scheduler(g), &protocol.PolicyStale{})
		}
	})
}
