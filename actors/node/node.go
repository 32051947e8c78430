package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/actors/shard"
	"backend.ai/manager/cluster"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/persistence/postgres/journal"
)

// Config is what a node is made of. Log, Ledger, Journal, Store, Bus, Live are required.
type Config struct {
	Name             string // of the node; in logs and inspection
	Shards           int
	HeartbeatTimeout time.Duration // default 5 s
	Debug            bool
	SchedulerRecord  int // steps
	Workers          int // default 16
	Log              *slog.Logger
	Ledger           shard.Ledger
	Journal          *journal.Journal
	Store            services.Store
	Bus              services.Bus
	Live             services.Live
	Hooks            services.Hooks
	Networks         services.Networks
	Errors           ErrorLog
	// Registries are the names of the configured container registries: the first part of a local image's tag may be one.
	Registries func() []string
	Links      callosum.ClientConfig
	// Company is nil for a node that is alone.
	Company *Company
}

// Node is one process's share of the manager.
//
//	New ── Start ──▶ running ── Stop ──▶ stopped
type Node struct {
	cfg       Config
	svc       *services.Services
	desk      *ask.Desk
	owner     *actor.PID
	directory *directory
	transport Transport
	members   Members
	mending   mending
	stopOnce  sync.Once
	stopping  chan struct{} // closed by Stop: nobody is to wait any more
}

// New makes a node; nothing runs before Start.
func New(cfg Config) *Node {
	if cfg.HeartbeatTimeout <= 0 {
		cfg.HeartbeatTimeout = 5 * time.Second
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 16
	}
	if cfg.Shards <= 0 {
		cfg.Shards = cluster.DefaultShards
	}
	return &Node{cfg: cfg, stopping: make(chan struct{})}
}

// Start brings the actor system up and begins to take its shards: all of them, or its part of them when there are other nodes. It
// returns as soon as the node can take messages; Ready tells when the shards are owned.
// Errors: InvalidConfig when this node does not fit into the cluster; ServiceUnavailable.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = n.Stop(context.WithoutCancel(ctx))
		}
	}()
	logger := slog.New(quiet{n.cfg.Log.Handler()}).With("lib", "protoactor")
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))
	n.svc = &services.Services{
		Log: n.cfg.Log, System: system, Inspector: inspector.New(n.cfg.Name, system), Router: cluster.NewRouter(system, n.cfg.Shards, n.forward),
		Journal: n.cfg.Journal, Bus: n.cfg.Bus, Live: n.cfg.Live, Store: n.cfg.Store, Hooks: n.cfg.Hooks, Networks: n.cfg.Networks,
		Roster: services.NewRoster(), HeartbeatTimeout: n.cfg.HeartbeatTimeout, Debug: n.cfg.Debug, SchedulerRecord: n.cfg.SchedulerRecord,
	}
	if err := n.startTransport(ctx); err != nil {
		return err
	}
	if n.desk, err = ask.NewDesk(system, n.svc.Inspector); err != nil {
		return err
	}
	if err = n.spawnInspector(); err != nil {
		return err
	}
	n.svc.Agents = callosum.NewClient(n.cfg.Links)
	if err := n.svc.Agents.Start(); err != nil {
		return err
	}
	n.svc.Work = services.NewWorkers(n.cfg.Workers, 1<<16)
	n.directory = newDirectory(n.svc)
	n.svc.Seek = n.directory.seek
	hands := shard.Hands{Ledger: n.cfg.Ledger, Flush: n.cfg.Journal.Flush}
	if c := n.cfg.Company; c != nil {
		n.members = c.Members(n.transport.Address(), n.follow, n.expired)
		hands.Claims, hands.JoinDelay = n.members, c.JoinDelay
	}
	if n.owner, err = system.Root.SpawnNamed(shard.OwnerProps(n.svc, hands), "shards"); err != nil {
		return err
	}
	if n.members != nil {
		return n.members.Start(ctx)
	}
	all := make([]int32, n.cfg.Shards)
	for i := range all {
		all[i] = int32(i)
	}
	system.Root.Send(n.owner, &shard.Take{Shards: all})
	return nil
}

// startTransport opens the way to other nodes, before any actor is made: actors carry the node's address.
func (n *Node) startTransport(ctx context.Context) error {
	if n.cfg.Company == nil {
		return nil
	}
	n.svc.System.ProcessRegistry.RegisterAddressResolver(func(*actor.PID) (actor.Process, bool) { return stranger{n}, true })
	t, err := n.cfg.Company.Transport(n.svc.System, n.receive, n.broken)
	if err != nil {
		return err
	}
	n.transport = t
	return t.Start(ctx)
}

func (n *Node) follow(v membership.View) {
	n.svc.System.Root.Send(n.owner, &v)
	n.greet(v)
}

func (n *Node) expired() {
	n.cfg.Log.Warn("this node's lease is lost; others take its shards over, and it acts only under epochs that nobody has raised")
}

// Stop lets the shards go and ends everything the node has started. What was submitted to the journal is flushed first.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() { close(n.stopping) })
	for s := range n.cfg.Shards {
		n.svc.Router.Set(int32(s), nil)
	}
	if n.owner != nil {
		stopped := make(chan struct{})
		go func() {
			_ = n.svc.System.Root.StopFuture(n.owner).Wait()
			close(stopped)
		}()
		select {
		case <-stopped:
		case <-ctx.Done():
		}
	}
	errs := []error{n.cfg.Journal.Flush(ctx)}
	if n.members != nil {
		errs = append(errs, n.members.Stop(ctx))
	}
	if n.svc.Work != nil {
		n.svc.Work.Stop()
	}
	if n.svc.Agents != nil {
		errs = append(errs, n.svc.Agents.Stop())
	}
	if n.transport != nil {
		errs = append(errs, n.transport.Stop(ctx))
	}
	n.svc.System.Shutdown()
	return errors.Join(errs...)
}

// Name is the node's.
func (n *Node) Name() string { return n.cfg.Name }

// Inspector knows the node's actors.
func (n *Node) Inspector() *inspector.Inspector { return n.svc.Inspector }

// Services are what the node's actors use.
func (n *Node) Services() *services.Services { return n.svc }

// Send brings a message to an actor without waiting.
func (n *Node) Send(to cluster.Identity, message any) bool { return n.svc.Router.Send(to, message) }

// Ownership tells which shards the node owns, under which epochs.
func (n *Node) Ownership(ctx context.Context) (shard.Ownership, error) {
	answer := make(chan shard.Ownership, 1)
	n.svc.System.Root.Send(n.owner, &shard.Status{Answer: answer})
	select {
	case o := <-answer:
		return o, nil
	case <-ctx.Done():
		return shard.Ownership{}, ctx.Err()
	}
}

// Ready waits until every shard has an owner that this node knows: itself or, once it has joined them, others.
func (n *Node) Ready(ctx context.Context) error {
	for {
		o, err := n.Ownership(ctx)
		if err != nil {
			return err
		}
		known := 0
		for s := range int32(n.cfg.Shards) {
			if n.svc.Router.Local(s) != nil || n.svc.Router.Node(s) != "" {
				known++
			}
		}
		if o.Pending == 0 && known == n.cfg.Shards {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
