package fakeagent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"maps"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// Config describes one pretended agent.
type Config struct {
	ID           string
	ScalingGroup string // default "default"
	Architecture string // default "x86_64"
	Capacity     backendai.ResourceSlots
	CreateDelay  time.Duration
	DestroyDelay time.Duration
	// FailCreate, if set, is asked for each creation; an error is what the agent answers.
	FailCreate func(kernel string) error
	// Events is told of what the agent would publish, in order; nil: nobody listens.
	Events func(name string, args ...any)
	// Calls, if set, is shown every call just before it is served.
	Calls func(callosum.Call)
	// Logs, if set, is given the log of each container that ends, before do_sync_kernel_logs is told.
	Logs func(container string, log []byte)
}

// Kernel is what the agent knows of one kernel.
type Kernel struct {
	ID, Session string
	Config      callosum.KernelCreationConfig
	Container   string
	slots       backendai.ResourceSlots
	ports       []callosum.ServicePort
	files       map[string][]byte
	log         []byte
}

// Agent is a pretended agent.
type Agent struct {
	cfg    Config
	server *callosum.Server

	mu          sync.Mutex
	kernels     map[string]*Kernel
	used        backendai.ResourceSlots
	created     int
	overcommits int
	duplicates  int
	port        int
	muted       bool
}

// New makes an agent; it answers after Start.
func New(cfg Config) *Agent {
	if cfg.ScalingGroup == "" {
		cfg.ScalingGroup = "default"
	}
	if cfg.Architecture == "" {
		cfg.Architecture = "x86_64"
	}
	if cfg.Events == nil {
		cfg.Events = func(string, ...any) {}
	}
	return &Agent{cfg: cfg, kernels: make(map[string]*Kernel), port: 30000}
}

// Start binds a free port on loopback, or the one that the agent had before.
func (a *Agent) Start() error {
	addr := "tcp://127.0.0.1:*"
	if a.server != nil {
		addr = a.server.Address()
	}
	a.server = callosum.NewServer(callosum.ServerConfig{Address: addr, MaxConcurrent: 4096, Logger: slog.New(slog.DiscardHandler)})
	for method, handler := range a.methods() {
		a.server.Handle(method, a.shown(handler))
	}
	return a.server.Start()
}

// Stop closes the agent's port; its kernels live on, as containers do.
func (a *Agent) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return a.server.Stop(ctx)
}

// Address is where the agent answers.
func (a *Agent) Address() string { return a.server.Address() }

// ID is the agent's id.
func (a *Agent) ID() string { return a.cfg.ID }

// Config is what the agent was made with.
func (a *Agent) Config() Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// Books is what the agent has counted.
type Books struct {
	Kernels, Created, Overcommits, Duplicates int
	Used                                      backendai.ResourceSlots
}

// Books returns the counts.
func (a *Agent) Books() Books {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Books{len(a.kernels), a.created, a.overcommits, a.duplicates, a.used}
}

// Kernels copies what runs.
func (a *Agent) Kernels() map[string]*Kernel {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.kernels)
}

// Kill ends a kernel as if its container had died, with or without an event.
func (a *Agent) Kill(kernel string, event bool) {
	if a.forget(kernel) && event {
		a.cfg.Events("kernel_terminated", kernel, "self-terminated", -1)
	}
}

// Mute keeps the agent from telling events: they are lost.
func (a *Agent) Mute(muted bool) {
	a.mu.Lock()
	a.muted = muted
	a.mu.Unlock()
}

// SetCreateDelay changes how long creations take from now on.
func (a *Agent) SetCreateDelay(d time.Duration) {
	a.mu.Lock()
	a.cfg.CreateDelay = d
	a.mu.Unlock()
}

func (a *Agent) event(name string, args ...any) {
	a.mu.Lock()
	muted := a.muted
	a.mu.Unlock()
	if !muted {
		a.cfg.Events(name, args...)
	}
}

func (a *Agent) create(ctx context.Context, r callosum.CreateKernels) ([]callosum.KernelCreationResult, error) {
	results := make([]callosum.KernelCreationResult, 0, len(r.KernelIDs))
	for i, id := range r.KernelIDs {
		result, err := a.createOne(ctx, r, id, r.Configs[i])
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (a *Agent) createOne(ctx context.Context, r callosum.CreateKernels, id string, config callosum.KernelCreationConfig) (result callosum.KernelCreationResult, err error) {
	a.event("kernel_preparing", id, r.CreationID, "")
	a.event("kernel_creating", id, r.CreationID, "")
	k := &Kernel{ID: id, Session: r.SessionID, Config: config, Container: token(), files: make(map[string][]byte), log: []byte("fake container log of " + id + "\n")}
	for name, amount := range config.ResourceSlots {
		d, err := backendai.ParseDecimal(amount)
		if err != nil {
			return result, callosum.Exception("ValueError", err.Error())
		}
		k.slots = k.slots.With(backendai.SlotName(name), d)
	}
	a.mu.Lock()
	if a.kernels[id] != nil {
		a.duplicates++
		a.mu.Unlock()
		return result, callosum.Exception("AgentError", "kernel "+id+" exists")
	}
	if !k.slots.FitsIn(a.cfg.Capacity, a.used) {
		a.overcommits++
	}
	a.kernels[id] = k
	a.used = a.used.Add(k.slots)
	a.created++
	port, delay := a.takePorts(2), a.cfg.CreateDelay
	if config.ClusterRole == "main" || config.ClusterRole == "" {
		k.ports = a.servicePorts(config)
	}
	a.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			// As a container engine does, the creation goes on when the caller has left.
		}
	}
	if a.cfg.FailCreate != nil {
		if err := a.cfg.FailCreate(id); err != nil {
			a.forget(id)
			return result, err
		}
	}
	a.event("kernel_started", id, r.CreationID, "")
	allocations := map[string]map[string]map[string]string{}
	for name, amount := range k.slots.All() {
		if amount.IsZero() {
			continue
		}
		device := name.Device()
		if allocations[device] == nil {
			allocations[device] = map[string]map[string]string{}
		}
		allocations[device][string(name)] = map[string]string{"0": amount.String()}
	}
	return callosum.KernelCreationResult{
		ID: id, KernelHost: "127.0.0.1", ReplInPort: port, ReplOutPort: port + 1, ContainerID: k.Container,
		ServicePorts: k.ports,
		ResourceSpec: callosum.ResourceSpec{ContainerID: k.Container, Allocations: allocations},
	}, nil
}

func (a *Agent) destroy(_ context.Context, r callosum.DestroyKernel) (callosum.Nothing, error) {
	a.mu.Lock()
	known := a.kernels[r.KernelID] != nil
	a.mu.Unlock()
	reason := r.Reason
	if !known {
		reason = "already-terminated"
	} else if a.cfg.DestroyDelay > 0 {
		time.Sleep(a.cfg.DestroyDelay)
	}
	a.leaveLog(r.KernelID)
	a.forget(r.KernelID)
	if !r.SuppressEvents {
		a.event("kernel_terminated", r.KernelID, reason, -1)
	}
	return callosum.Nothing{}, nil
}

func (a *Agent) kernel(id string) (*Kernel, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.kernels[id]; k != nil {
		return k, nil
	}
	return nil, callosum.Exception("KeyError", id)
}

func (a *Agent) forget(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.kernels[id]
	if k == nil {
		return false
	}
	delete(a.kernels, id)
	a.used = a.used.Sub(k.slots)
	return true
}

func token() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
