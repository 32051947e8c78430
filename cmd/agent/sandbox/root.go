package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemFolders are shown read-only, with symbolic links as they are.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/sys/devices/system/cpu"}

// etcEntries are what programs need of /etc; the rest of it is nobody's business.
var etcEntries = []string{
	"alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts", "host.conf",
	"inputrc", "java", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "lsb-release", "magic",
	"mime.types", "nsswitch.conf", "os-release", "pki", "profile", "profile.d", "protocols", "R", "redhat-release", "services", "shells",
	"skel", "ssl", "terminfo", "timezone", "wgetrc",
}

var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

const sources = "/.mounts" // where folders to be mounted wait for the pivot

// buildRoot makes the new root and moves into it.
func buildRoot(s Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", unix.MS_NOSUID, "mode=755,size=64m"); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	b := builder{root: s.Root}
	for _, p := range systemFolders {
		b.system(p)
	}
	for _, p := range s.Prefixes {
		b.system(p)
	}
	b.etc(s)
	b.dev(s)
	b.proc(s.Isolation == Namespaces)
	b.mkdir("/run", 0o755)
	b.mkdir("/var/lib", 0o755)
	b.must(os.Symlink("/tmp", b.at("/var/tmp")))
	b.bind(s.Tmp, "/tmp", false)
	b.bind(s.Work, "/home/work", false)
	b.bind(s.Config, "/home/config", true)
	for i, m := range s.Mounts {
		b.bind(m.Source, sources+"/"+strconv.Itoa(i), m.ReadOnly)
	}
	b.mkdir("/.old", 0o700)
	if b.err != nil {
		return b.err
	}
	if err := unix.PivotRoot(s.Root, b.at("/.old")); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := errors.Join(os.Chdir("/"), unix.Unmount("/.old", unix.MNT_DETACH), os.Remove("/.old")); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := placeMounts(s); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, "")
}

// placeMounts puts the virtual folders in their places. Parents are above the folders within them, because the manager
// sends mounts in an order in which that holds or does not matter.
func placeMounts(s Spec) error {
	for i, m := range s.Mounts {
		target := filepath.Clean("/" + m.Target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("mount point %s: %w", target, err)
		}
		waiting := sources + "/" + strconv.Itoa(i)
		if err := unix.Mount(waiting, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return os.RemoveAll(sources)
}

// builder makes things below a root that is not yet the root; after the first error it does nothing.
type builder struct {
	root string
	err  error
}

func (b *builder) at(path string) string { return filepath.Join(b.root, path) }

func (b *builder) must(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) mkdir(path string, mode os.FileMode) {
	if b.err == nil {
		b.must(os.MkdirAll(b.at(path), mode))
	}
}

// system shows something of the machine in its own place, if it is there.
func (b *builder) system(path string) {
	info, err := os.Lstat(path)
	if err != nil || b.err != nil {
		return
	}
	if info.Mode()&os.ModeSymlink != 0 {
		link, err := os.Readlink(path)
		b.must(err)
		b.mkdir(filepath.Dir(path), 0o755)
		if b.err == nil {
			if err := os.Symlink(link, b.at(path)); err != nil && !errors.Is(err, os.ErrExist) {
				b.must(err)
			}
		}
		return
	}
	if _, err := os.Lstat(b.at(path)); err == nil && !emptyFolder(b.at(path)) {
		return // it came along with something else
	}
	b.bind(path, path, true)
}

func emptyFolder(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0
}

// bind shows source, a folder or a file, at target.
func (b *builder) bind(source, target string, readOnly bool) {
	if b.err != nil {
		return
	}
	info, err := os.Stat(source)
	if err != nil {
		b.must(err)
		return
	}
	if info.IsDir() {
		b.mkdir(target, 0o755)
	} else {
		b.mkdir(filepath.Dir(target), 0o755)
		if b.err == nil {
			b.must(os.WriteFile(b.at(target), nil, 0o644))
		}
	}
	if b.err != nil {
		return
	}
	at := b.at(target)
	if err := unix.Mount(source, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		b.must(fmt.Errorf("show %s as %s: %w", source, target, err))
		return
	}
	b.must(restrict(at, readOnly))
}

// restrict takes set-user-ID programs and, if wanted, writing from a mount and all below it.
func restrict(at string, readOnly bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, &attr)
	if err == nil || !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// Kernels before 5.12. What the mount above forbids has to be repeated, or a user namespace may not change it.
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return err
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_NOSUID)
	flags |= uintptr(st.Flags) & (unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", at, "", flags, "")
}

func (b *builder) etc(s Spec) {
	for _, name := range etcEntries {
		b.system("/etc/" + name)
	}
	b.mkdir("/etc", 0o755)
	name := s.Hostname
	if name == "" {
		name = "main1"
	}
	write := func(file, text string) {
		if b.err == nil {
			b.must(os.WriteFile(b.at("/etc/"+file), []byte(text), 0o644))
		}
	}
	write("passwd", fmt.Sprintf("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nwork:x:%d:%d:work:/home/work:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n", s.Account.UID, s.Account.GID))
	write("group", fmt.Sprintf("root:x:0:\nwork:x:%d:\nnogroup:x:65534:\n", s.Account.GID))
	write("hostname", name+"\n")
	write("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.0.1 "+strings.Join(append([]string{name}, s.Hosts...), " ")+"\n")
	if text, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		write("resolv.conf", string(text))
	}
}

func (b *builder) dev(s Spec) {
	b.mkdir("/dev/pts", 0o755)
	b.mkdir("/dev/shm", 0o755)
	for _, name := range devices {
		if _, err := os.Stat("/dev/" + name); err == nil && b.err == nil {
			b.must(os.WriteFile(b.at("/dev/"+name), nil, 0o666))
			b.must(unix.Mount("/dev/"+name, b.at("/dev/"+name), "", unix.MS_BIND, ""))
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if b.err == nil {
			b.must(os.Symlink(to, b.at("/dev/"+link)))
		}
	}
	if b.err != nil {
		return
	}
	if err := unix.Mount("devpts", b.at("/dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		b.must(fmt.Errorf("terminals: %w", err))
	}
	size := s.ShmBytes
	if size <= 0 {
		size = 64 << 20
	}
	if err := unix.Mount("tmpfs", b.at("/dev/shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size="+strconv.FormatInt(size, 10)); err != nil {
		b.must(fmt.Errorf("shared memory: %w", err))
	}
}

func (b *builder) proc(fresh bool) {
	b.mkdir("/proc", 0o555)
	if b.err != nil {
		return
	}
	if !fresh {
		b.must(unix.Mount("/proc", b.at("/proc"), "", unix.MS_BIND|unix.MS_REC, ""))
		return
	}
	if err := unix.Mount("proc", b.at("/proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		b.must(fmt.Errorf("proc: %w", err))
	}
}
