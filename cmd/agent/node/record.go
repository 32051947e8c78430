package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/resources"
	"backend.ai/manager/cmd/agent/sandbox"
)

// record is what an agent must know of a kernel to take it up again.
type record struct {
	KernelID     string                        `json:"kernel_id"`
	SessionID    string                        `json:"session_id"`
	CreationID   string                        `json:"creation_id"`
	ContainerID  string                        `json:"container_id"`
	Config       callosum.KernelCreationConfig `json:"config"`
	Cluster      callosum.ClusterInfo          `json:"cluster"`
	Allocation   resources.Allocation          `json:"allocation"`
	ServicePorts []callosum.ServicePort        `json:"service_ports"`
	Isolation    sandbox.Isolation             `json:"isolation"`
	// PID and Birth name the host's process.
	PID   int    `json:"pid,omitempty"`
	Birth uint64 `json:"birth,omitempty"`
	// Started: kernel_started was published. Ending: the reason for which it is being destroyed.
	Started bool   `json:"started,omitempty"`
	Ending  string `json:"ending,omitempty"`
	// BatchDone: the outcome of the batch command was published.
	BatchDone bool `json:"batch_done,omitempty"`
}

// layout names the parts of a kernel's scratch folder.
type layout struct{ dir string }

func (l layout) private() string { return filepath.Join(l.dir, "agent") } // the agent's own: record, socket, log
func (l layout) root() string    { return filepath.Join(l.dir, "root") }
func (l layout) work() string    { return filepath.Join(l.dir, "work") }
func (l layout) tmp() string     { return filepath.Join(l.dir, "tmp") }
func (l layout) config() string  { return filepath.Join(l.dir, "config") }
func (l layout) record() string  { return filepath.Join(l.private(), "kernel.json") }

// make makes the folders; the work folder belongs to the kernel's account.
func (l layout) make(a sandbox.Account) error {
	for dir, mode := range map[string]os.FileMode{l.dir: 0o711, l.private(): 0o700, l.root(): 0o755, l.work(): 0o755, l.tmp(): 0o777 | os.ModeSticky, l.config(): 0o755} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, mode)); err != nil {
			return err
		}
	}
	if os.Getuid() == 0 {
		return os.Chown(l.work(), a.UID, a.GID)
	}
	return nil
}

// save writes the record so that it is there as a whole or not at all.
func (l layout) save(r *record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeWhole(l.record(), raw)
}

func writeWhole(path string, raw []byte) error {
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (l layout) load() (*record, error) {
	raw, err := os.ReadFile(l.record())
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", l.record(), err)
	}
	return &r, nil
}

// remove removes all of the folder. What user code made unreadable is made readable first.
func (l layout) remove() error {
	if err := os.RemoveAll(l.dir); err == nil {
		return nil
	}
	filepath.WalkDir(l.dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(l.dir)
}

// environFile and resourceFile are what programs in a kernel read of themselves, in /home/config (spec/agent-protocol §16).
func environFile(env []string) string { return strings.Join(env, "\n") + "\n" }

func resourceFile(r *record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CID=%s\nSCRATCH_SIZE=0\n", r.ContainerID)
	fmt.Fprintf(&b, "MOUNTS=%s\n", strings.Join(mountTexts(r.Config.Mounts), ","))
	slots, _ := json.Marshal(r.Config.ResourceSlots)
	fmt.Fprintf(&b, "SLOTS=%s\n", slots)
	var cpus []string
	for _, c := range r.Allocation.CPUs {
		cpus = append(cpus, fmt.Sprintf("%d:1", c))
	}
	fmt.Fprintf(&b, "CPU_SHARES=%s\nMEM_SHARES=root:%d\n", strings.Join(cpus, ","), r.Allocation.MemBytes)
	return b.String()
}

func mountTexts(mounts []callosum.Mount) []string {
	list := []string{}
	for _, m := range mounts {
		perm := m.Perm
		if perm == "wd" {
			perm = "rw"
		}
		list = append(list, m.HostPath+":"+m.KernelPath+":"+perm)
	}
	return list
}
