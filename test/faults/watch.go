package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"backend.ai/manager/cluster/membership"
)

// watch notes every change of members and claims, and that epochs only rise.
func (w *world) watch(ctx context.Context) error {
	resp, err := w.etcdCli.Get(ctx, w.prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		w.changed(string(kv.Key), kv.Value)
	}
	ctx, w.watchEnd = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		from := resp.Header.Revision + 1
		for ctx.Err() == nil {
			for r := range w.etcdCli.Watch(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
				for _, e := range r.Events {
					from = e.Kv.ModRevision + 1
					if e.Type == clientv3.EventTypeDelete {
						w.changed(string(e.Kv.Key), nil)
					} else {
						w.changed(string(e.Kv.Key), e.Kv.Value)
					}
				}
			}
		}
	}()
	return nil
}

// changed notes a key's new value; nil: it is gone.
func (w *world) changed(key string, value []byte) {
	what, name := path.Split(strings.TrimPrefix(key, w.prefix))
	e := entry{What: "view"}
	switch {
	case value == nil:
		e.Text = fmt.Sprintf("%s%s is gone", what, name)
	case what == "shards/":
		var c membership.Claim
		if json.Unmarshal(value, &c) != nil {
			return
		}
		e.Text = fmt.Sprintf("shard %d is claimed by %s", c.Shard, c.Member)
		if c.Epoch != 0 {
			e.Text = fmt.Sprintf("shard %d belongs to %s, epoch %d", c.Shard, c.Member, c.Epoch)
			w.mu.Lock()
			before := w.epochs[c.Shard]
			w.epochs[c.Shard] = max(before, c.Epoch)
			w.mu.Unlock()
			if c.Epoch < before {
				w.violate("", "shard %d went from epoch %d back to %d (%s)", c.Shard, before, c.Epoch, c.Member)
			}
		}
	default:
		var m membership.Member
		if json.Unmarshal(value, &m) != nil {
			return
		}
		e.Text = fmt.Sprintf("node %s is a member, draining %v", m.ID, m.Draining)
	}
	w.add(e)
}
