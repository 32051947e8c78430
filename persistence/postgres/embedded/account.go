package embedded

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	backendai "backend.ai/manager"
)

// account is who the server runs as. The zero value is the current user.
type account struct {
	name     string
	uid, gid int
	other    bool // not the current user: drop to it, and give it the files
}

// accountFor decides who runs the server: the current user, or for root an
// unprivileged one. Errors: ServerMisconfigured.
func accountFor(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	names := []string{"postgres", "nobody"}
	if name != "" {
		names = []string{name}
	}
	for _, n := range names {
		u, err := user.Lookup(n)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return account{name: n, uid: uid, gid: gid, other: true}, nil
		}
	}
	return account{}, backendai.Errorf(backendai.ServerMisconfigured, "PostgreSQL can't run as root, and none of the users %q exists", names)
}

// attributes of a process of this account, apart from the terminal's signals: a
// ^C is for the program that owns the server, which stops it in its own order.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// own makes a directory that only the account can enter. One that exists must be
// a directory of the account or of the current user: in a place where everybody
// can write, somebody else may have made it first. Errors: ServerMisconfigured.
func (a account) own(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	mine := ok && (int(st.Uid) == os.Geteuid() || a.other && int(st.Uid) == a.uid)
	if !info.IsDir() || !mine {
		return backendai.Errorf(backendai.ServerMisconfigured, "%s is not a directory of ours", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return a.give(dir)
}

// give hands one file or directory to the account.
func (a account) give(path string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// reach checks that the account can enter every directory above dir: root can
// make a home that its server can't see. Errors: ServerMisconfigured.
func (a account) reach(dir string) error {
	if !a.other {
		return nil
	}
	for p := filepath.Dir(dir); ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		bit := os.FileMode(0o001)
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if int(st.Uid) == a.uid {
				bit = 0o100
			} else if int(st.Gid) == a.gid {
				bit = 0o010
			}
		}
		if info.Mode()&bit == 0 {
			return backendai.Errorf(backendai.ServerMisconfigured,
				"user %s, who runs PostgreSQL for root, can't enter %s (mode %04o); choose a data directory elsewhere or start as another user", a.name, p, info.Mode().Perm())
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}
