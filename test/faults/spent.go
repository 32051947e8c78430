package main

import (
	"os"
	"time"

	"github.com/prometheus/procfs"
)

// spent is processor time, by who has taken it.
type spent struct {
	Managers time.Duration
	Stores   time.Duration // PostgreSQL, Redis, etcd
	Clients  time.Duration // they and the agents, which are this program, and HAProxy
}

func (s spent) plus(o spent) spent {
	return spent{s.Managers + o.Managers, s.Stores + o.Stores, s.Clients + o.Clients}
}

// minus is what was taken since before.
func (s spent) minus(before spent) spent {
	return spent{s.Managers - before.Managers, s.Stores - before.Stores, s.Clients - before.Clients}
}

// spent adds up what this program and all it has started have taken. Unlike what they achieve in a second, that hardly
// depends on what else the machine is doing.
func (w *world) spent() (s spent, err error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return s, err
	}
	stats := make(map[int]procfs.ProcStat, len(procs))
	for _, p := range procs {
		if stat, err := p.Stat(); err == nil { // else it has ended
			stats[p.PID] = stat
		}
	}
	self := os.Getpid()
	ours := func(pid int) bool {
		for range stats { // no longer than there are processes, should ids be used again meanwhile
			if pid == self {
				return true
			}
			stat, ok := stats[pid]
			if !ok {
				return false
			}
			pid = stat.PPID
		}
		return false
	}
	managers := make(map[int]bool)
	for _, n := range w.nodes {
		managers[n.program.PID()] = true
	}
	for pid, stat := range stats {
		if !ours(pid) {
			continue
		}
		taken := time.Duration(stat.CPUTime() * float64(time.Second))
		switch {
		case managers[pid]:
			s.Managers += taken
		case pid == self || stat.Comm == "haproxy":
			s.Clients += taken
		default:
			s.Stores += taken
		}
	}
	return s, nil
}
