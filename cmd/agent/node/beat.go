package node

import (
	"os"
	"strconv"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/cmd/agent/stats"
	"backend.ai/manager/persistence/redis/event"
)

// beat publishes the heartbeat (spec/agent-protocol §10.2).
func (n *Node) beat() {
	n.mu.Lock()
	group := n.scalingGroup
	n.mu.Unlock()
	cpus, mem := n.config.Pool.Capacity()
	list := make([]event.Image, len(n.config.Images))
	for i, img := range n.config.Images {
		list[i] = event.Image{Tag: img.Canonical(), ID: img.Digest}
	}
	n.bus.Beat(event.Heartbeat{
		IP: n.config.ListenHost, Region: n.config.Region, ScalingGroup: group, Addr: n.Address(), Version: n.config.Version,
		Slots: []event.Slot{{Name: "cpu", Unit: "count", Amount: strconv.Itoa(cpus)}, {Name: "mem", Unit: "bytes", Amount: strconv.FormatInt(mem, 10)}},
		ComputePlugins: event.Object{
			{Name: "cpu", Value: event.Object{
				{Name: "version", Value: n.config.Version}, {Name: "agent_version", Value: n.config.Version}, {Name: "machine", Value: n.config.Architecture},
				{Name: "os_type", Value: "Linux"}, {Name: "isolation", Value: string(n.config.Isolation)},
			}},
			{Name: "mem", Value: event.Object{{Name: "version", Value: n.config.Version}}},
		},
		Images: list, Architecture: n.config.Architecture,
	}, Features)
}

// measureForever measures the machine and the kernels and stores the numbers.
func (n *Node) measureForever() {
	var machine stats.Node
	n.every(n.config.Statistics, func() {
		if raw, err := callosum.Marshal(machine.Add(stats.ReadMachine(), time.Now())); err == nil {
			n.bus.StoreStats(n.ctx, n.config.ID, raw, 120*time.Second)
		}
		n.mu.Lock()
		var all []*kernel
		for _, k := range n.kernels {
			all = append(all, k)
		}
		n.mu.Unlock()
		var measured []backendai.KernelID
		forest := sandbox.Processes()
		for _, k := range all {
			if !k.isRunning() {
				continue
			}
			k.mu.Lock()
			pid, group := k.record.PID, k.group
			k.mu.Unlock()
			if raw, err := callosum.Marshal(k.stats.Add(stats.Measure(pid, forest, group), time.Now())); err == nil {
				n.bus.StoreStats(n.ctx, k.id.String(), raw, 0)
				measured = append(measured, k.id)
			}
		}
		if measured != nil {
			n.bus.Publish(event.DoSyncKernelStats{Kernels: measured})
		}
	})
}

// sync looks for kernels that are in the folders but not on the list: what can only be left by a failure of the disk or of this
// program.
func (n *Node) sync() {
	entries, err := os.ReadDir(n.config.ScratchRoot)
	if err != nil {
		n.log.Error("scratch-root cannot be read", "err", err)
		return
	}
	for _, e := range entries {
		id, err := backendai.ParseKernelID(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < 2*n.config.Sync {
			continue // perhaps about to be made or removed
		}
		n.mu.Lock()
		known := n.kernels[id.String()] != nil || n.stopping
		n.mu.Unlock()
		if known {
			continue
		}
		r, err := n.layout(e.Name()).load()
		if err != nil {
			continue
		}
		r.Ending = "terminated-unknown-container"
		n.takeUp(id, r)
	}
}
