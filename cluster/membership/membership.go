package membership

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
)

const (
	// DefaultTTL is how long a silent member stays one.
	DefaultTTL = 3 * time.Second
	// MaxTTL bounds how long shards of a dead node may lie idle.
	MaxTTL = 10 * time.Second
	// callTimeout bounds every request to etcd.
	callTimeout = 5 * time.Second
)

// Config says who joins which cluster. Client, Prefix, Self.Name, Self.Address and Self.Shards are required.
type Config struct {
	Client *clientv3.Client
	// Prefix is where the cluster's keys are; it ends in "/".
	Prefix string
	// Self describes this process. An empty ID is drawn; StartedAt and Lease are filled in.
	Self Member
	// Bound: this process listens at Self.Address already. So a member of the same name, machine and address is one whose process has ended.
	Bound bool
	// TTL of the lease in whole seconds; default DefaultTTL, at most MaxTTL. etcd does not go below 2 s.
	TTL time.Duration
	Log *slog.Logger
	// OnView gets the newest view after a change, from one goroutine, and none that is older than one it has got. A slow one misses views in
	// between, never the last.
	OnView func(View)
	// OnExpired is called once for every lease that is lost. Until it returns, the process is no member again; views that begin after it
	// has returned show no claim of the lost lease. It may run beside an OnView.
	OnExpired func()
}

// Membership is one process's place in the cluster. Safe for concurrent use.
//
//	New ── Start ──▶ running ── Stop ──▶ stopped
type Membership struct {
	cfg Config
	log *slog.Logger

	mu         sync.Mutex
	me         Member
	lease      clientv3.LeaseID // 0: none at the moment
	registered int64            // revision that put this member under its lease
	seen       *snapshot
	watching   bool

	changed  chan struct{} // room for one: there is something newer to tell
	vanished chan struct{} // room for one: etcd says that our member is gone
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// New makes a membership; nothing happens before Start.
func New(cfg Config) *Membership {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Self.ID == "" {
		cfg.Self.ID = cfg.Self.Name + "-" + incarnation()
	}
	return &Membership{
		cfg: cfg, me: cfg.Self, log: cfg.Log.With("member", cfg.Self.ID), seen: newSnapshot(),
		changed: make(chan struct{}, 1), vanished: make(chan struct{}, 1),
	}
}

func incarnation() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ID is this member's.
func (m *Membership) ID() string { return m.cfg.Self.ID }

// Start joins the cluster and returns when this process is a member and has seen the others.
// A member of the same name that a killed process has left behind is waited for.
// Errors: InvalidConfig when a live member has the same name, another number of shards, namespace or generation, or when the
// configuration is no good; ServiceUnavailable when etcd does not answer before the end of ctx.
func (m *Membership) Start(ctx context.Context) error {
	if err := m.check(); err != nil {
		return err
	}
	alive, err := m.join(ctx)
	if err != nil {
		return err
	}
	s, err := m.list(ctx)
	if err != nil {
		alive.cancel()
		_ = m.leave(context.WithoutCancel(ctx))
		return err
	}
	m.adopt(s, true)
	var run context.Context
	run, m.cancel = context.WithCancel(context.Background())
	for _, loop := range []func(){func() { m.hold(run, alive) }, func() { m.follow(run, s.revision) }, func() { m.tell(run) }} {
		m.running.Go(loop)
	}
	return nil
}

func (m *Membership) check() error {
	self := m.cfg.Self
	switch {
	case m.cfg.Client == nil:
		return backendai.Errorf(backendai.InvalidConfig, "a membership needs a connection to etcd")
	case !strings.HasSuffix(m.cfg.Prefix, "/"):
		return backendai.Errorf(backendai.InvalidConfig, "the prefix %q of the cluster's keys must end in /", m.cfg.Prefix)
	case self.Name == "" || self.Address == "" || self.Shards <= 0:
		return backendai.Errorf(backendai.InvalidConfig, "a member needs a name, an address and a number of shards")
	case m.cfg.TTL > MaxTTL:
		return backendai.Errorf(backendai.InvalidConfig, "a lease of %s is too long: shards of a dead node would lie idle; at most %s", m.cfg.TTL, MaxTTL)
	}
	return nil
}

// Stop leaves the cluster: the lease is revoked, so the member and all its claims are gone at once. When etcd does not answer before the
// end of ctx (at most 5 s), they go when the lease expires, and that is the error. Callbacks have ended when it returns, so none may call it.
func (m *Membership) Stop(ctx context.Context) error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	m.running.Wait()
	return m.leave(ctx)
}

// Healthy tells whether this process is a member and sees what happens in the cluster.
func (m *Membership) Healthy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lease != 0 && m.watching
}

// View is the newest view.
func (m *Membership) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.view(m.me.ID, m.lease)
}

// tell hands out views until the end of ctx.
func (m *Membership) tell(ctx context.Context) {
	for {
		select {
		case <-m.changed:
			if ctx.Err() == nil && m.cfg.OnView != nil {
				m.cfg.OnView(m.View())
			}
		case <-ctx.Done():
			return
		}
	}
}

// signal puts a value into a channel that has room for one, unless there is one already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *Membership) self() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.me
}

func (m *Membership) key(id string) string { return m.cfg.Prefix + nodesPart + id }

// call bounds a request to etcd.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// unavailable gives etcd's errors a code; the caller's own cancellation stays what it is.
func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return backendai.Errorf(backendai.ServiceUnavailable, "etcd did not carry out the request").WithCause(err)
}

func leaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// pauses are the pauses between attempts while etcd is away.
func pauses() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
}
