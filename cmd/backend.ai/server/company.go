package server

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jackc/pgx/v5/pgxpool"
	clientv3 "go.etcd.io/etcd/client/v3"

	"backend.ai/manager/actors/node"
	"backend.ai/manager/api"
	restmanager "backend.ai/manager/api/rest/manager"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cluster/transport"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/postgres/sessions"
)

// guessCost is how many rounds it takes to make the cluster's secret of the database's password.
const guessCost = 200_000

// joinDelay is how long a node must have been there before shards move to it: one that starts and fails again moves nothing.
const joinDelay = 2 * time.Second

// ClusterPrefix is where the nodes of a cluster find each other in etcd: outside of the original's tree, and ended, so that a namespace
// is never the beginning of another.
func ClusterPrefix(namespace string) string {
	return "/backend.ai/actors/" + url.PathEscape(namespace) + "/"
}

// company makes this process one of the nodes of its cluster.
func company(cfg *config.Manager, client *clientv3.Client, database string, shards int, log *slog.Logger) *node.Company {
	a := cfg.Actors
	var made *transport.Transport
	return &node.Company{
		JoinDelay: joinDelay,
		Transport: func(system *actor.ActorSystem, receive func([]byte), broken func(string)) (t node.Transport, err error) {
			made, err = transport.New(transport.Config{
				System: system, Host: cmp.Or(a.ClusterAddr.Host, "127.0.0.1"), Port: a.ClusterAddr.Port, Advertised: advertised(a),
				Secret: clusterSecret(cfg), Files: transport.Files{CA: a.ClusterCA, Cert: a.ClusterCert, Key: a.ClusterKey}, Receive: receive, OnBroken: broken, Log: log,
			})
			return made, err
		},
		Members: func(address string, onView func(membership.View), onExpired func()) node.Members { // made after the transport
			host, _ := os.Hostname()
			return membership.New(membership.Config{
				Client: client, Prefix: ClusterPrefix(cfg.Etcd.Namespace), TTL: a.Lease, Log: log, OnView: onView, OnExpired: onExpired, Bound: true,
				Self: membership.Member{Name: a.NodeName, Address: address, API: cfg.Service.Addr.String(), Version: api.Release,
					Namespace: cfg.Etcd.Namespace, Database: database, Shards: shards,
					Host: host, Trust: made.Trust()},
			})
		},
	}
}

func advertised(a config.Actors) string {
	if a.AdvertiseAddr.IsZero() {
		return ""
	}
	return a.AdvertiseAddr.String()
}

// clusterSecret is what the nodes know of each other; by default, that they have the password of the same database.
func clusterSecret(cfg *config.Manager) config.Secret {
	switch {
	case cfg.Actors.ClusterCert != "":
		return config.Secret{}
	case !cfg.Actors.ClusterSecret.IsZero():
		return cfg.Actors.ClusterSecret
	}
	// A stranger who connects to the port sees a certificate, against which a guess can be tried: each guess shall be slow.
	key, err := pbkdf2.Key(sha256.New, cfg.DB.Password.Reveal(), []byte("cluster of "+cfg.DB.User+" at "+cfg.DB.Name), guessCost, sha256.Size)
	if err != nil { // only for what is wrong in the program
		return config.Secret{}
	}
	return config.NewSecret(hex.EncodeToString(key))
}

// unready tells why requests should go to other nodes.
func (s *Server) unready() string {
	v := s.node.View()
	self, member := v.Member(v.Self)
	switch {
	case !member || !s.node.Healthy():
		return "cut-off"
	case self.Draining:
		return "draining"
	}
	return ""
}

// managerDeps are what /manager works with.
func (s *Server) managerDeps(settings *shared.Settings, pool *pgxpool.Pool) restmanager.Deps {
	return restmanager.Deps{
		Self:     restmanager.Self{Processes: s.cfg.Service.NumProc, HeartbeatTimeout: s.cfg.Service.HeartbeatTimeout.Seconds(), SSL: s.cfg.Service.SSL},
		Settings: managerSettings{settings, s.etcd},
		Nodes: func() (nodes []restmanager.Node) {
			for _, m := range s.node.View().Members {
				nodes = append(nodes, restmanager.Node{ID: m.Name, Address: m.API, Version: m.Version})
			}
			return nodes
		},
		Active: func(ctx context.Context) (int, error) { return sessions.Active(ctx, pool) },
	}
}

const announcementKey = "manager/announcement"

// managerSettings are the shared settings that /manager reads and writes.
type managerSettings struct {
	settings *shared.Settings
	client   *shared.Client
}

func (m managerSettings) Status() string { return string(m.settings.Current().Status) }

func (m managerSettings) Announcement(ctx context.Context) (string, bool, error) {
	return m.client.Get(ctx, announcementKey, shared.Global)
}

func (m managerSettings) SetStatus(ctx context.Context, status string) error {
	return m.settings.Put(ctx, "manager/status", status)
}

func (m managerSettings) Announce(ctx context.Context, text string) (err error) {
	if text == "" {
		_, err = m.client.Delete(ctx, announcementKey, shared.Global)
	} else {
		_, err = m.client.Put(ctx, announcementKey, text, shared.Global)
	}
	return err
}

// farewell is how long a node that has handed its shards over still answers, so that balancers notice that it is not ready any more.
const farewell = 1500 * time.Millisecond

// drain hands this node's shards to the others, within what ctx leaves.
func (s *Server) drain(ctx context.Context) error {
	if err := s.node.Drain(ctx); err != nil {
		s.log.Warn("the shards were not all handed over; the other nodes take them when this one's lease ends", "error", err)
	}
	if len(s.node.View().Members) > 1 {
		select {
		case <-time.After(farewell):
		case <-ctx.Done():
		}
	}
	return nil
}
