package membership

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The two parts of the prefix.
const (
	nodesPart  = "nodes/"
	shardsPart = "shards/"
)

// held is a value with the lease its key hangs on and the revision that created it.
type held[T any] struct {
	value   T
	lease   clientv3.LeaseID
	created int64
}

// snapshot is the prefix at one revision.
type snapshot struct {
	members  map[string]held[Member]
	claims   map[int32]held[Claim]
	revision int64
}

func newSnapshot() *snapshot {
	return &snapshot{members: map[string]held[Member]{}, claims: map[int32]held[Claim]{}}
}

func (s *snapshot) clone() *snapshot {
	return &snapshot{members: maps.Clone(s.members), claims: maps.Clone(s.claims), revision: s.revision}
}

var errNotOurs = errors.New("membership: neither a member nor a claim")

// put takes a key in; name is relative to the prefix. Only what this package writes is taken; a key that says otherwise than its value is not.
func (s *snapshot) put(name string, kv *mvccpb.KeyValue) error {
	lease := clientv3.LeaseID(kv.Lease)
	if id, ok := strings.CutPrefix(name, nodesPart); ok {
		var v Member
		if err := json.Unmarshal(kv.Value, &v); err != nil {
			return err
		}
		if v.ID != id || id == "" {
			return errNotOurs
		}
		s.members[id] = held[Member]{v, lease, kv.CreateRevision}
		return nil
	}
	shard, ok := shardOf(name)
	if !ok {
		return errNotOurs
	}
	var v Claim
	if err := json.Unmarshal(kv.Value, &v); err != nil {
		return err
	}
	if v.Shard != shard || v.Member == "" {
		return errNotOurs
	}
	s.claims[shard] = held[Claim]{v, lease, kv.CreateRevision}
	return nil
}

func (s *snapshot) remove(name string) {
	if id, ok := strings.CutPrefix(name, nodesPart); ok {
		delete(s.members, id)
	} else if shard, ok := shardOf(name); ok {
		delete(s.claims, shard)
	}
}

func shardOf(name string) (int32, bool) {
	text, ok := strings.CutPrefix(name, shardsPart)
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), ok && err == nil && strconv.FormatInt(n, 10) == text
}

// view renders s for a member with the given lease. What is the viewer's by name but hangs on another lease is left out: it is a remnant
// of a lease that was lost.
func (s *snapshot) view(self string, lease clientv3.LeaseID) View {
	v := View{Self: self, Members: make([]Member, 0, len(s.members)), Claims: make(map[int32]Claim, len(s.claims)), Revision: s.revision}
	for id, h := range s.members {
		if id != self || h.lease == lease {
			v.Members = append(v.Members, h.value)
		}
	}
	slices.SortFunc(v.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for shard, h := range s.claims {
		if h.value.Member != self || h.lease == lease {
			v.Claims[shard] = h.value
		}
	}
	return v
}

// list reads the whole prefix at one revision.
func (m *Membership) list(ctx context.Context) (*snapshot, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	resp, err := m.cfg.Client.Get(ctx, m.cfg.Prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, unavailable(err)
	}
	s := newSnapshot()
	s.revision = resp.Header.Revision
	for _, kv := range resp.Kvs {
		m.take(s, kv)
	}
	m.mu.Lock()
	known := m.seen.members
	m.mu.Unlock()
	s.date(known, m.ID(), time.Now(), false)
	return s, nil
}

// date says since when members are there: as known, if they are; those that appear under the eyes of the viewer, since now; of others only
// their own clocks can tell, and what they say of the future is not believed.
func (s *snapshot) date(known map[string]held[Member], self string, now time.Time, watched bool) {
	for id, h := range s.members {
		old, ok := known[id]
		switch {
		case ok && old.lease == h.lease && !old.value.Since.IsZero():
			h.value.Since = old.value.Since
		case id != self && (watched || h.value.StartedAt.After(now)):
			h.value.Since = now
		default:
			h.value.Since = h.value.StartedAt
		}
		s.members[id] = h
	}
}

func (m *Membership) take(s *snapshot, kv *mvccpb.KeyValue) {
	if err := s.put(strings.TrimPrefix(string(kv.Key), m.cfg.Prefix), kv); err != nil {
		m.log.Warn("a key of the cluster in etcd makes no sense and is ignored", "key", string(kv.Key), "error", err)
	}
}

// adopt makes s what is seen.
func (m *Membership) adopt(s *snapshot, watching bool) {
	m.mu.Lock()
	m.seen, m.watching = s, watching
	m.mu.Unlock()
	if m.gone() {
		signal(m.vanished)
	}
	signal(m.changed)
}

// follow keeps what is seen up to date until the end of ctx. After any break it lists again, so nothing can be missed.
func (m *Membership) follow(ctx context.Context, revision int64) {
	for pause := pauses(); ; {
		if m.watch(ctx, revision) {
			pause.Reset()
		}
		for {
			m.mu.Lock()
			m.watching = false
			m.mu.Unlock()
			if sleep(ctx, pause.NextBackOff()) != nil {
				return
			}
			if s, err := m.list(ctx); err == nil {
				revision = s.revision
				m.adopt(s, true)
				break
			}
		}
	}
}

// watch takes changes in from the revision after the given one, until the watch breaks, and tells whether there were any. The client
// resumes after a lost connection by itself.
func (m *Membership) watch(ctx context.Context, revision int64) (progress bool) {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range m.cfg.Client.Watch(watching, m.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			if ctx.Err() == nil {
				m.log.Warn("the watch of the cluster's members broke; they are read anew", "error", err)
			}
			return progress
		}
		if len(resp.Events) == 0 {
			continue
		}
		progress = true
		s, known := m.seen.clone(), m.seen.members // only this goroutine replaces it
		for _, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				s.remove(strings.TrimPrefix(string(e.Kv.Key), m.cfg.Prefix))
			} else {
				m.take(s, e.Kv)
			}
		}
		// Not the header's: that is etcd's newest, which may be ahead of the events of this answer.
		s.revision = resp.Events[len(resp.Events)-1].Kv.ModRevision
		s.date(known, m.ID(), time.Now(), true)
		m.adopt(s, true)
	}
	return progress
}
