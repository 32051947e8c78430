package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/actors/shard"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
)

// Config is what a node is made of. Log, Ledger, Journal, Store, Bus, Live are required.
type Config struct {
	Name             string // of the node; in logs and inspection
	Shards           int
	HeartbeatTimeout time.Duration // default 5 s
	Debug            bool
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
	return &Node{cfg: cfg}
}

// Start brings the actor system up and begins to take all shards. It returns as soon as
// the node can take messages; Ready tells when the shards are owned.
func (n *Node) Start() error {
	logger := slog.New(quiet{n.cfg.Log.Handler()}).With("lib", "protoactor")
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))
	n.svc = &services.Services{
		Log: n.cfg.Log, System: system, Inspector: inspector.New(n.cfg.Name), Router: cluster.NewRouter(system, n.cfg.Shards),
		Journal: n.cfg.Journal, Bus: n.cfg.Bus, Live: n.cfg.Live, Store: n.cfg.Store, Hooks: n.cfg.Hooks, Networks: n.cfg.Networks,
		Roster: services.NewRoster(), HeartbeatTimeout: n.cfg.HeartbeatTimeout, Debug: n.cfg.Debug,
	}
	var err error
	if n.desk, err = ask.NewDesk(system, n.svc.Inspector); err != nil {
		return err
	}
	n.svc.Agents = callosum.NewClient(n.cfg.Links)
	if err := n.svc.Agents.Start(); err != nil {
		return err
	}
	n.svc.Work = services.NewWorkers(n.cfg.Workers, 1<<16)
	n.directory = newDirectory(n.svc)
	if n.owner, err = system.Root.SpawnNamed(shard.OwnerProps(n.svc, n.cfg.Ledger), "shards"); err != nil {
		return err
	}
	all := make([]int32, n.cfg.Shards)
	for i := range all {
		all[i] = int32(i)
	}
	system.Root.Send(n.owner, &shard.Take{Shards: all})
	return nil
}

// Stop lets the shards go and ends everything the node has started. What was submitted to the journal is flushed first.
func (n *Node) Stop(ctx context.Context) error {
	for s := range n.cfg.Shards {
		n.svc.Router.Set(int32(s), nil)
	}
	stopped := make(chan struct{})
	go func() {
		_ = n.svc.System.Root.StopFuture(n.owner).Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
	}
	err := n.cfg.Journal.Flush(ctx)
	n.svc.Work.Stop()
	linkErr := n.svc.Agents.Stop()
	n.svc.System.Shutdown()
	if err == nil {
		err = linkErr
	}
	return err
}

// Inspector knows the node's actors.
func (n *Node) Inspector() *inspector.Inspector { return n.svc.Inspector }

// Services are what the node's actors use.
func (n *Node) Services() *services.Services { return n.svc }

// Ask sends an actor a message that carries a place to answer to, and waits for the answer or the end of ctx.
// Errors: ServiceUnavailable when nobody owns the actor's shard at the moment, DeadlineExceeded, the answer's own.
func (n *Node) Ask(ctx context.Context, to cluster.Identity, message func(protocol.ReplyTo) any) (any, error) {
	value, err := n.desk.Do(ctx, func(reply protocol.ReplyTo) {
		if !n.svc.Router.Send(to, message(reply)) {
			ask.Reply(n.svc.System.Root, reply, nil, backendai.Errorf(backendai.ServiceUnavailable, "The session is moving to another node; try again."))
		}
	})
	if err == context.DeadlineExceeded {
		return nil, backendai.NewError(backendai.DeadlineExceeded).WithCause(fmt.Errorf("%s did not answer", to))
	}
	return value, err
}

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

// Ready waits until the node owns all its shards.
func (n *Node) Ready(ctx context.Context) error {
	for {
		o, err := n.Ownership(ctx)
		if err != nil {
			return err
		}
		if o.Pending == 0 && len(o.Epochs) == n.cfg.Shards {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
