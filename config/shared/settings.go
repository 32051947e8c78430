package shared

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"backend.ai/manager/config"
)

// mirrored are the first components that Settings follows. nodes/ and sgroup/ are not settings of a manager, and every agent writes there.
var mirrored = []string{"config", "volumes", "manager"}

// within tells whether key is parent or below it, by whole components; everything is within "".
func within(key, parent string) bool {
	rest, ok := strings.CutPrefix(key, parent)
	return ok && (parent == "" || rest == "" || rest[0] == '/')
}

// Settings is a mirror of the shared settings that follows etcd. Start it once, Stop it once; the rest is safe at any time.
//
//	new ──Start ok──► following ◄──► etcd away (last values served, trying again) ──Stop──► ended
type Settings struct {
	client *Client
	log    *slog.Logger

	current atomic.Pointer[Shared]
	// raw is etcd's content, good what view accepted last; both belong to the goroutine (and to Start before it).
	raw, good map[string]string

	mu       sync.Mutex
	subs     map[*Subscription]struct{}
	advanced chan struct{} // closed and replaced with every new revision

	cancel context.CancelFunc
	done   chan struct{}
}

// NewSettings makes a mirror; log may be nil.
func NewSettings(client *Client, log *slog.Logger) *Settings {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Settings{client: client, log: log, subs: map[*Subscription]struct{}{}, advanced: make(chan struct{}), done: make(chan struct{})}
}

// Start lists and validates the settings and begins to follow them. Errors: InvalidConfig naming each key without whose repair no
// manager can work, ServiceUnavailable.
func (s *Settings) Start(ctx context.Context) error {
	keys, revision, err := s.list(ctx)
	if err != nil {
		return err
	}
	shared, fatal := view(keys, revision)
	if err := config.Invalid("etcd", fatal); err != nil {
		return err
	}
	s.raw, s.good = keys, keys
	s.warn(nil, shared.Warnings)
	s.current.Store(shared)
	ctx, s.cancel = context.WithCancel(context.Background())
	go s.follow(ctx, revision)
	return nil
}

// Stop ends the goroutine. Current keeps answering.
func (s *Settings) Stop() {
	if s.cancel != nil {
		s.cancel()
		<-s.done
	}
}

// Current is the newest good settings; never nil after Start.
func (s *Settings) Current() *Shared { return s.current.Load() }

// Wait returns once Current holds the revision, so that a caller who wrote sees its own write.
func (s *Settings) Wait(ctx context.Context, revision int64) error {
	ctx, cancel := s.client.deadline(ctx)
	defer cancel()
	for {
		s.mu.Lock()
		advanced := s.advanced
		s.mu.Unlock()
		if s.Current().Revision >= revision {
			return nil
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return unavailable(ctx.Err())
		}
	}
}

// Put writes a key of a mirrored part and returns when Current shows it.
func (s *Settings) Put(ctx context.Context, key, value string) error {
	revision, err := s.client.Put(ctx, key, value, Global)
	if err != nil {
		return err
	}
	return s.Wait(ctx, revision)
}

// Subscription signals changes below some keys.
type Subscription struct {
	// C gets a value when something changed since the last one was taken. Signals are merged, never lost: look at Current after each.
	C       <-chan struct{}
	c       chan struct{}
	parents []string
	s       *Settings
}

// Subscribe asks for changes of the given keys and of all below them; none = of everything. Cancel it when done.
func (s *Settings) Subscribe(parents ...string) *Subscription {
	if len(parents) == 0 {
		parents = []string{""}
	}
	c := make(chan struct{}, 1)
	sub := &Subscription{C: c, c: c, parents: parents, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return sub
}

// Cancel ends the signals; C is not closed.
func (sub *Subscription) Cancel() {
	sub.s.mu.Lock()
	defer sub.s.mu.Unlock()
	delete(sub.s.subs, sub)
}

// list reads all mirrored keys at one revision.
func (s *Settings) list(ctx context.Context) (keys map[string]string, revision int64, err error) {
	base, err := s.client.base(Global)
	if err != nil {
		return nil, 0, err
	}
	ops := make([]clientv3.Op, len(mirrored))
	for i, part := range mirrored {
		ops[i] = clientv3.OpGet(base+part+"/", clientv3.WithPrefix())
	}
	resp, err := s.client.txn(ctx, nil, ops)
	if err != nil {
		return nil, 0, err
	}
	keys = map[string]string{}
	for _, r := range resp.Responses {
		for _, p := range pairsOf(r.GetResponseRange().Kvs, base) {
			keys[p.Key] = p.Value
		}
	}
	return keys, resp.Header.Revision, nil
}

// follow watches from the revision after the last seen one, and lists again when that is not possible.
func (s *Settings) follow(ctx context.Context, revision int64) {
	defer close(s.done)
	pause := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 5 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
	for ctx.Err() == nil {
		seen, compacted := s.watch(ctx, revision)
		if seen > revision {
			revision = seen
			pause.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		if compacted {
			if keys, at, err := s.list(ctx); err == nil {
				s.log.Warn("the shared settings were read anew: etcd no longer had all changes", "revision", at)
				s.adopt(keys, at)
				revision = at
				continue
			}
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// watch applies changes until the watch breaks. The client resumes after lost connections by itself, without a gap.
func (s *Settings) watch(ctx context.Context, revision int64) (seen int64, compacted bool) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	base, _ := s.client.base(Global)
	for resp := range s.client.etcd.Watch(ctx, base, clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the watch of the shared settings broke", "error", err)
			}
			return revision, resp.CompactRevision != 0 || errors.Is(err, rpctypes.ErrCompacted)
		}
		keys := maps.Clone(s.raw)
		for _, e := range resp.Events {
			key := strings.TrimPrefix(string(e.Kv.Key), base)
			if !slices.ContainsFunc(mirrored, func(part string) bool { return strings.HasPrefix(key, part+"/") }) {
				continue
			}
			if e.Type == clientv3.EventTypeDelete {
				delete(keys, key)
			} else {
				keys[key] = string(e.Kv.Value)
			}
		}
		if len(resp.Events) > 0 {
			revision = max(revision, resp.Header.Revision)
			s.adopt(keys, revision)
		}
	}
	return revision, false
}

// adopt makes keys the current settings, except that a value that does not validate leaves the last good one in place.
func (s *Settings) adopt(keys map[string]string, revision int64) {
	changed := map[string]bool{}
	for key, value := range keys {
		if old, ok := s.raw[key]; !ok || old != value {
			changed[key] = true
		}
	}
	for key := range s.raw {
		if _, ok := keys[key]; !ok {
			changed[key] = true
		}
	}
	s.raw = keys
	old := s.Current()
	next, fatal := view(keys, revision)
	bad := append(slices.Clone(fatal), next.Warnings...)
	if len(bad) > 0 {
		mended := maps.Clone(keys)
		for _, p := range bad {
			if value, ok := s.good[p.Key]; ok {
				mended[p.Key] = value
			}
		}
		next, fatal = view(mended, revision)
		keys = mended
	}
	if len(fatal) > 0 {
		next.Redis = old.Redis // a half-written group of keys, such as sentinel before service_name
	}
	next.Warnings = bad
	s.good = keys
	s.warn(old.Warnings, bad)
	s.current.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.advanced)
	s.advanced = make(chan struct{})
	for sub := range s.subs {
		for key := range changed {
			if slices.ContainsFunc(sub.parents, func(parent string) bool { return within(key, parent) }) {
				select {
				case sub.c <- struct{}{}:
				default:
				}
				break
			}
		}
	}
}

// warn tells new problems once.
func (s *Settings) warn(known, now []config.Problem) {
	for _, p := range now {
		if !slices.Contains(known, p) {
			s.log.Warn("a shared setting in etcd can't be used: " + p.String())
		}
	}
}
