package resources

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"golang.org/x/sys/unix"
)

// Allocation is what one kernel holds.
type Allocation struct {
	CPUs     []int `json:"cpus"` // core ids
	MemBytes int64 `json:"mem_bytes"`
}

// Pool is what there is to hold. Safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	cpus []int // ids of the cores to give away
	real []int // those of cpus that the machine has; the rest is announced only
	mem  int64
	held map[string]Allocation // by kernel
}

// NewPool makes a pool of the given cores and bytes.
func NewPool(cpus []int, mem int64) *Pool {
	return &Pool{cpus: cpus, real: cpus, mem: mem, held: map[string]Allocation{}}
}

// Announce makes the pool give away count cores, whatever the machine has: fewer, or more, which sessions then share. It is for
// machines whose sessions mostly wait.
func (p *Pool) Announce(count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for next := slices.Max(p.real) + 1; len(p.cpus) < count; next++ {
		p.cpus = append(slices.Clip(p.cpus), next)
	}
	p.cpus = p.cpus[:count]
}

// Pins are the cores that a kernel with this allocation may run on; none means all, as when cores are shared.
func (p *Pool) Pins(a Allocation) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cpus) > len(p.real) {
		return nil
	}
	return a.CPUs
}

// Detect makes a pool of what this machine has beyond the reserved amounts. It fails when nothing is left, as the original's
// start does (spec/agent-protocol §10.2).
func Detect(reservedCPUs int, reservedMem int64) (*Pool, error) {
	var set unix.CPUSet
	var cpus []int
	if unix.SchedGetaffinity(0, &set) == nil {
		for i := range 1024 {
			if set.IsSet(i) {
				cpus = append(cpus, i)
			}
		}
	}
	if len(cpus) == 0 {
		for i := range runtime.NumCPU() {
			cpus = append(cpus, i)
		}
	}
	mem, err := MemoryTotal()
	if err != nil {
		return nil, err
	}
	// The agent keeps the first cores, where a machine's own work tends to be.
	cpus = cpus[min(reservedCPUs, len(cpus)):]
	mem -= reservedMem
	if len(cpus) == 0 || mem <= 0 {
		return nil, fmt.Errorf("nothing is left for kernels: %d cores and %d bytes after resource.reserved-cpu = %d and resource.reserved-mem = %d", len(cpus), max(mem, 0), reservedCPUs, reservedMem)
	}
	return NewPool(cpus, mem), nil
}

// MemoryTotal is the machine's memory in bytes.
func MemoryTotal() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	return int64(info.Totalram) * int64(info.Unit), nil
}

// Capacity is what the pool has altogether.
func (p *Pool) Capacity() (cpus int, mem int64) { return len(p.cpus), p.mem }

// Allocate gives a kernel what it asks for, in texts of the creation config. Errors are exceptions to answer with:
// InsufficientResource, UnsupportedResource, InvalidResourceArgument, NotMultipleOfQuantum.
func (p *Pool) Allocate(kernel string, slots map[string]string) (Allocation, error) {
	var a Allocation
	var cores int64
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		amount, err := backendai.ParseAllocation(slots[name])
		if err != nil || amount.Sign() < 0 {
			return a, callosum.Exception("InvalidResourceArgument", fmt.Sprintf("%s: %s is no amount", name, slots[name]))
		}
		whole, fits := amount.Int64()
		switch name {
		case "cpu", "mem":
			if amount.IsFinite() && !amount.Truncate().Equal(amount) && name == "cpu" {
				return a, callosum.Exception("NotMultipleOfQuantum", "cpu: "+slots[name]+" is not a whole number of cores")
			}
			if !amount.IsFinite() || !fits && amount.Truncate().Equal(amount) {
				return a, insufficient(name, slots[name], "less")
			}
			if !fits {
				whole, _ = amount.Truncate().Int64()
			}
			if name == "cpu" {
				cores = whole
			} else {
				a.MemBytes = whole
			}
		default:
			if !amount.IsZero() {
				return a, callosum.Exception("UnsupportedResource", name)
			}
		}
	}
	for _, name := range []string{"cpu", "mem"} {
		if _, ok := slots[name]; !ok {
			return a, callosum.Exception("InvalidResourceArgument", "the slot "+name+" is missing")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.held[kernel]; ok {
		return a, callosum.Exception("RuntimeError", "kernel "+kernel+" holds resources already")
	}
	free, mem := p.free()
	if cores > int64(len(free)) {
		return a, insufficient("cpu", strconv.FormatInt(cores, 10), strconv.Itoa(len(free)))
	}
	if a.MemBytes > mem {
		return a, insufficient("mem", strconv.FormatInt(a.MemBytes, 10), strconv.FormatInt(mem, 10))
	}
	a.CPUs = slices.Clone(free[:cores])
	p.held[kernel] = a
	return a, nil
}

func insufficient(slot, asked, free string) error {
	return callosum.Exception("InsufficientResource", fmt.Sprintf("%s: %s asked, %s free", slot, asked, free))
}

// free with the lock held.
func (p *Pool) free() (cpus []int, mem int64) {
	taken := map[int]bool{}
	mem = p.mem
	for _, a := range p.held {
		for _, c := range a.CPUs {
			taken[c] = true
		}
		mem -= a.MemBytes
	}
	for _, c := range p.cpus {
		if !taken[c] {
			cpus = append(cpus, c)
		}
	}
	return cpus, mem
}

// Restore notes what a kernel holds that was found again.
func (p *Pool) Restore(kernel string, a Allocation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[kernel] = a
}

// Release takes back what a kernel holds, if anything.
func (p *Pool) Release(kernel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, kernel)
}

// Allocations is the form of the creation result: device, slot, device id, amount. Amounts are plain integers, because
// the original's rounded ones lose bytes (spec/agent-protocol §4.8).
func (a Allocation) Allocations() map[string]map[string]map[string]string {
	cpus := map[string]string{}
	for _, c := range a.CPUs {
		cpus[strconv.Itoa(c)] = "1"
	}
	return map[string]map[string]map[string]string{
		"cpu": {"cpu": cpus},
		"mem": {"mem": {"root": strconv.FormatInt(a.MemBytes, 10)}},
	}
}

// Devices is the form for users and usage reports.
func (a Allocation) Devices() map[string][]callosum.AttachedDevice {
	var cpus []callosum.AttachedDevice
	for _, c := range a.CPUs {
		cpus = append(cpus, callosum.AttachedDevice{DeviceID: strconv.Itoa(c), Data: callosum.Map{{Key: "cores", Value: int64(1)}}})
	}
	return map[string][]callosum.AttachedDevice{"cpu": cpus, "mem": {{DeviceID: "root"}}}
}
