package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Isolation is a degree of separation, see the package's text.
type Isolation string

// The degrees, from the strictest.
const (
	Namespaces Isolation = "namespaces"
	Mounts     Isolation = "mounts"
	Process    Isolation = "process"
)

// degrees in the order in which they are tried.
var degrees = []Isolation{Namespaces, Mounts, Process}

// ParseIsolation reads a degree by name; "" and "auto" give "", which means: the strictest that works.
func ParseIsolation(name string) (Isolation, error) {
	switch i := Isolation(name); i {
	case "", "auto":
		return "", nil
	case Namespaces, Mounts, Process:
		return i, nil
	}
	return "", fmt.Errorf("isolation %q: want auto, namespaces, mounts or process", name)
}

// HasMounts tells whether kernels see a file system of their own.
func (i Isolation) HasMounts() bool { return i == Namespaces || i == Mounts }

// Account is who a kernel runs as.
type Account struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// innerID is the uid and gid that a kernel sees inside a user namespace.
const innerID = 1000

// Inside is the account as processes in the kernel see it: its own in a user namespace, else the same as outside.
func (a Account) Inside(i Isolation) Account {
	if i.HasMounts() && os.Getuid() != 0 {
		return Account{innerID, innerID}
	}
	return a
}

// Attributes says how to clone a process that will call Enter. The process leads a session of its own, so that
// signals meant for the agent's terminal never reach it, and it does not die with the agent.
func Attributes(i Isolation, c *Cgroup) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if i.HasMounts() {
		attr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		if i == Namespaces {
			attr.Cloneflags |= unix.CLONE_NEWPID
		}
		if os.Getuid() != 0 {
			attr.Cloneflags |= unix.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: innerID, HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: innerID, HostID: os.Getgid(), Size: 1}}
			// Without these an execve would take away what the namespace gave; Enter gives them up for good.
			attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_CHROOT}
		}
	}
	if c != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.dir.Fd())
	}
	return attr
}

// ProbeCommand is the hidden sub-command that Probe runs the own program with.
const ProbeCommand = "sandbox-probe"

// Probe finds the strictest degree that works here for the account by trying them, none stricter than wanted ("" for
// any). dir is a folder it may create one in. It takes some ten milliseconds; Process always works.
func Probe(ctx context.Context, dir string, account Account, wanted Isolation, log *slog.Logger) Isolation {
	for _, i := range degrees {
		if wanted != "" && i != wanted {
			continue
		}
		err := try(ctx, dir, account, i)
		if err == nil {
			return i
		}
		log.Info("this degree of isolation does not work here", "isolation", i, "err", err)
		if wanted != "" {
			wanted = Process
		}
	}
	return Process
}

func try(ctx context.Context, dir string, account Account, i Isolation) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	scratch, err := os.MkdirTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	os.Chmod(scratch, 0o755)
	spec := Spec{Isolation: i, Account: account.Inside(i), Hostname: "probe"}
	for name, path := range map[string]*string{"root": &spec.Root, "work": &spec.Work, "tmp": &spec.Tmp, "config": &spec.Config} {
		*path = filepath.Join(scratch, name)
		if err := errors.Join(os.Mkdir(*path, 0o777), os.Chmod(*path, 0o777)); err != nil { // whatever the umask
			return err
		}
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ProbeCommand)
	cmd.Env = []string{"PATH=" + Path}
	cmd.Stdin = bytes.NewReader(raw)
	cmd.SysProcAttr = Attributes(i, nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ProbeMain is the child of Probe.
func ProbeMain() error {
	var spec Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	if err := Enter(spec); err != nil {
		return err
	}
	if spec.Isolation == Namespaces && os.Getpid() != 1 {
		return errors.New("not the first process of a PID namespace")
	}
	if _, err := os.ReadFile("/proc/self/stat"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(spec.Home(), "x"), nil, 0o600); err != nil {
		return err
	}
	// The shell shows that programs and their libraries are there.
	return exec.Command("/bin/sh", "-c", ": >/dev/null").Run()
}
