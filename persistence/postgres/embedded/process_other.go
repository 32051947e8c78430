//go:build unix && !linux

package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent can't be had here: an orphan is found at the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// holders trusts postmaster.pid: there is no cheap way to ask for a process's directory.
func holders(dataDir string) []int {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 || syscall.Kill(pid, 0) == syscall.ESRCH {
		return nil
	}
	return []int{pid}
}
