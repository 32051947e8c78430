package stats

import (
	"os"
	"strconv"
	"strings"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"golang.org/x/sys/unix"
)

// Machine is one sample of this machine.
type Machine struct {
	CPUMillis          []float64 // used by each core since the start
	MemTotal, MemFree  float64   // bytes; free is what programs can get
	Disks              []Disk
	Received, SentByte float64 // over all interfaces but the loopback, since the start
}

// Disk is one file system.
type Disk struct {
	Device      string
	Used, Total float64 // bytes
}

// ReadMachine measures. What cannot be read stays zero.
func ReadMachine() Machine {
	var m Machine
	raw, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) > 8 && strings.HasPrefix(f[0], "cpu") && f[0] != "cpu" {
			used := 0.0
			for i, text := range f[1:9] {
				if i != 3 && i != 4 { // idle and waiting
					v, _ := strconv.ParseFloat(text, 64)
					used += v * 1000 / clockTicks
				}
			}
			m.CPUMillis = append(m.CPUMillis, used)
		}
	}
	raw, _ = os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		v, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "MemTotal:":
			m.MemTotal = v * 1024
		case "MemAvailable:":
			m.MemFree = v * 1024
		}
	}
	raw, _ = os.ReadFile("/proc/self/mounts")
	m.Disks = disks(string(raw))
	raw, _ = os.ReadFile("/proc/net/dev")
	for line := range strings.Lines(string(raw)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 16 {
			continue
		}
		in, _ := strconv.ParseFloat(f[0], 64)
		out, _ := strconv.ParseFloat(f[8], 64)
		m.Received += in
		m.SentByte += out
	}
	return m
}

// disks are the file systems on devices, each once.
func disks(mounts string) (list []Disk) {
	seen := map[string]bool{}
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "/dev/") || seen[f[0]] || f[2] == "squashfs" || f[2] == "vfat" {
			continue
		}
		var st unix.Statfs_t
		if unix.Statfs(f[1], &st) != nil || st.Blocks == 0 {
			continue
		}
		seen[f[0]] = true
		list = append(list, Disk{f[0], float64(st.Blocks-st.Bfree) * float64(st.Bsize), float64(st.Blocks) * float64(st.Bsize)})
	}
	return list
}

// Node makes the metrics of this machine from its samples.
type Node struct {
	last     Machine
	lastTime time.Time
	mem      Series
}

// Add takes a sample and gives the object to store.
func (n *Node) Add(m Machine, now time.Time) callosum.Map {
	interval := now.Sub(n.lastTime)
	first := n.lastTime.IsZero()
	if first {
		interval = 0
	}
	used := m.MemTotal - m.MemFree
	n.mem.add(used, now)
	millis := float64(interval.Milliseconds())
	total := 0.0
	var cores, disks callosum.Map
	for i, v := range m.CPUMillis {
		delta := 0.0
		if !first && i < len(n.last.CPUMillis) {
			delta = max(0, v-n.last.CPUMillis[i])
		}
		total += delta
		cores = append(cores, callosum.Entry{Key: strconv.Itoa(i), Value: metric(delta, millis, "msec", 0, nil)})
	}
	rate := func(now, before float64) float64 {
		if seconds := interval.Seconds(); seconds > 0 {
			return max(0, now-before) / seconds
		}
		return 0
	}
	rx, tx := rate(m.Received, n.last.Received), rate(m.SentByte, n.last.SentByte)
	var diskUsed, diskTotal float64
	for _, d := range m.Disks {
		diskUsed += d.Used
		diskTotal += d.Total
		disks = append(disks, callosum.Entry{Key: d.Device, Value: metric(d.Used, d.Total, "bytes", 0, nil)})
	}
	n.last, n.lastTime = m, now
	mem := metric(used, m.MemTotal, "bytes", showMax, &n.mem)
	one := func(name string, v callosum.Map) callosum.Map { return callosum.Map{{Key: name, Value: v}} }
	if cores == nil {
		cores = callosum.Map{}
	}
	if disks == nil {
		disks = callosum.Map{}
	}
	return callosum.Map{
		{Key: "node", Value: callosum.Map{
			{Key: "cpu_util", Value: metric(total, millis, "msec", 0, nil)},
			{Key: "mem", Value: mem},
			{Key: "disk", Value: metric(diskUsed, diskTotal, "bytes", 0, nil)},
			{Key: "net_rx", Value: metric(rx, -1, "bps", 0, nil)},
			{Key: "net_tx", Value: metric(tx, -1, "bps", 0, nil)},
		}},
		{Key: "devices", Value: callosum.Map{
			{Key: "cpu_util", Value: cores},
			{Key: "mem", Value: one("root", mem)},
			{Key: "disk", Value: disks},
			{Key: "net_rx", Value: one("node", metric(rx, -1, "bps", 0, nil))},
			{Key: "net_tx", Value: one("node", metric(tx, -1, "bps", 0, nil))},
		}},
	}
}
