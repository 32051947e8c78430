package host

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Executor carries runs out; what it says comes back through Runs' methods.
type Executor interface {
	Query(code string) error
	Batch(clean, build, exec *string)
	Input(text string) error
}

// maxQueued bounds the output that waits to be fetched, in bytes; the log has the rest.
const maxQueued = 10 << 20

// Runs is the queue between the code that runs and those who ask for its output. One run goes on at a time:
//
//	none ── query, batch ──▶ running ◀──────────▶ waiting for input
//	  ▲                        │ finish
//	  └── next run ── ended: its last result can be fetched, and fetched again
type Runs struct {
	executor Executor

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	run     *run
}

type run struct {
	id       string
	ended    bool // finish has been called; what is queued may still be fetched
	waiting  bool // for input
	password bool
	queue    []entry
	queued   int
	cut      bool
	last     *Result // the final result, once it was fetched
}

// entry is a piece of output, or a change of status.
type entry struct {
	item   Item
	status *Result
}

// NewRuns returns an empty queue.
func NewRuns(e Executor) *Runs { return &Runs{executor: e, changed: make(chan struct{})} }

func (r *Runs) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Execute begins a run, answers its question or just waits; it returns at the next change of status or, with what output
// there is, after the flush time. A run begins when the one before has ended.
func (r *Runs) Execute(ctx context.Context, q Request) (Result, error) {
	var flush <-chan time.Time
	if q.FlushSeconds != nil {
		timer := time.NewTimer(time.Duration(*q.FlushSeconds * float64(time.Second)))
		defer timer.Stop()
		flush = timer.C
	}
	switch q.Mode {
	case "query", "batch":
		if err := r.begin(ctx, q); err != nil {
			return Result{}, err
		}
	case "input":
		if err := r.input(q); err != nil {
			return Result{}, err
		}
	case "continue":
	default:
		return Result{}, fmt.Errorf("unknown execution mode: %s", q.Mode)
	}
	for {
		r.mu.Lock()
		res, ok, err := r.take(q.RunID, q.Mode == "continue", false)
		changed := r.changed
		r.mu.Unlock()
		if ok || err != nil {
			return res, err
		}
		select {
		case <-changed:
		case <-flush:
			r.mu.Lock()
			defer r.mu.Unlock()
			res, _, err := r.take(q.RunID, q.Mode == "continue", true)
			return res, err
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
}

func (r *Runs) begin(ctx context.Context, q Request) error {
	for {
		r.mu.Lock()
		if r.run == nil || r.run.ended {
			r.run = &run{id: q.RunID}
			r.wake()
			r.mu.Unlock()
			if q.Mode == "batch" {
				r.executor.Batch(q.Clean, q.Build, q.Exec)
				return nil
			}
			if err := r.executor.Query(q.Code); err != nil {
				r.Output("stderr", "The interpreter cannot be started: "+err.Error()+"\n")
				r.Finish(StatusFinished, 127)
			}
			return nil
		}
		if r.run.id == q.RunID { // the answer to the first asking was lost, or the client mixes up its modes
			r.mu.Unlock()
			return nil
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *Runs) input(q Request) error {
	r.mu.Lock()
	if r.run == nil || r.run.id != q.RunID {
		r.mu.Unlock()
		return notUnderWay(q.RunID)
	}
	asked := r.run.waiting
	r.run.waiting = false
	r.mu.Unlock()
	if !asked {
		return nil
	}
	return r.executor.Input(q.Code)
}

func notUnderWay(id string) error { return fmt.Errorf("run %s is not under way", id) }

// take makes a result of what is queued, up to the first change of status; without one only if flush is set. again
// permits to give once more what was given before.
func (r *Runs) take(id string, again, flush bool) (Result, bool, error) {
	run := r.run
	if run == nil || run.id != id {
		return Result{}, false, notUnderWay(id)
	}
	res := Result{RunID: id, Status: StatusContinued}
	n := 0
	for ; n < len(run.queue); n++ {
		if s := run.queue[n].status; s != nil {
			items := merge(run.queue[:n])
			res, n = *s, n+1
			res.RunID, res.Console = id, items
			run.drop(n)
			if res.Status == StatusFinished {
				run.last = &Result{RunID: id, Status: res.Status, ExitCode: res.ExitCode}
			}
			return res, true, nil
		}
	}
	switch {
	case run.last != nil:
		return *run.last, true, nil
	case again && run.waiting:
		res.Status, res.IsPassword = StatusWaitingInput, run.password
	case !flush:
		return Result{}, false, nil
	}
	res.Console = merge(run.queue)
	run.drop(n)
	return res, true, nil
}

func (run *run) drop(n int) {
	for _, e := range run.queue[:n] {
		run.queued -= len(e.item.Text) + len(e.item.Data)
	}
	run.queue = run.queue[n:]
}

// merge joins consecutive output of one stream.
func merge(list []entry) (items []Item) {
	for _, e := range list {
		last := len(items) - 1
		if last >= 0 && e.item.Data == nil && items[last].Data == nil && items[last].Type == e.item.Type {
			items[last].Text += e.item.Text
			continue
		}
		items = append(items, e.item)
	}
	return items
}

// GiveBack puts a result back that did not reach the one who asked for it.
func (r *Runs) GiveBack(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	if run == nil || run.id != res.RunID {
		return
	}
	var back []entry
	for _, i := range res.Console {
		back = append(back, entry{item: i})
		run.queued += len(i.Text) + len(i.Data)
	}
	if res.Status != StatusContinued && (res.Status != StatusWaitingInput || run.waiting) {
		back = append(back, entry{status: &Result{Status: res.Status, ExitCode: res.ExitCode, IsPassword: res.IsPassword}})
		run.last = nil
	}
	run.queue = append(back, run.queue...)
	r.wake()
}

func (r *Runs) add(item Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	if run == nil || run.ended {
		return
	}
	size := len(item.Text) + len(item.Data)
	if run.queued+size > maxQueued {
		if run.cut {
			return
		}
		run.cut = true
		item = Item{Type: "stderr", Text: "\n[output left out here]\n"}
		size = len(item.Text)
	} else if run.cut && run.queued < maxQueued/2 {
		run.cut = false
	}
	run.queued += size
	if n := len(run.queue) - 1; n >= 0 && run.queue[n].status == nil && item.Data == nil && run.queue[n].item.Data == nil &&
		run.queue[n].item.Type == item.Type && len(run.queue[n].item.Text) < 64<<10 {
		run.queue[n].item.Text += item.Text
		return
	}
	run.queue = append(run.queue, entry{item: item})
}

// Output takes what the code that runs prints.
func (r *Runs) Output(stream, text string) { r.add(Item{Type: stream, Text: text}) }

// Rich takes html and media.
func (r *Runs) Rich(kind string, data json.RawMessage) { r.add(Item{Type: kind, Data: data}) }

// AskInput says that the code waits for input.
func (r *Runs) AskInput(password bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.run; run != nil && !run.ended {
		run.waiting, run.password = true, password
		run.queue = append(run.queue, entry{status: &Result{Status: StatusWaitingInput, IsPassword: password}})
		r.wake()
	}
}

// Finish says that a step (of a batch run) or the whole run has ended.
func (r *Runs) Finish(status string, exit int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.run; run != nil && !run.ended {
		run.waiting = false
		run.ended = status == StatusFinished
		run.queue = append(run.queue, entry{status: &Result{Status: status, ExitCode: &exit}})
		r.wake()
	}
}

// Busy tells whether code runs.
func (r *Runs) Busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run != nil && !r.run.ended
}
