package membership

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

// perTxn is how many shards go into one transaction. etcd's limit is 128 operations, counted along the deepest path.
const perTxn = 120

func (m *Membership) shardKey(shard int32) string {
	return m.cfg.Prefix + shardsPart + strconv.FormatInt(int64(shard), 10)
}

// Claim claims those of the shards that nobody has claimed, and returns the ones that are this member's afterwards, also those that were
// before. The shards of one call are claimed in as few transactions as etcd allows; each shard stands for itself.
// Errors: ServiceUnavailable; shards claimed before the error are returned too. A claim whose answer was lost shows in the next view;
// claiming it again returns it.
func (m *Membership) Claim(ctx context.Context, shards []int32) (got []int32, err error) {
	err = m.each(ctx, shards, func(shard int32, lease clientv3.LeaseID) (clientv3.Op, error) {
		key := m.shardKey(shard)
		value, err := json.Marshal(Claim{Shard: shard, Member: m.ID()})
		free := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		claim := clientv3.OpPut(key, string(value), clientv3.WithLease(lease))
		return clientv3.OpTxn([]clientv3.Cmp{free}, []clientv3.Op{claim}, []clientv3.Op{clientv3.OpGet(key)}), err
	}, func(shard int32, lease clientv3.LeaseID, resp *clientv3.TxnResponse) {
		if resp.Succeeded || heldBy(resp, lease) {
			got = append(got, shard)
		}
	})
	return got, err
}

func heldBy(resp *clientv3.TxnResponse, lease clientv3.LeaseID) bool {
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			return clientv3.LeaseID(kv.Lease) == lease
		}
	}
	return false
}

// NoteEpoch writes into claims which epoch their shards were raised to. A shard that is not this member's any more is left alone.
// Errors: ServiceUnavailable.
func (m *Membership) NoteEpoch(ctx context.Context, epochs map[int32]int64) error {
	shards := make([]int32, 0, len(epochs))
	for s := range epochs {
		shards = append(shards, s)
	}
	slices.Sort(shards)
	return m.each(ctx, shards, func(shard int32, lease clientv3.LeaseID) (clientv3.Op, error) {
		key := m.shardKey(shard)
		value, err := json.Marshal(Claim{Shard: shard, Member: m.ID(), Epoch: epochs[shard]})
		note := clientv3.OpPut(key, string(value), clientv3.WithLease(lease))
		return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", lease)}, []clientv3.Op{note}, nil), err
	}, nil)
}

// Release gives claims up, so that others can claim the shards at once. A shard that is not this member's is left alone.
// Errors: ServiceUnavailable.
func (m *Membership) Release(ctx context.Context, shards []int32) error {
	return m.each(ctx, shards, func(shard int32, lease clientv3.LeaseID) (clientv3.Op, error) {
		key := m.shardKey(shard)
		return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", lease)}, []clientv3.Op{clientv3.OpDelete(key)}, nil), nil
	}, nil)
}

// each does something with every shard, many per transaction, as long as this member is registered under its present lease.
func (m *Membership) each(ctx context.Context, shards []int32, op func(int32, clientv3.LeaseID) (clientv3.Op, error), done func(int32, clientv3.LeaseID, *clientv3.TxnResponse)) error {
	m.mu.Lock()
	lease := m.lease
	m.mu.Unlock()
	if lease == 0 {
		return errNoMember()
	}
	// etcd refuses two writes of one key in a transaction.
	shards = slices.Clone(shards)
	slices.Sort(shards)
	for part := range slices.Chunk(slices.Compact(shards), perTxn) {
		ops := make([]clientv3.Op, len(part))
		for i, shard := range part {
			if shard < 0 || int(shard) >= m.cfg.Self.Shards {
				return backendai.Errorf(backendai.InvalidArgument, "there is no shard %d among %d", shard, m.cfg.Self.Shards)
			}
			var err error
			if ops[i], err = op(shard, lease); err != nil {
				return backendai.Internal(err)
			}
		}
		resp, err := m.commit(ctx, lease, ops)
		if err != nil {
			return err
		}
		if done != nil {
			for i, r := range resp.Responses {
				done(part[i], lease, (*clientv3.TxnResponse)(r.GetResponseTxn()))
			}
		}
	}
	return nil
}

func (m *Membership) commit(ctx context.Context, lease clientv3.LeaseID, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	resp, err := m.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(m.key(m.ID())), "=", lease)).Then(ops...).Commit()
	if leaseGone(err) || err == nil && !resp.Succeeded {
		signal(m.vanished)
		return nil, errNoMember()
	}
	return resp, unavailable(err)
}
