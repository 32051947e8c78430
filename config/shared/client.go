package shared

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

// Scope is where a key counts.
type Scope int

const (
	// Global is the default.
	Global Scope = iota
	// ScalingGroup is below sgroup/{Config.ScalingGroup}.
	ScalingGroup
	// Node is below nodes/agents/{Config.Agent}.
	Node
	// Merged reads Node, ScalingGroup and Global, as far as configured; it can't be written.
	Merged
)

// Scopes are the names that the command line accepts (spec/config-cli-ops §4.3).
var Scopes = map[string]Scope{"GLOBAL": Global, "SGROUP": ScalingGroup, "NODE": Node, "MERGED": Merged}

// Config says which tree.
type Config struct {
	// Endpoints are "host:port".
	Endpoints []string
	Namespace string
	User      string
	Password  config.Secret
	// ScalingGroup and Agent name the narrower scopes, for those who use them.
	ScalingGroup, Agent string
	// Timeout bounds every call whose context has no earlier deadline; default 5 s.
	Timeout time.Duration
}

// ConfigOf takes the table [etcd] of manager.toml.
func ConfigOf(e config.Etcd) Config {
	c := Config{Namespace: e.Namespace, User: e.User, Password: e.Password}
	for _, a := range e.Addrs {
		c.Endpoints = append(c.Endpoints, a.String())
	}
	return c
}

// Client reads and writes the tree. Keys are logical and quoted by the caller. Safe for concurrent use. Every call has a deadline;
// its errors are ServiceUnavailable (etcd does not answer), InvalidArgument, or InvalidConfig (etcd refuses the user).
type Client struct {
	etcd *clientv3.Client
	cfg  Config
	own  bool
}

// Open connects and makes one request, so a wrong address or password shows at once.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	where := strings.Join(cfg.Endpoints, ", ")
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, Username: cfg.User, Password: cfg.Password.Reveal(), DialTimeout: cfg.Timeout,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, Logger: zap.NewNop(),
		// gRPC's own limit is two minutes, far too long to notice that etcd is back.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}, MinConnectTimeout: 2 * time.Second,
		})},
	})
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "etcd.addr = %s: can't connect with user %q", where, cfg.User).WithCause(err)
	}
	c := New(cli, cfg)
	c.own = true
	if _, _, err := c.Get(ctx, "manager/status", Global); err != nil {
		_ = cli.Close()
		return nil, backendai.Errorf(backendai.CodeOf(err), "etcd.addr = %s does not answer: is it reached there, and do more than half of its members run?", where).WithCause(err)
	}
	return c, nil
}

// New uses an existing connection, which Close leaves open.
func New(cli *clientv3.Client, cfg Config) *Client {
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	return &Client{etcd: cli, cfg: cfg}
}

// Etcd is the connection, for other users of the same etcd (cluster membership).
func (c *Client) Etcd() *clientv3.Client { return c.etcd }

// Namespace is the cluster's name.
func (c *Client) Namespace() string { return c.cfg.Namespace }

// Close ends the connection that Open made.
func (c *Client) Close() error {
	if !c.own {
		return nil
	}
	return c.etcd.Close()
}

// base is what stands before every key of a scope: "/sorna/{ns}/{scope prefix}/" (spec/config-cli-ops §2.2).
func (c *Client) base(scope Scope) (string, error) {
	root := "/sorna/" + c.cfg.Namespace + "/"
	switch {
	case scope == Global:
		return root, nil
	case scope == ScalingGroup && c.cfg.ScalingGroup != "":
		return root + "sgroup/" + strings.TrimRight(c.cfg.ScalingGroup, "/") + "/", nil
	case scope == Node && c.cfg.Agent != "":
		return root + "nodes/agents/" + strings.TrimRight(c.cfg.Agent, "/") + "/", nil
	case scope == Merged:
		return "", backendai.Errorf(backendai.InvalidArgument, "the scope MERGED can only be read")
	}
	return "", backendai.Errorf(backendai.InvalidArgument, "this scope needs the name of a scaling group or an agent")
}

func (c *Client) physical(key string, scope Scope) (string, error) {
	base, err := c.base(scope)
	return base + strings.TrimPrefix(key, "/"), err
}

// readOrder lists the scopes that a read of scope looks at; a scope without a name is left out, unless asked for.
func (c *Client) readOrder(scope Scope) (bases []string, err error) {
	if scope == Merged || scope == Node {
		if b, err := c.base(Node); err == nil {
			bases = append(bases, b)
		} else if scope == Node {
			return nil, err
		}
	}
	if scope != Global {
		if b, err := c.base(ScalingGroup); err == nil {
			bases = append(bases, b)
		} else if scope == ScalingGroup {
			return nil, err
		}
	}
	b, err := c.base(Global)
	return append(bases, b), err
}

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// Get reads a key: the first scope in the order that has it; an empty text counts as there.
func (c *Client) Get(ctx context.Context, key string, scope Scope) (value string, ok bool, err error) {
	bases, err := c.readOrder(scope)
	if err != nil {
		return "", false, err
	}
	ops := make([]clientv3.Op, len(bases))
	for i, base := range bases {
		ops[i] = clientv3.OpGet(base + strings.TrimPrefix(key, "/"))
	}
	resp, err := c.txn(ctx, nil, ops)
	if err != nil {
		return "", false, err
	}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			return string(kv.Value), true, nil
		}
	}
	return "", false, nil
}

// GetPrefix reads all keys whose text starts with prefix, as a tree (spec/config-cli-ops §2.5). Of several scopes, a first-level
// member of a narrower one hides the whole member of a wider one.
func (c *Client) GetPrefix(ctx context.Context, prefix string, scope Scope) (*Tree, error) {
	bases, err := c.readOrder(scope)
	if err != nil {
		return nil, err
	}
	ops := make([]clientv3.Op, len(bases))
	for i, base := range bases {
		ops[i] = clientv3.OpGet(base+strings.TrimPrefix(prefix, "/"), clientv3.WithPrefix())
	}
	resp, err := c.txn(ctx, nil, ops)
	if err != nil {
		return nil, err
	}
	trees := make([]*Tree, len(bases))
	for i, r := range resp.Responses {
		trees[i] = NewTree(bases[i]+strings.TrimPrefix(prefix, "/"), pairsOf(r.GetResponseRange().Kvs, ""))
	}
	if len(trees) == 1 {
		return trees[0], nil
	}
	return overlay(trees), nil
}

// txn is one transaction with a deadline; conditions may be empty.
func (c *Client) txn(ctx context.Context, conditions []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	resp, err := c.etcd.Txn(ctx).If(conditions...).Then(ops...).Commit()
	return resp, unavailable(err)
}

// unavailable gives etcd's errors their codes. The caller's own cancellation stays what it is.
func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return backendai.Errorf(backendai.ServiceUnavailable, "etcd did not carry out the request").WithCause(err)
}
