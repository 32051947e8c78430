package sandbox

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Birth is when a process was started, in clock ticks since the machine was: together with its id it names a process
// for good. It fails when there is no such process, or only its zombie.
func Birth(pid int) (uint64, error) {
	for again := false; ; again = true {
		fields, err := statFields(pid)
		if err != nil {
			return 0, err
		}
		if !ended(fields) {
			return strconv.ParseUint(fields[19], 10, 64)
		}
		if again {
			return 0, os.ErrProcessDone
		}
	}
}

// ended tells whether a process is a zombie, or no more. A first thread is also a zombie while others go on without it: for a moment, when one
// of them becomes another program and Linux lets it take the first one's place. Who looks just then may see what was before, and has to look again.
func ended(stat []string) bool {
	state, threads := stat[0], stat[17]
	return state == "X" || state == "Z" && (threads == "0" || threads == "1")
}

// statFields are those of /proc/PID/stat from the third (the state) on.
func statFields(pid int) ([]string, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return nil, errors.New("short stat line")
	}
	return fields, nil
}

// Forest is all processes of the machine by their parent, at one moment.
type Forest map[int][]int

// Processes looks at all processes once.
func Processes() Forest {
	children := Forest{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields, err := statFields(p); err == nil {
			if parent, err := strconv.Atoi(fields[1]); err == nil {
				children[parent] = append(children[parent], p)
			}
		}
	}
	return children
}

// Tree lists a process and all its descendants. The first process of a PID namespace, and a sub-reaper, has every process of
// the kernel below it: what loses its parent becomes its child.
func (f Forest) Tree(pid int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		list = append(list, f[list[i]]...)
	}
	return list
}

// Tree is Processes().Tree.
func Tree(pid int) []int { return Processes().Tree(pid) }

// KillTree kills a process, born at birth, with all its descendants, and returns when none is left. It stops each before it kills,
// so that none can have children while the others are being killed. Nothing happens when the id is another process's by now.
func KillTree(ctx context.Context, pid int, birth uint64) error {
	if now, err := Birth(pid); err != nil || now != birth {
		return nil
	}
	for known := 0; ; {
		list := Tree(pid)
		for _, p := range list {
			unix.Kill(p, unix.SIGSTOP)
		}
		if len(list) == known {
			break
		}
		known = len(list)
	}
	for list := Tree(pid); ; {
		for _, p := range list {
			unix.Kill(p, unix.SIGKILL)
		}
		alive := false
		for _, p := range list {
			if _, err := Birth(p); err == nil {
				alive = true
			}
		}
		if !alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
