package directory

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/redis"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Directory is a connection to etcd. Safe for concurrent use.
type Directory struct {
	client *shared.Client
	agent  string
	log    *slog.Logger
}

const retry = time.Second

// Open connects, trying until etcd answers or ctx ends. A refused user or password ends it at once.
func Open(ctx context.Context, cfg shared.Config, log *slog.Logger) (*Directory, error) {
	for {
		c, err := shared.Open(ctx, cfg)
		if err == nil {
			return &Directory{client: c, agent: cfg.Agent, log: log}, nil
		}
		if backendai.CodeOf(err) != backendai.ServiceUnavailable {
			return nil, err
		}
		log.Warn("etcd does not answer; trying again", "err", err)
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Close ends the connection.
func (d *Directory) Close() error { return d.client.Close() }

// Text reads one key in the agent's merged view; "" when it is not there.
func (d *Directory) Text(ctx context.Context, key string) (string, error) {
	v, _, err := d.client.Get(ctx, key, shared.Merged)
	return v, err
}

// Number reads an integer; fallback when it is not there, or none.
func (d *Directory) Number(ctx context.Context, key string, fallback int) int {
	text, err := d.Text(ctx, key)
	if n, convErr := strconv.Atoi(text); err == nil && convErr == nil {
		return n
	}
	return fallback
}

// Redis reads config/redis.
func (d *Directory) Redis(ctx context.Context) (redis.Config, error) {
	var c redis.Config
	for key, into := range map[string]*string{"addr": &c.Addr, "service_name": &c.ServiceName} {
		text, err := d.Text(ctx, "config/redis/"+key)
		if err != nil {
			return c, err
		}
		*into = text
	}
	sentinels, err := d.Text(ctx, "config/redis/sentinel")
	if err != nil {
		return c, err
	}
	for s := range strings.SplitSeq(sentinels, ",") {
		if s = strings.TrimSpace(s); s != "" {
			c.Sentinels = append(c.Sentinels, s)
		}
	}
	password, err := d.Text(ctx, "config/redis/password")
	if err != nil {
		return c, err
	}
	c.Password = config.NewSecret(password)
	if c.Addr == "" && len(c.Sentinels) == 0 {
		c.Addr = "127.0.0.1:6379"
	}
	return c, nil
}

// AwaitManager returns when a manager has registered.
func (d *Directory) AwaitManager(ctx context.Context) error {
	prefix := "/sorna/" + d.client.Namespace() + "/nodes/manager/"
	for {
		waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
		res, err := d.client.Etcd().Get(waiting, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
		if err == nil && len(res.Kvs) > 0 {
			cancel()
			return nil
		}
		if err == nil {
			d.log.Info("waiting for a manager to come up")
			for changes := range d.client.Etcd().Watch(waiting, prefix, clientv3.WithPrefix(), clientv3.WithRev(res.Header.Revision+1)) {
				if len(changes.Events) > 0 {
					break
				}
			}
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			select {
			case <-time.After(retry):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// Announce writes the agent's status, and its address when there is one. The status key ends in a slash.
func (d *Directory) Announce(ctx context.Context, status, ip string) error {
	base := "/sorna/" + d.client.Namespace() + "/nodes/agents/" + shared.Quote(d.agent)
	ops := []clientv3.Op{clientv3.OpPut(base+"/", status)}
	if ip != "" {
		ops = append(ops, clientv3.OpPut(base+"/ip", ip))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := d.client.Etcd().Txn(ctx).Then(ops...).Commit(); err != nil {
		return fmt.Errorf("announce the agent in etcd: %w", err)
	}
	return nil
}

// Address finds the address of this machine that others reach: one in the subnet, if it is more than "any"; else the host name's; else
// the loopback's. (spec/agent-protocol §14.2)
func Address(subnet, hostname string, local []net.Addr, lookup func(string) ([]net.IP, error)) (string, error) {
	if subnet != "" {
		_, network, err := net.ParseCIDR(subnet)
		if err != nil {
			return "", backendai.Errorf(backendai.InvalidConfig, "config/network/subnet/agent = %s: want a network such as 10.0.0.0/8", subnet)
		}
		if ones, _ := network.Mask.Size(); ones > 0 {
			for _, a := range local {
				if n, ok := a.(*net.IPNet); ok && network.Contains(n.IP) {
					return n.IP.String(), nil
				}
			}
			return "", backendai.Errorf(backendai.InvalidConfig, "no address of this machine is in config/network/subnet/agent = %s", subnet)
		}
	}
	list, err := lookup(hostname)
	if err == nil {
		for _, ip := range list {
			if v4 := ip.To4(); v4 != nil && !v4.IsUnspecified() {
				return v4.String(), nil
			}
		}
	}
	return "127.0.0.1", nil
}
