package outbox

import (
	"errors"
	"time"

	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// Effect is what a core wants done; each kind of actor has its own kinds.
type Effect any

// Persist writes rows under the actor's shard. Effects behind it in the same step wait for the commit.
type Persist struct {
	Label    string
	Also     *journal.Guard
	Sessions []journal.NewSession
	Kernels  []*record.KernelPatch
	Agents   []*journal.AgentPatch
}

// Committed is the message by which the journal's answer comes back to the actor.
type Committed struct {
	Label string
	Err   error
}

// Refused is the event a core gets when its rows were not written.
type Refused struct {
	Label string
	Err   error
}

// retryFull is the pause before a full journal is tried again.
const retryFull = 20 * time.Millisecond

// Journal takes entries; *journal.Journal is one.
type Journal interface {
	Submit(*journal.Entry) error
}

// Outbox is the queue of one actor.
type Outbox struct {
	journal Journal
	guard   journal.Guard
	// post brings a message to the actor itself, from any goroutine.
	post func(any)
	// perform carries one effect out that is no Persist.
	perform func(Effect)

	steps   [][]Effect
	waiting *Persist
}

// New makes the outbox of an actor. post sends a message to the actor itself;
// perform carries out the effects that are no Persist.
func New(j Journal, guard journal.Guard, post func(any), perform func(Effect)) *Outbox {
	return &Outbox{journal: j, guard: guard, post: post, perform: perform}
}

// Add queues the effects of one step and carries out what need not wait. After a
// Refused event it must be called with what the core makes of it, even if that is nothing.
func (o *Outbox) Add(effects []Effect) {
	if len(effects) > 0 {
		o.steps = append(o.steps, effects)
	}
	if o.waiting == nil {
		o.run()
	}
}

// Idle reports whether everything has been carried out.
func (o *Outbox) Idle() bool { return o.waiting == nil && len(o.steps) == 0 }

// Waiting is the label of the rows that are being written, "" if none.
func (o *Outbox) Waiting() string {
	if o.waiting == nil {
		return ""
	}
	return o.waiting.Label
}

// Committed goes on after the journal's answer. It returns the event for the core
// when the rows were refused.
func (o *Outbox) Committed(c *Committed) *Refused {
	if o.waiting == nil {
		return nil
	}
	if errors.Is(c.Err, journal.ErrFull) {
		o.submit(o.waiting)
		return nil
	}
	o.waiting = nil
	failpoint.Hit(failpoint.AfterCommit)
	if c.Err != nil {
		o.steps = o.steps[1:] // the rest of the step that was refused
		return &Refused{Label: c.Label, Err: c.Err}
	}
	o.run()
	return nil
}

func (o *Outbox) run() {
	for len(o.steps) > 0 {
		for len(o.steps[0]) > 0 {
			e := o.steps[0][0]
			o.steps[0] = o.steps[0][1:]
			if p, ok := e.(*Persist); ok {
				o.waiting = p
				o.submit(p)
				return
			}
			o.perform(e)
		}
		o.steps = o.steps[1:]
	}
	o.steps = nil
}

func (o *Outbox) submit(p *Persist) {
	label := p.Label
	err := o.journal.Submit(&journal.Entry{
		Guard: o.guard, Also: p.Also, Sessions: p.Sessions, Kernels: p.Kernels, Agents: p.Agents,
		Done: func(err error) { o.post(&Committed{Label: label, Err: err}) },
	})
	switch {
	case errors.Is(err, journal.ErrFull):
		time.AfterFunc(retryFull, func() { o.post(&Committed{Label: label, Err: err}) })
	case err != nil:
		o.post(&Committed{Label: label, Err: err})
	}
}
