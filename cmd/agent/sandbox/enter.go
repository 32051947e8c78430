package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Path is the PATH of kernels.
const Path = "/home/work/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Spec is what Enter builds. Paths are absolute, of the machine unless said otherwise.
type Spec struct {
	Isolation Isolation `json:"isolation"`
	Account   Account   `json:"account"` // as seen from inside
	Hostname  string    `json:"hostname"`
	Root      string    `json:"root"`   // an empty folder to mount the new root on
	Work      string    `json:"work"`   // becomes /home/work
	Tmp       string    `json:"tmp"`    // becomes /tmp
	Config    string    `json:"config"` // becomes /home/config, read-only
	// Hosts are names that lead to this machine: the cluster's.
	Hosts []string `json:"hosts,omitempty"`
	// Prefixes are further folders to show read-only in their place: where interpreters live.
	Prefixes []string `json:"prefixes,omitempty"`
	Mounts   []Mount  `json:"mounts,omitempty"`
	// ShmBytes is the size of /dev/shm; 0: 64 MiB.
	ShmBytes  int64 `json:"shm_bytes,omitempty"`
	Processes int64 `json:"processes,omitempty"` // rlimit; 0: as inherited
	Files     int64 `json:"files,omitempty"`     // rlimit; 0: as inherited
	CPUs      []int `json:"cpus,omitempty"`      // to run on; empty: all
}

// Mount shows a folder of the machine inside.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"` // inside
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Home is the work folder as the kernel sees it.
func (s Spec) Home() string {
	if s.Isolation.HasMounts() {
		return "/home/work"
	}
	return s.Work
}

// Enter turns the calling process, cloned with Attributes, into one inside the sandbox. What it gives up is given up for
// the calling thread, which it keeps locked: execute a program next, so that this thread is all that remains.
func Enter(s Spec) error {
	runtime.LockOSThread()
	if s.Isolation.HasMounts() {
		if err := buildRoot(s); err != nil {
			return err
		}
		if s.Hostname != "" {
			if err := unix.Sethostname([]byte(s.Hostname)); err != nil && os.Getuid() == 0 {
				return fmt.Errorf("hostname: %w", err)
			}
		}
	} else if err := linkMounts(s); err != nil {
		return err
	}
	if err := limit(s); err != nil {
		return err
	}
	if err := drop(s.Account); err != nil {
		return err
	}
	syscall.Umask(0o022)
	return os.Chdir(s.Home())
}

// linkMounts stands in for mounts where there are none: what should be below the work folder becomes a symbolic link.
func linkMounts(s Spec) error {
	for _, m := range s.Mounts {
		rel, err := filepath.Rel("/home/work", m.Target)
		if err != nil || !filepath.IsLocal(rel) || rel == "." {
			continue
		}
		root, err := os.OpenRoot(s.Work)
		if err != nil {
			return err
		}
		err = errors.Join(root.MkdirAll(filepath.Dir(rel), 0o755), root.RemoveAll(rel), root.Symlink(m.Source, rel), root.Close())
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func limit(s Spec) error {
	set := func(resource int, n int64) error {
		if n <= 0 {
			return nil
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return err
		}
		v := min(uint64(n), now.Max)
		return unix.Setrlimit(resource, &unix.Rlimit{Cur: v, Max: v})
	}
	err := errors.Join(set(unix.RLIMIT_NPROC, s.Processes), set(unix.RLIMIT_NOFILE, s.Files),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	if len(s.CPUs) > 0 {
		var set unix.CPUSet
		for _, c := range s.CPUs {
			set.Set(c)
		}
		unix.SchedSetaffinity(0, &set) // a machine that forbids it shares its cores instead
	}
	return nil
}

// drop gives up every privilege of the thread.
func drop(a Account) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	if os.Getuid() == 0 && a.UID != 0 {
		// Once the account has changed, all capabilities are gone.
		if err := errors.Join(syscall.Setgroups([]int{a.GID}), syscall.Setresgid(a.GID, a.GID, a.GID), syscall.Setresuid(a.UID, a.UID, a.UID)); err != nil {
			return fmt.Errorf("change to account %d: %w", a.UID, err)
		}
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}
