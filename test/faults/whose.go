package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// tenants know which process a local connection belongs to.
type tenants struct {
	mu   sync.Mutex
	pids map[int]string
}

func (t *tenants) set(pid int, name string) {
	t.mu.Lock()
	if t.pids == nil {
		t.pids = make(map[int]string)
	}
	t.pids[pid] = name
	t.mu.Unlock()
}

func (t *tenants) drop(pid int) {
	t.mu.Lock()
	delete(t.pids, pid)
	t.mu.Unlock()
}

// owner is the node whose end of a connection has the address client.
func (t *tenants) owner(client, server net.Addr) string {
	inode := inodeOf(client.(*net.TCPAddr), server.(*net.TCPAddr))
	if inode == "" {
		return ""
	}
	want := "socket:[" + inode + "]"
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, name := range t.pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == want {
				return name
			}
		}
	}
	return ""
}

// inodeOf finds the socket of a loopback connection in the kernel's table.
func inodeOf(local, remote *net.TCPAddr) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	from, to := fmt.Sprintf(":%04X", local.Port), fmt.Sprintf(":%04X", remote.Port)
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], from) && strings.HasSuffix(fields[2], to) {
			return fields[9]
		}
	}
	return ""
}
