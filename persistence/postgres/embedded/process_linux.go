package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent makes the kernel stop the child when the thread that started it
// ends; so that thread must live as long as the child (see process).
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// holders lists the server processes that work in dataDir: a postmaster and its
// children all make it their working directory.
func holders(dataDir string) []int {
	real, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isServer(pid) {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && strings.TrimSuffix(cwd, " (deleted)") == real {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isServer tells whether a living process is a PostgreSQL server.
func isServer(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	open, shut := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || shut < open || shut+2 >= len(stat) || stat[shut+2] == 'Z' || stat[shut+2] == 'X' {
		return false
	}
	comm := string(stat[open+1 : shut])
	return comm == "postgres" || comm == "postmaster"
}
