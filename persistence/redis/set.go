package redis

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
)

// The logical databases (spec/config-cli-ops §3.6).
const (
	dbStat = iota
	dbRate
	dbLive
	dbImage
	dbStream
)

// Config says where Redis is.
type Config struct {
	// Addr is "host:port" of a single server.
	Addr string
	// Sentinels, when there are any, tell where the server called ServiceName is; Addr does not count then.
	Sentinels   []string
	ServiceName string
	// Password is for the data servers; sentinels are asked without one.
	Password config.Secret
	// Timeout bounds every call; default 3 s.
	Timeout time.Duration
	// Patience is how long Open keeps trying; 0 = as long as its context.
	Patience time.Duration
}

// ConfigOf takes config/redis of the shared settings.
func ConfigOf(r shared.Redis) Config {
	c := Config{Addr: r.Addr.String(), ServiceName: r.ServiceName, Password: r.Password}
	for _, s := range r.Sentinels {
		c.Sentinels = append(c.Sentinels, s.String())
	}
	return c
}

func (c Config) where() string {
	if len(c.Sentinels) > 0 {
		return c.ServiceName + " at the sentinels " + strings.Join(c.Sentinels, ", ")
	}
	return c.Addr
}

// option is a client's of one database.
func (c Config) option(db int) rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress: []string{c.Addr}, ForceSingleClient: true, SelectDB: db, Password: c.Password.Reveal(), ClientName: "backend.ai-manager",
		DisableCache: true, ConnWriteTimeout: 10 * time.Second, Dialer: net.Dialer{Timeout: time.Second, KeepAlive: 5 * time.Second},
		// Half a MiB each way for every connection of five databases is more than this traffic needs.
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10, RingScaleEachConn: 8,
		RetryDelay: func(int, rueidis.Completed, error) time.Duration { return retryEvery },
	}
	if len(c.Sentinels) > 0 {
		o.InitAddress, o.ForceSingleClient = c.Sentinels, false
		o.Sentinel = rueidis.SentinelOption{MasterSet: c.ServiceName, TopologyRefreshInterval: 5 * time.Second, Dialer: net.Dialer{Timeout: time.Second}}
	}
	return o
}

// retryEvery is the pause before a call is tried again.
const retryEvery = 100 * time.Millisecond

// Set is the clients of the five databases. Safe for concurrent use. Errors of its methods: ServiceUnavailable when Redis does not answer
// in time, InternalServerError when it refuses a command.
type Set struct {
	cfg Config
	db  [5]rueidis.Client
}

// Open connects, trying until Redis answers or the context (or Patience) ends. Errors: ServiceUnavailable, naming config/redis;
// InvalidConfig when the password is refused.
func Open(ctx context.Context, cfg Config) (*Set, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second)
	if cfg.Addr == "" && len(cfg.Sentinels) == 0 {
		return nil, backendai.Errorf(backendai.InvalidConfig, "config/redis/addr is required")
	}
	if cfg.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Patience)
		defer cancel()
	}
	s := &Set{cfg: cfg}
	for db := range s.db {
		for {
			client, err := rueidis.NewClient(cfg.option(db))
			if err == nil {
				s.db[db] = client
				break
			}
			if re, ok := rueidis.IsRedisErr(err); ok && (strings.HasPrefix(re.Error(), "WRONGPASS") || strings.HasPrefix(re.Error(), "NOAUTH") || strings.HasPrefix(re.Error(), "ERR AUTH")) {
				s.Close()
				return nil, backendai.Errorf(backendai.InvalidConfig, "config/redis/password is refused by Redis at %s", cfg.where())
			}
			if !pause(ctx, retryEvery) {
				s.Close()
				return nil, backendai.Errorf(backendai.ServiceUnavailable, "config/redis: Redis at %s does not answer", cfg.where()).WithCause(err)
			}
		}
	}
	return s, nil
}

// Close ends all connections; calls in flight fail.
func (s *Set) Close() {
	for _, c := range s.db {
		if c != nil {
			c.Close()
		}
	}
}

// Ping asks whether Redis answers.
func (s *Set) Ping(ctx context.Context) error {
	return s.do(ctx, dbStat, func(b rueidis.Builder) rueidis.Completed { return b.Ping().Build() }).Error()
}

// pause waits; false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// transient tells whether the same command may work in a moment: the connection broke, or the server is loading, failing over, or
// a replica by now (spec/agent-protocol §7.4).
func transient(err error) bool {
	if err == nil || rueidis.IsRedisNil(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, rueidis.ErrClosing) {
		return false
	}
	if re, ok := rueidis.IsRedisErr(err); ok {
		for _, prefix := range []string{"LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN"} {
			if strings.HasPrefix(re.Error(), prefix) {
				return true
			}
		}
		return false
	}
	return true
}

// coded gives an error its code; Nil passes, as it means "not there".
func coded(err error) error {
	if err == nil || rueidis.IsRedisNil(err) || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := rueidis.IsRedisErr(err); ok && !transient(err) {
		return backendai.Internal(err)
	}
	return backendai.Errorf(backendai.ServiceUnavailable, "Redis does not answer").WithCause(err)
}

// result is an answer whose error has a code.
type result struct {
	rueidis.RedisResult
	err error
}

func (r result) Error() error { return r.err }

// do runs one command that may safely run twice, trying again while that can help and the deadline allows. The builder is called for
// each attempt.
func (s *Set) do(ctx context.Context, db int, build func(rueidis.Builder) rueidis.Completed) result {
	rs := s.multi(ctx, db, func(b rueidis.Builder) rueidis.Commands { return rueidis.Commands{build(b)} })
	return rs[0]
}

// multi is do for commands that go out together.
func (s *Set) multi(ctx context.Context, db int, build func(rueidis.Builder) rueidis.Commands) []result {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	for {
		cmds := build(s.db[db].B())
		answers := s.db[db].DoMulti(ctx, cmds...)
		again := false
		for _, a := range answers {
			again = again || transient(a.Error())
		}
		if again && pause(ctx, retryEvery) {
			continue
		}
		out := make([]result, len(answers))
		for i, a := range answers {
			out[i] = result{a, coded(a.Error())}
		}
		return out
	}
}

// firstError of several answers; an absent key is none.
func firstError(rs []result) error {
	for _, r := range rs {
		if r.err != nil && !rueidis.IsRedisNil(r.err) {
			return r.err
		}
	}
	return nil
}
