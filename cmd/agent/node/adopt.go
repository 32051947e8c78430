package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/sandbox"
	"golang.org/x/sys/unix"
)

// merged overrides keys of a creation config.
func merged(c callosum.KernelCreationConfig, changes callosum.Map) (callosum.KernelCreationConfig, error) {
	if len(changes) == 0 {
		return c, nil
	}
	c.Environ, c.ResourceSlots = maps.Clone(c.Environ), maps.Clone(c.ResourceSlots) // decoding adds to maps
	raw, err := json.Marshal(changes)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	return c, err
}

// adopt takes up the kernels that an agent before this one left: those that live, and those of which the end has to be
// reported.
func (n *Node) adopt() {
	entries, err := os.ReadDir(n.config.ScratchRoot)
	if err != nil {
		n.log.Error("scratch-root cannot be read", "err", err)
	}
	for _, e := range entries {
		id, err := backendai.ParseKernelID(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		l := n.layout(e.Name())
		r, err := l.load()
		if errors.Is(err, os.ErrNotExist) { // the creation had hardly begun, or the removal had nearly ended
			l.remove()
			continue
		}
		if err != nil {
			n.log.Error("a kernel's record cannot be read; its folder is left alone", "err", err)
			continue
		}
		n.takeUp(id, r)
	}
}

func (n *Node) takeUp(id backendai.KernelID, r *record) {
	k := n.newKernel(id, r)
	n.mu.Lock()
	n.kernels[id.String()] = k
	n.mu.Unlock()
	n.config.Pool.Restore(r.KernelID, r.Allocation)
	for _, p := range r.ServicePorts {
		for _, port := range p.HostPorts {
			n.ports.Restore(r.KernelID, port)
		}
	}
	group, err := n.config.Cgroups.New(r.KernelID, sandbox.Limits{MemoryBytes: r.Allocation.MemBytes, CPUs: len(r.Allocation.CPUs), Processes: n.config.MaxProcesses})
	if err == nil {
		k.mu.Lock()
		k.group = group
		k.mu.Unlock()
	}
	alive := r.PID != 0 && n.watchStranger(k, r)
	if !alive || r.Ending != "" {
		reason := r.Ending
		if reason == "" {
			reason = "self-terminated"
		}
		n.log.Info("a kernel of the agent before has ended", "kernel", id, "reason", reason)
		k.mu.Lock()
		k.ending = true
		k.mu.Unlock()
		close(k.created)
		go n.end(k, reason, false)
		return
	}
	n.log.Info("a kernel of the agent before is taken up", "kernel", id, "pid", r.PID)
	if r.Started {
		close(k.created)
		n.watchBatch(k)
		return
	}
	own, cancel := context.WithCancel(n.ctx)
	k.mu.Lock()
	k.abort = cancel
	k.mu.Unlock()
	n.work.Go(func() { n.finishCreation(own, k) })
}

// finishCreation goes on where the agent before stopped: the host was started.
func (n *Node) finishCreation(ctx context.Context, k *kernel) {
	k.lifecycle.Lock()
	err := k.client.Ready(ctx)
	if err == nil {
		err = n.announce(k)
	}
	if err != nil && n.ctx.Err() == nil {
		n.teardown(k)
		n.forget(k)
	}
	k.lifecycle.Unlock()
	k.finish(err)
	if err == nil {
		n.watchBatch(k)
	}
}

// watchStranger watches a host that is no child of this process; false when it does not live.
func (n *Node) watchStranger(k *kernel, r *record) bool {
	pid, born := r.PID, r.Birth
	fd, err := unix.PidfdOpen(pid, 0)
	// Only now is it certain whose process this is: the id cannot change hands while the descriptor is open.
	if birth, birthErr := sandbox.Birth(pid); birthErr != nil || birth != born {
		if err == nil {
			unix.Close(fd)
		}
		return false
	}
	gone := make(chan struct{})
	k.mu.Lock()
	k.gone = gone
	k.mu.Unlock()
	go func() {
		if err == nil {
			defer unix.Close(fd)
			for {
				_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
				if !errors.Is(err, unix.EINTR) {
					break
				}
			}
		} else { // before Linux 5.3
			for birth, err := sandbox.Birth(pid); err == nil && birth == born; birth, err = sandbox.Birth(pid) {
				time.Sleep(time.Second)
			}
		}
		n.hostEnded(k, gone)
	}()
	return true
}
