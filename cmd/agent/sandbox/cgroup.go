package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CgroupRoot is the folder below which an agent keeps its kernels' groups of the version 2 tree.
type CgroupRoot struct {
	path        string
	controllers []string
}

// Limits of a group; zero means none.
type Limits struct {
	MemoryBytes int64
	CPUs        int
	Processes   int64
}

// FindCgroups looks for a version 2 tree in which this process may make groups, and makes one for the agent with the given
// id. Nil when there is none: then there are rlimits only.
func FindCgroups(agent string) *CgroupRoot {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	own := ownCgroup()
	for line := range strings.Lines(string(raw)) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || !strings.HasPrefix(after, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		mount := fields[4]
		for _, base := range []string{filepath.Join(mount, own), mount} {
			path := filepath.Join(base, "backend.ai-"+strings.ReplaceAll(agent, "/", "_"))
			if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				continue
			}
			return enable(base, path)
		}
	}
	return nil
}

func ownCgroup() string {
	raw, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "/"
}

// enable hands the controllers that matter down, as far as the machine permits.
func enable(base, path string) *CgroupRoot {
	root := &CgroupRoot{path: path}
	for _, c := range []string{"cpu", "memory", "pids", "io"} {
		os.WriteFile(filepath.Join(base, "cgroup.subtree_control"), []byte("+"+c), 0)
		if os.WriteFile(filepath.Join(path, "cgroup.subtree_control"), []byte("+"+c), 0) == nil {
			root.controllers = append(root.controllers, c)
		}
	}
	return root
}

// Controllers are those that kernels' groups have.
func (r *CgroupRoot) Controllers() []string {
	if r == nil {
		return nil
	}
	return r.controllers
}

// HasMemory tells whether groups limit memory; a nil root has none.
func (r *CgroupRoot) HasMemory() bool { return r != nil && slices.Contains(r.controllers, "memory") }

// Cgroup is the group of one kernel.
type Cgroup struct {
	path string
	dir  *os.File
}

// New makes the group of a kernel, or finds the one it has. A nil root gives a nil group.
func (r *CgroupRoot) New(kernel string, limits Limits) (*Cgroup, error) {
	if r == nil {
		return nil, nil
	}
	c := &Cgroup{path: filepath.Join(r.path, kernel)}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	for _, w := range []struct {
		controller, file, value string
		set                     bool
	}{
		{"memory", "memory.max", strconv.FormatInt(limits.MemoryBytes, 10), limits.MemoryBytes > 0},
		{"memory", "memory.swap.max", "0", limits.MemoryBytes > 0},
		{"memory", "memory.oom.group", "0", limits.MemoryBytes > 0},
		{"cpu", "cpu.max", strconv.Itoa(limits.CPUs*100000) + " 100000", limits.CPUs > 0},
		{"pids", "pids.max", strconv.FormatInt(limits.Processes, 10), limits.Processes > 0},
	} {
		if w.set && slices.Contains(r.controllers, w.controller) {
			os.WriteFile(filepath.Join(c.path, w.file), []byte(w.value), 0) // swap accounting may be off, say
		}
	}
	var err error
	if c.dir, err = os.Open(c.path); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return c, nil
}

// Kill kills all processes of the group; a nil group has none.
func (c *Cgroup) Kill() {
	if c != nil {
		os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
	}
}

// Read gives a file of the group, such as memory.current.
func (c *Cgroup) Read(file string) (string, bool) {
	if c == nil {
		return "", false
	}
	raw, err := os.ReadFile(filepath.Join(c.path, file))
	return string(raw), err == nil
}

// Close lets go of the group without an effect on it.
func (c *Cgroup) Close() {
	if c != nil {
		c.dir.Close()
	}
}

// Remove removes the group, which must have no processes left.
func (c *Cgroup) Remove() error {
	if c == nil {
		return nil
	}
	c.dir.Close()
	return os.Remove(c.path)
}
