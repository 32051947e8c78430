package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// entry is something that happened. Start is the time since the beginning of the run.
type entry struct {
	Start time.Duration `json:"at"`
	End   time.Duration `json:"end,omitempty"`
	// What: request, fault, healing, whole, view, command, node, violation, rest.
	What string `json:"what"`
	// Fault is the number of the last fault, 0 before the first.
	Fault  int    `json:"fault"`
	Op     string `json:"op,omitempty"`
	Name   string `json:"name,omitempty"`
	ID     string `json:"id,omitempty"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	Text   string `json:"text,omitempty"`
}

// bad is a request that failed for no fault of the client's. GraphQL says so within a 400.
func (e entry) bad() bool {
	return e.What == "request" && (e.Status == 0 || e.Status >= 500 || e.Op == "list" && e.Status == 400)
}

// strange says why an answer is one that no client should get, whatever happens to nodes and stores; "" when it is not. An agent that has
// crashed explains more.
func (e entry) strange() string {
	switch {
	case e.Status == 500 && strings.Contains(e.Error, "probs/internal-server-error"):
		return "an answer of 500 says that the manager is wrong, not that something is away"
	case e.Status == 401 || e.Status == 429:
		return "a right request is refused"
	case (e.Op == "info" || e.Op == "execute" || e.Op == "destroy") && (e.Status == 403 || e.Status == 404):
		return "a session that runs is denied"
	}
	return ""
}

// key tells requests apart.
func (e entry) key() string { return fmt.Sprint(e.Start, e.Op, e.Name) }

func (e entry) String() string {
	s := fmt.Sprintf("%9.3f %-9s", e.Start.Seconds(), e.What)
	if e.What == "request" {
		s += fmt.Sprintf(" %-8s %-16s %3d in %.3f s", e.Op, e.Name, e.Status, (e.End - e.Start).Seconds())
	}
	if e.Text != "" {
		s += " " + e.Text
	}
	if e.ID != "" {
		s += " (" + e.ID + ")"
	}
	if e.Error != "" {
		s += ": " + e.Error
	}
	return s
}

// history is everything that happened, in memory and in a file.
type history struct {
	began time.Time

	mu      sync.Mutex
	entries []entry
	fault   int
	file    *os.File
	out     *bufio.Writer
}

func newHistory(dir string) (*history, error) {
	f, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return nil, err
	}
	return &history{began: time.Now(), file: f, out: bufio.NewWriter(f)}, nil
}

func (h *history) now() time.Duration { return time.Since(h.began) }

// add notes something; an entry without a time happens now.
func (h *history) add(e entry) {
	if e.Start == 0 {
		e.Start = h.now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Fault == 0 {
		e.Fault = h.fault
	}
	h.entries = append(h.entries, e)
	line, err := json.Marshal(e)
	if err == nil {
		_, _ = h.out.Write(append(line, '\n'))
	}
}

// begin says when something begins, and after which fault.
func (h *history) begin(e entry) entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Start, e.Fault = h.now(), h.fault
	return e
}

func (h *history) setFault(n int) {
	h.mu.Lock()
	h.fault = n
	h.mu.Unlock()
}

// between are the entries that touch an interval, in the order of their beginnings.
func (h *history) between(from, to time.Duration) []entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []entry
	for _, e := range h.entries {
		if e.Start <= to && max(e.Start, e.End) >= from {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return int(a.Start - b.Start) })
	return list
}

func (h *history) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.out.Flush()
	_ = h.file.Close()
}
