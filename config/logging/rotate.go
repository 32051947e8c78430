package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	backendai "backend.ai/manager"
)

// rotating is a file that moves to .1 when it would grow over its size, .1 to .2 and so on. Log libraries name old files by time;
// operators of the original have .1 … .N in their scripts.
type rotating struct {
	mu      sync.Mutex
	path    string
	limit   int64
	backups int
	f       *os.File
	size    int64
}

func openRotating(dir, name string, limit int64, backups int) (*rotating, error) {
	r := &rotating{path: filepath.Join(dir, name), limit: limit, backups: backups}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "logging.file.path: %v", err)
	}
	if err := r.open(); err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "logging.file: %v", err)
	}
	return r, nil
}

func (r *rotating) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.size = f, st.Size()
	return nil
}

// Write takes whole lines, so a line is never split over two files.
func (r *rotating) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return 0, os.ErrClosed
	}
	if r.size > 0 && r.size+int64(len(line)) > r.limit {
		if err := r.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(line)
	r.size += int64(n)
	return n, err
}

func (r *rotating) rotate() error {
	for i := r.backups - 1; i >= 1; i-- {
		if err := os.Rename(fmt.Sprintf("%s.%d", r.path, i), fmt.Sprintf("%s.%d", r.path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(r.path, r.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := r.f
	if err := r.open(); err != nil {
		return err // keep writing to the renamed file rather than to none
	}
	return old.Close()
}

func (r *rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	err := errors.Join(r.f.Sync(), r.f.Close())
	r.f = nil
	return err
}
