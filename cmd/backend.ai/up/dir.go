package up

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// directory is the data directory, locked.
type directory struct {
	path string
	lock *os.File

	mu    sync.Mutex
	state state
}

// state is what must not change over restarts.
type state struct {
	// Name is the machine's at the first start and something that tells clusters on one machine apart: agents and manager are called
	// after it, rows refer to them, and control groups are named after agents.
	Name          string         `json:"name"`
	Secret        string         `json:"secret"` // manager.secret
	RedisPassword string         `json:"redis_password"`
	Ports         map[string]int `json:"ports"`
}

// openDirectory makes the directory if it is missing and locks it. Errors: InvalidConfig for a directory that holds something else,
// Conflict when another process works in it.
func openDirectory(path string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	if err := os.MkdirAll(path, openMode()); err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "the data directory can't be made: %v", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "the data directory can't be read: %v", err)
	}
	if _, err := os.Stat(d.file("lock")); errors.Is(err, fs.ErrNotExist) && len(entries) > 0 {
		return nil, backendai.Errorf(backendai.InvalidConfig, "%s holds other things and was left untouched; choose another data directory with --data", path)
	}
	d.lock, err = os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "%v", err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(d.file("lock"))
		d.lock.Close()
		return nil, backendai.Errorf(backendai.Conflict, "a cluster is running in %s already (process %s)", path, strings.TrimSpace(string(pid)))
	}
	if err := errors.Join(d.lock.Truncate(0), d.write("lock", strconv.Itoa(os.Getpid())+"\n", false), d.load()); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *directory) close() { _ = d.lock.Close() } // and with it the lock

func (d *directory) file(names ...string) string {
	return filepath.Join(append([]string{d.path}, names...)...)
}

// mkdir makes a directory below that only its owner enters.
func (d *directory) mkdir(names ...string) (string, error) { return d.mkdirMode(0o700, names...) }

// mkdirOpen makes a directory below that is as open as the data directory itself: kernels have something in it.
func (d *directory) mkdirOpen(names ...string) (string, error) {
	return d.mkdirMode(openMode(), names...)
}

// openMode lets users without privileges pass through when root owns a directory (see doc.go).
func openMode() fs.FileMode {
	if os.Geteuid() == 0 {
		return 0o755
	}
	return 0o700
}

func (d *directory) mkdirMode(mode fs.FileMode, names ...string) (string, error) {
	path := d.file(names...)
	if err := os.MkdirAll(path, mode); err != nil {
		return "", backendai.Errorf(backendai.InvalidConfig, "%v", err)
	}
	return path, nil
}

// write writes a file that only its owner reads; whole, by way of another name, or in place.
func (d *directory) write(name, text string, whole bool) error {
	path := d.file(name)
	if !whole {
		return os.WriteFile(path, []byte(text), 0o600)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// load reads the state, or draws a first one.
func (d *directory) load() error {
	raw, err := os.ReadFile(d.file("state.json"))
	if err == nil {
		err = json.Unmarshal(raw, &d.state)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		name, err := os.Hostname()
		if err != nil || strings.ContainsAny(name, "/ \t") || name == "" {
			name = "local"
		}
		d.state = state{Name: name + "-" + uuid.NewString()[:4], Secret: backendai.RandomToken(24), RedisPassword: backendai.RandomToken(24)}
	case err != nil:
		return backendai.Errorf(backendai.InvalidConfig, "%s can't be used: %v", d.file("state.json"), err)
	}
	if d.state.Ports == nil {
		d.state.Ports = map[string]int{}
	}
	return d.save()
}

func (d *directory) save() error {
	raw, err := json.MarshalIndent(d.state, "", "  ")
	if err != nil {
		return err
	}
	return d.write("state.json", string(raw)+"\n", true)
}

// port gives a service its port of the loopback: the one it had last time if that is free, else any. Two services never get the same.
func (d *directory) port(service string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := map[int]bool{}
	for name, p := range d.state.Ports {
		taken[p] = name != service
	}
	if p := d.state.Ports[service]; p != 0 && !taken[p] && free(p) {
		return p, nil
	}
	for range 64 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		p := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if !taken[p] {
			d.state.Ports[service] = p
			return p, d.save()
		}
	}
	return 0, fmt.Errorf("no free port was found for %s", service)
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
