package shared

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

// maxOps is etcd's default limit of operations in a transaction.
const maxOps = 128

func pairsOf(kvs []*mvccpb.KeyValue, base string) []Pair {
	pairs := make([]Pair, len(kvs))
	for i, kv := range kvs {
		pairs[i] = Pair{strings.TrimPrefix(string(kv.Key), base), string(kv.Value)}
	}
	return pairs
}

// Put writes a key and returns the revision of the write, which Settings.Wait takes.
func (c *Client) Put(ctx context.Context, key, value string, scope Scope) (revision int64, err error) {
	return c.PutAll(ctx, []Pair{{key, value}}, scope)
}

// PutPrefix writes nested maps below prefix (Flatten says how).
func (c *Client) PutPrefix(ctx context.Context, prefix string, value any, scope Scope) (revision int64, err error) {
	pairs, err := Flatten(prefix, value)
	if err != nil {
		return 0, err
	}
	return c.PutAll(ctx, pairs, scope)
}

// PutAll writes pairs in one transaction, or in several when there are more than etcd takes in one. Of pairs with the same key the
// last counts.
func (c *Client) PutAll(ctx context.Context, pairs []Pair, scope Scope) (revision int64, err error) {
	last := map[string]int{}
	for i, p := range pairs {
		last[p.Key] = i
	}
	var ops []clientv3.Op
	for i, p := range pairs {
		if last[p.Key] != i {
			continue
		}
		key, err := c.physical(p.Key, scope)
		if err != nil {
			return 0, err
		}
		ops = append(ops, clientv3.OpPut(key, p.Value))
	}
	return c.apply(ctx, ops)
}

func (c *Client) apply(ctx context.Context, ops []clientv3.Op) (revision int64, err error) {
	for len(ops) > 0 {
		n := min(len(ops), maxOps)
		resp, err := c.txn(ctx, nil, ops[:n])
		if err != nil {
			return revision, err
		}
		revision, ops = resp.Header.Revision, ops[n:]
	}
	return revision, nil
}

// Delete removes a key; it need not exist.
func (c *Client) Delete(ctx context.Context, key string, scope Scope) (revision int64, err error) {
	physical, err := c.physical(key, scope)
	if err != nil {
		return 0, err
	}
	return c.apply(ctx, []clientv3.Op{clientv3.OpDelete(physical)})
}

// DeletePrefix removes all keys whose text starts with prefix, exactly those (the original removes neighbours of "a/" too).
func (c *Client) DeletePrefix(ctx context.Context, prefix string, scope Scope) (revision int64, err error) {
	physical, err := c.physical(prefix, scope)
	if err != nil {
		return 0, err
	}
	return c.apply(ctx, []clientv3.Op{clientv3.OpDelete(physical, clientv3.WithPrefix())})
}

// Replace writes value if the key has the value old, and tells whether it did.
func (c *Client) Replace(ctx context.Context, key, old, value string, scope Scope) (done bool, err error) {
	physical, err := c.physical(key, scope)
	if err != nil {
		return false, err
	}
	resp, err := c.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.Value(physical), "=", old)}, []clientv3.Op{clientv3.OpPut(physical, value)})
	if err != nil {
		return false, err
	}
	return resp.Succeeded, nil
}

// MoveSubtree moves source and everything below it to target, by whole components; what is at the target already stays unless
// overwritten. One transaction if it fits; else everything is copied before anything is removed. (spec/config-cli-ops §4.3)
// Errors: also InvalidArgument when one lies inside the other.
func (c *Client) MoveSubtree(ctx context.Context, source, target string, scope Scope) error {
	source, target = strings.Trim(source, "/"), strings.Trim(target, "/")
	if source == "" || target == "" || strings.HasPrefix(target+"/", source+"/") || strings.HasPrefix(source+"/", target+"/") {
		return backendai.Errorf(backendai.InvalidArgument, "can't move %q to %q: both need a name, and neither may lie inside the other", source, target)
	}
	base, err := c.base(scope)
	if err != nil {
		return err
	}
	from := base + source
	resp, err := c.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(from), clientv3.OpGet(from+"/", clientv3.WithPrefix())})
	if err != nil {
		return err
	}
	var ops, removals []clientv3.Op
	for _, r := range resp.Responses {
		for _, p := range pairsOf(r.GetResponseRange().Kvs, from) {
			ops = append(ops, clientv3.OpPut(base+target+p.Key, p.Value))
			removals = append(removals, clientv3.OpDelete(from+p.Key))
		}
	}
	_, err = c.apply(ctx, append(ops, removals...))
	return err
}
