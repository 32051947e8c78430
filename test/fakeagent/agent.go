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
}

// Kernel is what the agent knows of one kernel.
type Kernel struct {
	ID, Session string
	Config      callosum.KernelCreationConfig
	Container   string
	slots       backendai.ResourceSlots
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
	s := a.server
	s.Handle(callosum.MethodPing, callosum.Typed(func(_ context.Context, r callosum.Ping) (string, error) { return r.Msg, nil }))
	s.Handle(callosum.MethodCreateKernels, callosum.Typed(a.create))
	s.Handle(callosum.MethodDestroyKernel, callosum.Typed(a.destroy))
	s.Handle(callosum.MethodRestartKernel, callosum.Typed(a.restart))
	s.Handle(callosum.MethodStartService, callosum.Typed(a.startService))
	s.Handle(callosum.MethodExecute, callosum.Typed(a.execute))
	s.Handle(callosum.MethodGetLogs, callosum.Typed(a.logs))
	s.Handle(callosum.MethodInterruptKernel, callosum.Typed(a.interrupt))
	for _, m := range []string{callosum.MethodCreateLocalNetwork, callosum.MethodDestroyLocalNetwork} {
		s.Handle(m, func(context.Context, callosum.Arguments) ([]byte, error) { return []byte{0xc0}, nil })
	}
	return s.Start()
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
func (a *Agent) Config() Config { return a.cfg }

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
	k := &Kernel{ID: id, Session: r.SessionID, Config: config, Container: token()}
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
	a.port += 2
	port, delay := a.port, a.cfg.CreateDelay
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
		ServicePorts: []callosum.ServicePort{{Name: "sshd", Protocol: "tcp", ContainerPorts: []int{2200}, HostPorts: []int{port}}},
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
	a.forget(r.KernelID)
	if !r.SuppressEvents {
		a.event("kernel_terminated", r.KernelID, reason, -1)
	}
	return callosum.Nothing{}, nil
}

func (a *Agent) restart(_ context.Context, r callosum.RestartKernel) (callosum.RestartResult, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.RestartResult{}, err
	}
	a.mu.Lock()
	k.Container = token()
	result := callosum.RestartResult{ContainerID: k.Container, ReplInPort: a.port, ReplOutPort: a.port + 1}
	a.mu.Unlock()
	a.event("kernel_started", r.KernelID, r.CreationID, "")
	return result, nil
}

func (a *Agent) startService(_ context.Context, r callosum.StartService) (callosum.ServiceResult, error) {
	if _, err := a.kernel(r.KernelID); err != nil {
		return callosum.ServiceResult{}, err
	}
	return callosum.ServiceResult{Status: "failed", Error: "invalid service name"}, nil
}

func (a *Agent) execute(_ context.Context, r callosum.Execute) (callosum.ExecuteResult, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.ExecuteResult{}, err
	}
	code := 0
	run := token()[:32]
	if r.RunID != nil {
		run = *r.RunID
	}
	return callosum.ExecuteResult{RunID: run, Status: "finished", ExitCode: &code, Console: [][]any{{"stdout", k.Container + "\n"}}}, nil
}

func (a *Agent) logs(_ context.Context, r callosum.GetLogs) (callosum.Logs, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.Logs{}, err
	}
	return callosum.Logs{Logs: "log of " + k.ID + "\n"}, nil
}

func (a *Agent) interrupt(_ context.Context, r callosum.InterruptKernel) (callosum.Nothing, error) {
	_, err := a.kernel(r.KernelID)
	return callosum.Nothing{}, err
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
