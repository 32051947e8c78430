package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/cmd/agent/stats"
	"backend.ai/manager/persistence/redis/event"
)

// kernel is one kernel of this agent.
type kernel struct {
	id     backendai.KernelID
	client *host.Client
	stats  *stats.Kernel

	// lifecycle is held by whoever starts or stops the host: creation, restart, destruction.
	lifecycle sync.Mutex

	mu        sync.Mutex
	record    *record
	group     *sandbox.Cgroup
	gone      chan struct{} // closed when the host's process has ended; nil before there was one
	created   chan struct{} // closed when the creation has ended, with createErr
	createErr error
	abort     context.CancelFunc // ends the creation
	ending    bool
	destroyed chan struct{} // closed when the destruction has ended
	batch     bool          // somebody looks after the batch command
	ready     chan struct{} // closed unless a restart is under way
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (n *Node) newKernel(id backendai.KernelID, r *record) *kernel {
	return &kernel{
		id: id, record: r, client: host.Find(n.layout(r.KernelID).private()), stats: stats.NewKernel(r.Allocation.MemBytes),
		created: make(chan struct{}), destroyed: make(chan struct{}), ready: closedChannel(), abort: func() {},
	}
}

// find gives a kernel by id. Errors: KeyError, ValueError for what is no UUID.
func (n *Node) find(text string) (*kernel, error) {
	id, err := backendai.ParseKernelID(text)
	if err != nil {
		return nil, callosum.Exception("ValueError", "badly formed hexadecimal UUID string")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.kernels[id.String()]; k != nil {
		return k, nil
	}
	return nil, unknownKernel(id)
}

func unknownKernel(id backendai.KernelID) error {
	e := callosum.Exception("KeyError")
	e.Repr = fmt.Sprintf("KeyError(UUID('%s'))", id)
	e.Traceback = fmt.Sprintf("Traceback (most recent call last):\nKeyError: UUID('%s')\n", id)
	return e
}

// isRunning tells whether the kernel has started and is not ending.
func (k *kernel) isRunning() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record.Started && !k.ending
}

// snapshot is a copy of the record.
func (k *kernel) snapshot() record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *k.record
}

// update changes the record and keeps the change.
func (n *Node) update(k *kernel, change func(*record)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k.record)
	return n.layout(k.record.KernelID).save(k.record)
}

// create creates a kernel, or joins the creation that is under way or done. It goes on when the caller has gone: another may
// come for the result.
func (n *Node) create(ctx context.Context, creation, session, kernelID string, c callosum.KernelCreationConfig, cluster callosum.ClusterInfo) (callosum.KernelCreationResult, error) {
	var none callosum.KernelCreationResult
	id, err := backendai.ParseKernelID(kernelID)
	if err != nil {
		return none, callosum.Exception("ValueError", "badly formed hexadecimal UUID string")
	}
	for {
		n.mu.Lock()
		k := n.kernels[id.String()]
		if k == nil {
			if n.stopping {
				n.mu.Unlock()
				return none, callosum.Exception("RuntimeError", "the agent is shutting down")
			}
			k = n.newKernel(id, &record{KernelID: id.String(), SessionID: session, CreationID: creation, ContainerID: containerID(id.String(), creation), Config: c, Cluster: cluster, Isolation: n.config.Isolation})
			own, cancel := context.WithCancel(n.ctx)
			k.abort = cancel
			n.kernels[id.String()] = k
			n.work.Go(func() { n.bringUp(own, k) })
		}
		n.mu.Unlock()
		select {
		case <-k.created:
		case <-ctx.Done():
			return none, ctx.Err()
		}
		k.mu.Lock()
		err, ending := k.createErr, k.ending
		k.mu.Unlock()
		if err == nil && ending { // it is on its way out; then it can be created anew
			select {
			case <-k.destroyed:
				continue
			case <-ctx.Done():
				return none, ctx.Err()
			}
		}
		if err != nil {
			return none, err
		}
		return n.result(k), nil
	}
}

// bringUp is the creation, from nothing to kernel_started or back to nothing.
func (n *Node) bringUp(ctx context.Context, k *kernel) {
	k.lifecycle.Lock()
	err := n.tryBringUp(ctx, k)
	if err != nil && n.ctx.Err() != nil && !k.ended() {
		// The agent ends while the host starts: the next agent takes it up where it is.
		k.lifecycle.Unlock()
		k.finish(err)
		return
	}
	if err != nil {
		n.log.Warn("a kernel cannot be created", "kernel", k.id, "err", err)
		n.teardown(k)
		n.forget(k)
	}
	k.lifecycle.Unlock()
	k.finish(err)
	if err == nil {
		n.watchBatch(k)
	}
}

func (k *kernel) finish(err error) {
	k.mu.Lock()
	k.createErr = err
	k.mu.Unlock()
	k.abort()
	close(k.created)
}

// ended tells whether a destruction was asked for.
func (k *kernel) ended() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending
}

func (n *Node) tryBringUp(ctx context.Context, k *kernel) error {
	r := k.snapshot()
	step := event.KernelEnqueued{Kernel: k.id, Creation: backendai.CreationID(r.CreationID)}
	n.bus.Publish(event.KernelPreparing(step))
	if _, err := n.image(r.Config.Image); err != nil {
		return err
	}
	allocation, err := n.config.Pool.Allocate(r.KernelID, r.Config.ResourceSlots)
	if err != nil {
		return err
	}
	r.Allocation = allocation
	if err := n.servicePorts(&r); err != nil {
		return err
	}
	n.bus.Publish(event.KernelCreating(step))
	l := n.layout(r.KernelID)
	if err := l.remove(); err != nil { // of a kernel of that id long ago
		return err
	}
	if err := l.make(n.config.Account); err != nil {
		return err
	}
	if err := n.update(k, func(now *record) { now.Allocation, now.ServicePorts = r.Allocation, r.ServicePorts }); err != nil {
		return err
	}
	k.stats = stats.NewKernel(r.Allocation.MemBytes)
	if err := n.startHost(ctx, k); err != nil {
		return err
	}
	return n.announce(k)
}

// announce publishes kernel_started, and waits a moment for Redis to have it: the official manager wants it before the result.
func (n *Node) announce(k *kernel) error {
	if err := n.update(k, func(r *record) { r.Started = true }); err != nil {
		return err
	}
	n.bus.Publish(event.KernelStarted{Kernel: k.id, Creation: backendai.CreationID(k.snapshot().CreationID)})
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
	defer cancel()
	n.bus.Flush(ctx)
	return nil
}

// startHost starts the host of a kernel and returns when it serves.
func (n *Node) startHost(ctx context.Context, k *kernel) error {
	r := k.snapshot()
	img, err := n.image(r.Config.Image)
	if err != nil {
		return err
	}
	spec := n.hostSpec(&r, img)
	if err := n.fill(&r, spec); err != nil {
		return err
	}
	group, err := n.config.Cgroups.New(r.KernelID, sandbox.Limits{MemoryBytes: r.Allocation.MemBytes, CPUs: len(r.Allocation.CPUs), Processes: n.config.MaxProcesses})
	if err != nil {
		n.log.Warn("a kernel runs without a cgroup", "kernel", k.id, "err", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, cmd, err := host.Start(n.layout(r.KernelID).private(), spec, group)
	if err != nil {
		return callosum.Exception("RuntimeError", err.Error())
	}
	gone := make(chan struct{})
	birth, err := sandbox.Birth(cmd.Process.Pid)
	k.mu.Lock()
	k.gone, k.group = gone, group
	k.mu.Unlock()
	go n.waitChild(k, cmd, gone)
	if err == nil {
		err = n.update(k, func(r *record) { r.PID, r.Birth = cmd.Process.Pid, birth })
	}
	if err != nil {
		return n.didNotStart(k, err)
	}
	ready := make(chan error, 1)
	go func() { ready <- k.client.Ready(ctx) }()
	select {
	case err = <-ready:
	case <-gone:
		err = host.ErrGone
	}
	if err != nil && ctx.Err() == nil {
		return n.didNotStart(k, err)
	}
	return err
}

// didNotStart makes the exception of a host that does not come up, with what it said.
func (n *Node) didNotStart(k *kernel, err error) error {
	text := "cancelled waiting of container startup due to initialization failure"
	if said := strings.TrimSpace(k.client.Complaint()); said != "" {
		text += ": " + said
	} else if !errors.Is(err, host.ErrGone) {
		text += ": " + err.Error()
	}
	return callosum.Exception("RuntimeError", text)
}

func (n *Node) waitChild(k *kernel, cmd *exec.Cmd, gone chan struct{}) {
	cmd.Wait()
	n.hostEnded(k, gone)
}

// hostEnded is called when a host's process has ended, for whatever reason.
func (n *Node) hostEnded(k *kernel, gone chan struct{}) {
	close(gone)
	if n.ctx.Err() != nil {
		return
	}
	go func() {
		k.lifecycle.Lock() // a creation or a restart under way looks after its host itself
		k.mu.Lock()
		unexpected := k.record.Started && !k.ending && k.gone == gone
		k.mu.Unlock()
		k.lifecycle.Unlock()
		if unexpected && n.ctx.Err() == nil {
			n.destroy(n.ctx, k, "self-terminated", false)
		}
	}()
}

// result is the answer to a creation.
func (n *Node) result(k *kernel) callosum.KernelCreationResult {
	r := k.snapshot()
	slots := map[string]any{}
	for name, amount := range r.Config.ResourceSlots {
		slots[name] = amount
	}
	return callosum.KernelCreationResult{
		ID: r.KernelID, KernelHost: n.config.AdvertisedHost, ServicePorts: r.ServicePorts, ContainerID: r.ContainerID,
		ResourceSpec: callosum.ResourceSpec{
			ContainerID: r.ContainerID, Mounts: mountTexts(mounts(r.Config)), Allocations: r.Allocation.Allocations(), Slots: callosum.Any{V: slots},
		},
		AttachedDevices: r.Allocation.Devices(),
	}
}
