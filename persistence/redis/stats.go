package redis

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis/event"
)

// KernelStats reads the live statistics of many kernels at once: metric → {current, capacity, pct, unit_hint, stats.…}. An Object encodes
// as JSON in the agent's order, which is what REST and GraphQL show. Kernels without statistics, or with some that nobody can read, are
// left out. (spec/agent-protocol §12)
func (s *Set) KernelStats(ctx context.Context, ids []backendai.KernelID) (map[backendai.KernelID]event.Object, error) {
	return statsOf(ctx, s, ids, backendai.KernelID.String)
}

// AgentStats reads the statistics of agents: {"node": {metric: …}, "devices": {metric: {device: …}}}. They vanish 120 s after an agent's
// last word.
func (s *Set) AgentStats(ctx context.Context, ids []backendai.AgentID) (map[backendai.AgentID]event.Object, error) {
	return statsOf(ctx, s, ids, func(id backendai.AgentID) string { return string(id) })
}

func statsOf[K comparable](ctx context.Context, s *Set, ids []K, key func(K) string) (map[K]event.Object, error) {
	out := make(map[K]event.Object, len(ids))
	err := s.values(ctx, dbStat, len(ids), func(i int) string { return key(ids[i]) }, func(i int, value string) {
		if o, err := event.DecodeObject([]byte(value)); err == nil {
			out[ids[i]] = o
		}
	})
	return out, err
}

// values reads n keys in few commands and hands over those that are there.
func (s *Set) values(ctx context.Context, db, n int, key func(int) string, found func(int, string)) error {
	for from := 0; from < n; from += chunk {
		keys := make([]string, min(chunk, n-from))
		for i := range keys {
			keys[i] = key(from + i)
		}
		r := s.do(ctx, db, func(b rueidis.Builder) rueidis.Completed { return b.Mget().Key(keys...).Build() })
		if r.Error() != nil {
			return r.Error()
		}
		answers, err := r.ToArray()
		if err != nil {
			return backendai.Internal(err)
		}
		for i, a := range answers {
			if value, err := a.ToString(); err == nil {
				found(from+i, value)
			}
		}
	}
	return nil
}

// DropKernelStats removes statistics; only the maintenance command that clears the history wants that, since ended kernels' are still read.
func (s *Set) DropKernelStats(ctx context.Context, ids []backendai.KernelID) error {
	for part := range slices.Chunk(ids, chunk) {
		err := s.do(ctx, dbStat, func(b rueidis.Builder) rueidis.Completed {
			keys := make([]string, len(part))
			for i, id := range part {
				keys[i] = id.String()
			}
			return b.Del().Key(keys...).Build()
		}).Error()
		if err != nil {
			return err
		}
	}
	return nil
}

func keyConcurrency(ak backendai.AccessKey) string {
	return "keypair.concurrency_used." + string(ak)
}

// SetConcurrency writes how many sessions keypairs have in use. The number is counted from rows and written as a whole, never counted up
// and down, so it can't drift; it is for display and for original managers beside us.
func (s *Set) SetConcurrency(ctx context.Context, used map[backendai.AccessKey]int) error {
	if len(used) == 0 {
		return nil
	}
	return s.do(ctx, dbStat, func(b rueidis.Builder) rueidis.Completed {
		set := b.Mset().KeyValue()
		for ak, n := range used {
			set = set.KeyValue(keyConcurrency(ak), strconv.Itoa(n))
		}
		return set.Build()
	}).Error()
}

// Concurrency reads it; a keypair without a counter has 0.
func (s *Set) Concurrency(ctx context.Context, aks []backendai.AccessKey) (map[backendai.AccessKey]int, error) {
	return s.counts(ctx, aks, keyConcurrency)
}

func (s *Set) counts(ctx context.Context, aks []backendai.AccessKey, key func(backendai.AccessKey) string) (map[backendai.AccessKey]int, error) {
	out := make(map[backendai.AccessKey]int, len(aks))
	for _, ak := range aks {
		out[ak] = 0
	}
	err := s.values(ctx, dbStat, len(aks), func(i int) string { return key(aks[i]) }, func(i int, value string) {
		out[aks[i]], _ = strconv.Atoi(value)
	})
	return out, err
}

// queryCountTTL is a month: num_queries means "in the last month of activity".
const queryCountTTL = 2592000 * time.Second

func keyQueries(ak backendai.AccessKey) string { return "kp:" + string(ak) + ":num_queries" }

// CountQueries adds to keypairs' numbers of authenticated requests, many at once: callers gather for a moment, since a round trip per
// request would be the dearest part of many requests.
func (s *Set) CountQueries(ctx context.Context, added map[backendai.AccessKey]int) error {
	if len(added) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	client := s.db[dbStat]
	var cmds rueidis.Commands
	for ak, n := range added {
		cmds = append(cmds, client.B().Incrby().Key(keyQueries(ak)).Increment(int64(n)).Build(),
			client.B().Expire().Key(keyQueries(ak)).Seconds(int64(queryCountTTL.Seconds())).Build())
	}
	for _, a := range client.DoMulti(ctx, cmds...) { // not tried again: better a lost count than a double one
		if err := a.Error(); err != nil {
			return coded(err)
		}
	}
	return nil
}

// QueryCounts reads them.
func (s *Set) QueryCounts(ctx context.Context, aks []backendai.AccessKey) (map[backendai.AccessKey]int, error) {
	return s.counts(ctx, aks, keyQueries)
}
