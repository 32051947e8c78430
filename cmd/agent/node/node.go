package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/bus"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/agent/resources"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/persistence/redis/event"
	"golang.org/x/sys/unix"
)

// Features are the abilities that the heartbeat announces beyond the original's.
var Features = []string{"idempotent-create", "epoch"}

// Config says what an agent is. All fields but those with a default are required.
type Config struct {
	ID, Region, ScalingGroup string
	// Version is the generation that is served, 22.03.x.
	Version string
	// ListenHost and ListenPort are where the RPC is bound, and advertised; port 0 takes a free one.
	ListenHost string
	ListenPort int
	// BindHost is the address that kernels' services listen on, AdvertisedHost the one users are told.
	BindHost, AdvertisedHost string
	PortLow, PortHigh        int
	// ScratchRoot is the folder that holds the kernels' folders.
	ScratchRoot  string
	Pool         *resources.Pool
	Account      sandbox.Account
	Isolation    sandbox.Isolation
	Cgroups      *sandbox.CgroupRoot // nil: none
	MaxProcesses int64               // per kernel
	Images       []images.Image
	Architecture string
	Bus          *bus.Bus
	// SaveScalingGroup makes a change of the scaling group last; may be nil.
	SaveScalingGroup func(string) error
	// RequestStop is called when a manager asks the agent to shut down; may be nil.
	RequestStop func(terminateKernels bool)
	// Grace is how long the processes of a kernel have to end by themselves; default 10 s.
	Grace time.Duration
	// Heartbeat, Statistics and Sync are intervals; default 3 s, 5 s and 10 s.
	Heartbeat, Statistics, Sync time.Duration
	Logger                      *slog.Logger
}

// Node is a running agent. New ── Start ──▶ serving ── Stop ──▶ ended.
type Node struct {
	config Config
	log    *slog.Logger
	bus    *bus.Bus
	ports  *resources.Ports
	epochs *epochs
	server *callosum.Server

	ctx    context.Context // ends with the agent
	cancel context.CancelFunc
	work   sync.WaitGroup
	lock   *os.File // of the scratch root: two agents on one would kill each other's kernels

	mu           sync.Mutex
	kernels      map[string]*kernel
	scalingGroup string
	networks     map[string]bool
	stopping     bool
}

// New makes an agent that has to be started.
func New(c Config) (*Node, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Grace, 10*time.Second)
	set(&c.Heartbeat, 3*time.Second)
	set(&c.Statistics, 5*time.Second)
	set(&c.Sync, 10*time.Second)
	if c.Architecture == "" {
		c.Architecture = images.Architecture()
	}
	if err := errors.Join(os.MkdirAll(c.ScratchRoot, 0o711), os.Chmod(c.ScratchRoot, 0o711)); err != nil {
		return nil, fmt.Errorf("scratch-root: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(c.ScratchRoot, "agent.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("scratch-root: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("scratch-root %s is in use by another agent", c.ScratchRoot)
	}
	e, err := openEpochs(filepath.Join(c.ScratchRoot, "epochs.json"))
	if err != nil {
		lock.Close()
		return nil, err
	}
	n := &Node{
		lock:   lock,
		config: c, log: c.Logger, bus: c.Bus, epochs: e, ports: resources.NewPorts(c.BindHost, c.PortLow, c.PortHigh),
		kernels: map[string]*kernel{}, scalingGroup: c.ScalingGroup, networks: map[string]bool{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n, nil
}

func (n *Node) layout(kernel string) layout {
	return layout{filepath.Join(n.config.ScratchRoot, kernel)}
}

// Start takes up the kernels of the agent before it, begins to serve, and tells the cluster.
func (n *Node) Start() error {
	n.adopt()
	n.server = callosum.NewServer(callosum.ServerConfig{
		Address: "tcp://" + net.JoinHostPort(n.config.ListenHost, strconv.Itoa(n.config.ListenPort)), Logger: n.log, OnFailure: n.onFailure,
	})
	n.register()
	if err := n.server.Start(); err != nil {
		n.cancel()
		n.lock.Close()
		return err
	}
	n.beat()
	n.bus.Publish(event.AgentStarted{Reason: "self-started"})
	n.every(n.config.Heartbeat, n.beat)
	n.measureForever()
	n.every(n.config.Sync, n.sync)
	return nil
}

// Address is where the RPC is served, tcp://host:port.
func (n *Node) Address() string { return n.server.Address() }

// Kernels is how many kernels there are.
func (n *Node) Kernels() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.kernels)
}

// every calls f at an interval until the agent ends; not at once.
func (n *Node) every(interval time.Duration, f func()) {
	n.work.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-n.ctx.Done():
				return
			}
		}
	})
}

// Stop ends the agent, at the latest with ctx. Kernels are destroyed (reason agent-termination) or left running for the next agent to
// find.
func (n *Node) Stop(ctx context.Context, terminateKernels bool) error {
	n.mu.Lock()
	n.stopping = true
	n.mu.Unlock()
	if terminateKernels {
		n.destroyAll(ctx, "agent-termination")
	}
	n.cancel()
	err := n.server.Stop(ctx)
	done := make(chan struct{})
	go func() {
		n.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	n.bus.Publish(event.AgentTerminated{Reason: "shutdown"})
	n.lock.Close()
	return err
}

func (n *Node) destroyAll(ctx context.Context, reason string) {
	n.mu.Lock()
	var all []*kernel
	for _, k := range n.kernels {
		all = append(all, k)
	}
	n.mu.Unlock()
	var wait sync.WaitGroup
	for _, k := range all {
		wait.Go(func() { n.destroy(ctx, k, reason, false) })
	}
	wait.Wait()
}
