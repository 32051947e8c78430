package membership

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

// Look reads the members and claims below a prefix as somebody who is no member sees them. Errors: ServiceUnavailable.
func Look(ctx context.Context, client *clientv3.Client, prefix string) (View, error) {
	m := New(Config{Client: client, Prefix: prefix})
	s, err := m.list(ctx)
	if err != nil {
		return View{}, err
	}
	return s.view("", 0), nil
}

// Order tells the member of a name, from outside, to give its shards away and take none, or to take shards again. It sees that in its
// own view of the cluster. Errors: ObjectNotFound when there is no such member, ServiceUnavailable.
func Order(ctx context.Context, client *clientv3.Client, prefix, name string, draining bool) error {
	v, err := Look(ctx, client, prefix)
	if err != nil {
		return err
	}
	for _, member := range v.Members {
		if member.Name != name {
			continue
		}
		member.Draining = draining
		value, err := json.Marshal(member)
		if err != nil {
			return backendai.Internal(err)
		}
		key, lease := prefix+nodesPart+member.ID, clientv3.LeaseID(member.Lease)
		ctx, cancel := call(ctx)
		defer cancel()
		resp, err := client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", lease)).Then(clientv3.OpPut(key, string(value), clientv3.WithLease(lease))).Commit()
		if leaseGone(err) || err == nil && !resp.Succeeded {
			break
		}
		return unavailable(err)
	}
	return backendai.NoSuch(fmt.Sprintf("manager node %q in the cluster", name))
}
