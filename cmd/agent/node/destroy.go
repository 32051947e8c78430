package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/persistence/redis/event"
)

const (
	killTimeout  = 15 * time.Second
	flushTimeout = 3 * time.Second
)

// destroy ends a kernel and returns when nothing of it is left, or with ctx; it then goes on by itself. A second call joins the first, whose
// reason counts. Exactly one kernel_terminated is published, unless quiet.
func (n *Node) destroy(ctx context.Context, k *kernel, reason string, quiet bool) {
	k.mu.Lock()
	first := !k.ending
	k.ending = true
	k.mu.Unlock()
	if first {
		go n.end(k, reason, quiet)
	}
	select {
	case <-k.destroyed:
	case <-ctx.Done():
	}
}

func (n *Node) end(k *kernel, reason string, quiet bool) {
	defer close(k.destroyed)
	k.mu.Lock()
	abort := k.abort
	k.mu.Unlock()
	abort()
	<-k.created
	k.mu.Lock()
	failed := k.createErr != nil
	k.mu.Unlock()
	if failed { // and is torn down
		if !quiet {
			n.bus.Publish(event.KernelTerminated{Kernel: k.id, Reason: reason, ExitCode: -1})
		}
		return
	}
	k.lifecycle.Lock()
	defer k.lifecycle.Unlock()
	if err := n.update(k, func(r *record) { r.Ending = reason }); err != nil {
		n.log.Warn("the end of a kernel cannot be noted", "kernel", k.id, "err", err)
	}
	n.stopHost(k)
	r := k.snapshot()
	log, err := os.ReadFile(filepath.Join(n.layout(r.KernelID).private(), host.LogFile))
	if err != nil {
		n.log.Warn("the log of a kernel cannot be read", "kernel", k.id, "err", err)
	}
	n.release(k)
	if r.Started {
		n.bus.PushLog(event.DoSyncKernelLogs{Kernel: k.id, Container: r.ContainerID}, log)
	}
	if !quiet {
		n.bus.Publish(event.KernelTerminated{Kernel: k.id, Reason: reason, ExitCode: -1})
	}
	n.forget(k)
	// While the folder is there, an agent that starts anew reports the end once more; so it stays until Redis has the report.
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	n.bus.Flush(ctx)
	n.removeScratch(k)
}

// teardown undoes a creation; the lifecycle is held.
func (n *Node) teardown(k *kernel) {
	n.stopHost(k)
	n.release(k)
	n.removeScratch(k)
}

// stopHost ends the host and all of the kernel's processes.
func (n *Node) stopHost(k *kernel) {
	r := k.snapshot()
	k.mu.Lock()
	gone, group := k.gone, k.group
	k.group = nil
	k.mu.Unlock()
	if r.PID != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), n.config.Grace+killTimeout)
		defer cancel()
		if birth, err := sandbox.Birth(r.PID); err == nil && birth == r.Birth {
			asked, done := context.WithTimeout(ctx, n.config.Grace+2*time.Second)
			k.client.Shutdown(asked, n.config.Grace)
			done()
		}
		if err := sandbox.KillTree(ctx, r.PID, r.Birth); err != nil {
			n.log.Error("processes of a kernel cannot be killed", "kernel", k.id, "pid", r.PID, "err", err)
		}
	}
	group.Kill()
	if gone != nil {
		select {
		case <-gone:
		case <-time.After(killTimeout):
			n.log.Error("a kernel's process does not end", "kernel", k.id, "pid", r.PID)
		}
	}
	n.removeGroup(k, group)
}

// removeGroup removes the kernel's cgroup. A restart needs a new one: Linux kills what is cloned into a group that was ever killed.
func (n *Node) removeGroup(k *kernel, group *sandbox.Cgroup) {
	if group == nil {
		return
	}
	for range 200 { // its last process may still be on the way out
		if err := group.Remove(); err == nil || os.IsNotExist(err) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.log.Warn("the cgroup of a kernel cannot be removed", "kernel", k.id)
}

// release gives the kernel's resources back.
func (n *Node) release(k *kernel) {
	r := k.snapshot()
	n.config.Pool.Release(r.KernelID)
	n.ports.Release(r.KernelID)
}

func (n *Node) removeScratch(k *kernel) {
	if err := n.layout(k.id.String()).remove(); err != nil {
		n.log.Warn("the folder of a kernel cannot be removed", "kernel", k.id, "err", err)
	}
}

// forget takes the kernel off the list, if it is the one on it.
func (n *Node) forget(k *kernel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kernels[k.id.String()] == k {
		delete(n.kernels, k.id.String())
	}
}

// destroyByID serves the RPC. An unknown kernel is reported as terminated already.
func (n *Node) destroyByID(ctx context.Context, q callosum.DestroyKernel) error {
	id, err := backendai.ParseKernelID(q.KernelID)
	if err != nil {
		return callosum.Exception("ValueError", "badly formed hexadecimal UUID string")
	}
	n.mu.Lock()
	k := n.kernels[id.String()]
	n.mu.Unlock()
	if k == nil {
		if !q.SuppressEvents {
			n.bus.Publish(event.KernelTerminated{Kernel: id, Reason: "already-terminated", ExitCode: -1})
		}
		return nil
	}
	reason := q.Reason
	if reason == "" {
		reason = "user-requested"
	}
	n.destroy(ctx, k, reason, q.SuppressEvents)
	return ctx.Err()
}

// restart ends the kernel's host and starts another in the same folder, with the same resources and ports.
func (n *Node) restart(ctx context.Context, q callosum.RestartKernel) (callosum.RestartResult, error) {
	var none callosum.RestartResult
	k, err := n.find(q.KernelID)
	if err != nil {
		return none, err
	}
	select {
	case <-k.created:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	k.lifecycle.Lock()
	k.mu.Lock()
	if k.ending || k.createErr != nil {
		k.mu.Unlock()
		k.lifecycle.Unlock()
		return none, unknownKernel(k.id)
	}
	ready := make(chan struct{})
	k.ready = ready
	k.mu.Unlock()
	err = n.tryRestart(k, q)
	close(ready)
	k.lifecycle.Unlock()
	if err != nil {
		n.destroy(ctx, k, "restart-failed", false)
		return none, err
	}
	r := k.snapshot()
	return callosum.RestartResult{ContainerID: r.ContainerID, ServicePorts: r.ServicePorts}, nil
}

func (n *Node) tryRestart(k *kernel, q callosum.RestartKernel) error {
	config, err := merged(k.snapshot().Config, q.UpdatedConfig)
	if err != nil {
		return callosum.Exception("ValueError", err.Error())
	}
	n.stopHost(k)
	err = n.update(k, func(r *record) {
		r.Config, r.CreationID, r.Started, r.PID = config, q.CreationID, false, 0
		r.ContainerID = containerID(r.KernelID, q.CreationID)
	})
	if err != nil {
		return err
	}
	// Not bound to the caller: half a restart is worse than one that nobody waits for.
	if err := n.startHost(n.ctx, k); err != nil {
		return err
	}
	return n.announce(k)
}
