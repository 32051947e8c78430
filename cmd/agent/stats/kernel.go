package stats

import (
	"os"
	"strconv"
	"strings"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/sandbox"
)

// ticks per second of /proc/PID/stat; the same on every Linux that Go runs on.
const clockTicks = 100

// Usage is what one kernel has used.
type Usage struct {
	CPUMillis         float64 // since its start
	MemBytes          float64
	ReadBytes, Writes float64 // from and to disks, since its start
}

// Measure adds up all processes of a kernel; pid is its host's. The host collects the children of others, and with them the time they used, so
// nothing gets lost when a process ends. A group (nil without one) knows memory better than its processes, which share some.
func Measure(pid int, forest sandbox.Forest, c *sandbox.Cgroup) Usage {
	var u Usage
	for _, p := range forest.Tree(pid) {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(p) + "/stat")
		if err != nil {
			continue
		}
		text := string(raw)
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(f) < 22 {
			continue
		}
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of collected children
			v, _ := strconv.ParseFloat(f[i], 64)
			u.CPUMillis += v * 1000 / clockTicks
		}
		pages, _ := strconv.ParseFloat(f[21], 64)
		u.MemBytes += pages * float64(os.Getpagesize())
		io, _ := os.ReadFile("/proc/" + strconv.Itoa(p) + "/io") // not for everybody to read
		for line := range strings.Lines(string(io)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			v, _ := strconv.ParseFloat(value, 64)
			switch key {
			case "read_bytes":
				u.ReadBytes += v
			case "write_bytes":
				u.Writes += v
			}
		}
	}
	if text, ok := c.Read("memory.current"); ok {
		if v, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
			u.MemBytes = v
		}
	}
	return u
}

// Kernel makes the metrics of one kernel from its samples.
type Kernel struct {
	memGranted            float64
	cpu, mem, read, write Series
	last                  Usage
	lastTime              time.Time
	measured              bool
}

// NewKernel starts with no sample; memGranted is in bytes.
func NewKernel(memGranted int64) *Kernel { return &Kernel{memGranted: float64(memGranted)} }

// Add takes a sample and gives the object to store.
func (k *Kernel) Add(u Usage, now time.Time) callosum.Map {
	util := 0.0
	if elapsed := now.Sub(k.lastTime).Seconds(); k.measured && elapsed > 0 {
		util = max(0, u.CPUMillis-k.last.CPUMillis) / elapsed
	}
	// Never backwards: a process that was just being collected is counted nowhere for a moment.
	u.CPUMillis = max(u.CPUMillis, k.last.CPUMillis)
	u.ReadBytes, u.Writes = max(u.ReadBytes, k.last.ReadBytes), max(u.Writes, k.last.Writes)
	k.last, k.lastTime = u, now
	if k.measured {
		k.cpu.add(util, now)
	}
	k.measured = true
	k.mem.add(u.MemBytes, now)
	k.read.add(u.ReadBytes, now)
	k.write.add(u.Writes, now)
	cpu := k.cpu
	if cpu.count == 0 {
		cpu.add(0, now)
	}
	return callosum.Map{
		{Key: "cpu_util", Value: metric(util, 1000, "percent", showAvg|showMax, &cpu)},
		{Key: "cpu_used", Value: metric(u.CPUMillis, -1, "msec", 0, nil)},
		{Key: "mem", Value: metric(u.MemBytes, k.memGranted, "bytes", showMax, &k.mem)},
		{Key: "io_read", Value: metric(u.ReadBytes, -1, "bytes", showRate, &k.read)},
		{Key: "io_write", Value: metric(u.Writes, -1, "bytes", showRate, &k.write)},
		{Key: "io_scratch_size", Value: metric(0, 0, "bytes", showMax, &Series{})},
	}
}
