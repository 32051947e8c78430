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

func (s spent) total() time.Duration { return s.Managers + s.Stores + s.Clients }

// minus is what was taken since before.
func (s spent) minus(before spent) spent {
	return spent{s.Managers - before.Managers, s.Stores - before.Stores, s.Clients - before.Clients}
}

// spent adds up what this program and all it has started have taken. A machine whose memory others keep busy takes more of it for the same work.
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

const (
	// Whoever has worked before still writes, sweeps and checkpoints for a while. It is over when, for restFor, less than restShare of
	// a processor is taken. A machine that never rests is not waited for longer than restAtMost.
	restFor    = 250 * time.Millisecond
	restShare  = 0.15
	restAtMost = 2 * time.Second
)

// settled waits until nothing of what was started has much to do, and tells what was spent until then.
func (w *world) settled() (spent, error) {
	begin := time.Now()
	last, err := w.spent()
	for err == nil {
		at := time.Now()
		time.Sleep(restFor)
		var now spent
		now, err = w.spent()
		taken := now.minus(last).total()
		if last = now; float64(taken) < restShare*float64(time.Since(at)) || time.Since(begin) > restAtMost {
			break
		}
	}
	return last, err
}
