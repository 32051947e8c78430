package simulation

import (
	"time"

	"backend.ai/manager/persistence/postgres/journal"
)

// journalWriters is how many writers a process has; a shard is pinned to one.
const journalWriters = 2

// writer is one writer of a process's journal. It mirrors persistence/postgres/journal: what has piled up is one transaction, tried again
// while the database is away and when the answer to a commit is lost; a batch that the database refuses is halved.
type writer struct {
	p     *process
	n     int
	queue []*journal.Entry
	busy  bool
}

// Submit makes a process an outbox.Journal.
func (p *process) Submit(e *journal.Entry) error {
	w := p.writers[int(e.Guard.Shard)%len(p.writers)]
	w.queue = append(w.queue, e)
	w.next()
	return nil
}

func (j *writer) next() {
	if j.busy || len(j.queue) == 0 {
		return
	}
	j.busy = true
	w := j.p.w
	d := w.between(200*time.Microsecond, 4*time.Millisecond)
	if w.chance(w.faults.slowCommit) {
		d += w.between(0, 2*time.Second)
	}
	w.after(d, j.p, func() {
		batch := j.queue
		if len(batch) > 4 && w.chance(w.faults.smallBatch) {
			batch = batch[:1+w.rng.IntN(len(batch)-1)]
		}
		j.queue = j.queue[len(batch):]
		j.commit(batch, func() {
			j.busy = false
			j.next()
		})
	})
}

func (j *writer) commit(batch []*journal.Entry, then func()) {
	w := j.p.w
	again := func() {
		w.stats.Retries++
		w.after(w.between(20*time.Millisecond, 2*time.Second), j.p, func() { j.commit(batch, then) })
	}
	if w.db.away {
		again()
		return
	}
	refusals, err := w.db.transact(batch)
	switch {
	case err == nil && w.chance(w.faults.commitAnswerLost):
		w.log("%s journal: the answer to a commit is lost", j.p)
		again() // it is committed all the same
	case err == nil:
		for _, e := range batch {
			finish(e, refusals[e])
		}
		then()
	case len(batch) == 1:
		finish(batch[0], err)
		then()
	default:
		half := len(batch) / 2
		j.commit(batch[:half], func() { j.commit(batch[half:], then) })
	}
}

// flush calls done when everything that has been submitted is written or refused.
func (p *process) flush(done func()) {
	waiting := len(p.writers)
	for _, w := range p.writers {
		w.queue = append(w.queue, &journal.Entry{Done: func(error) {
			if waiting--; waiting == 0 {
				done()
			}
		}})
		w.next()
	}
}

func finish(e *journal.Entry, err error) {
	if e.Done != nil {
		e.Done(err)
	}
}
