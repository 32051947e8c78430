package simulation

import "time"

// faults are the probabilities of what can go wrong by itself; the zero value is a world in order.
type faults struct {
	hiccup, slowRead, slowCommit, smallBatch, readFails, commitAnswerLost float64
	netLost, netTwice, netLate, netReorder                                float64
	rpcNeverArrives, rpcSilence, rpcLate, rpcAnswerLost, rpcOverload      float64
	eventLost, eventTwice, eventLate                                      float64
	slowCreate, pull, createFails, selfDeath, networkFails                float64
	viewDelay                                                             time.Duration
}

// drawFaults gives a world faults of its own: some kinds at all, each as often as it is drawn.
func (w *World) drawFaults() {
	f := &w.faults
	some := func(most float64, into ...*float64) {
		for _, p := range into {
			if w.rng.IntN(3) > 0 {
				*p = most * w.rng.Float64()
			}
		}
	}
	some(0.02, &f.hiccup)
	some(0.1, &f.slowRead, &f.slowCommit, &f.readFails)
	some(0.5, &f.smallBatch, &f.pull)
	some(0.03, &f.commitAnswerLost)
	if !w.opts.ReliableNetwork {
		some(0.05, &f.netLost)
	}
	some(0.05, &f.netTwice, &f.netLate, &f.netReorder)
	some(0.1, &f.rpcNeverArrives, &f.rpcLate, &f.rpcAnswerLost, &f.rpcOverload)
	some(0.01, &f.rpcSilence)
	some(0.2, &f.eventLost, &f.eventTwice, &f.eventLate)
	some(0.15, &f.slowCreate, &f.createFails, &f.selfDeath, &f.networkFails)
	f.viewDelay = w.between(0, 3*time.Second)
}

// disaster is something that befalls the whole of a part.
type disaster struct {
	name string
	run  func(*World)
}

var disasters = []disaster{
	{"kill", func(w *World) {
		n := pick(w, w.nodes)
		if n.proc.dead {
			return
		}
		n.proc.kill()
		w.after(w.between(100*time.Millisecond, 20*time.Second), nil, n.restart)
	}},
	{"pause", func(w *World) {
		p := pick(w, w.nodes).proc
		if p.dead || p.paused {
			return
		}
		p.pause()
		d := w.between(100*time.Millisecond, 2*time.Second)
		if w.rng.IntN(2) == 0 {
			d = w.between(2*time.Second, 40*time.Second)
		}
		w.after(d, nil, p.resume)
	}},
	{"etcd", func(w *World) { // its lease may run out while it goes on
		p := pick(w, w.nodes).proc
		if p.dead {
			return
		}
		d := w.between(500*time.Millisecond, 20*time.Second)
		w.log("%s cannot reach etcd for %v", p, d)
		p.cutOff = w.now + int64(d)
	}},
	{"drain", func(w *World) { // a planned hand-over
		p := pick(w, w.nodes).proc
		m := w.etcd.members[p.address]
		if m == nil {
			return
		}
		w.log("%s drains", p)
		m.Draining = true
		w.etcd.changed()
		w.after(w.between(time.Second, 30*time.Second), nil, func() {
			m.Draining = false
			w.etcd.changed()
		})
	}},
	{"agent", func(w *World) {
		a := pick(w, w.agents)
		if a.down {
			return
		}
		a.crash(w.rng.IntN(2) == 0)
		w.after(w.between(time.Second, 90*time.Second), nil, a.restartDaemon)
	}},
	{"cut", func(w *World) {
		a, n := pick(w, w.agents), pick(w, w.nodes)
		d := w.between(time.Second, 30*time.Second)
		w.log("%s cannot reach %s for %v", n.name, a.id, d)
		a.cutFrom[n.name] = w.now + int64(d)
	}},
	{"poke", func(w *World) {
		p := pick(w, w.nodes).proc
		if p.dead {
			return
		}
		for s := range int32(len(w.db.epochs)) {
			a := p.shards[s]
			if a == nil {
				continue
			}
			for _, b := range a.sorted() {
				if w.rng.IntN(6) == 0 {
					b.send(poke{})
				}
			}
		}
	}},
	{"database", func(w *World) {
		d := w.between(100*time.Millisecond, 5*time.Second)
		w.log("the database is away for %v", d)
		w.db.away = true
		w.after(d, nil, func() { w.db.away = false })
	}},
}

func (n *node) restart() {
	if n.proc.dead {
		n.start()
	}
}

// unleash lets disasters of some kinds happen until the faults end.
func (w *World) unleash(until time.Duration) {
	var kinds []disaster
	for _, d := range disasters {
		if w.rng.IntN(2) == 0 {
			kinds = append(kinds, d)
		}
	}
	if len(kinds) == 0 {
		return
	}
	pause := w.between(2*time.Second, 30*time.Second)
	var next func()
	next = func() {
		if time.Duration(w.now) >= until {
			return
		}
		pick(w, kinds).run(w)
		w.after(w.between(pause/4, 2*pause), nil, next)
	}
	w.after(w.between(pause/4, 2*pause), nil, next)
}

// heal ends all faults: from here on the world is in order.
func (w *World) heal() {
	w.log("--- the faults end")
	w.healed, w.healedAt = true, w.now
	w.faults = faults{}
	w.db.away = false
	for _, n := range w.nodes {
		n.restart()
		n.proc.resume()
		n.proc.cutOff = 0
		if m := w.etcd.members[n.proc.address]; m != nil {
			m.Draining = false
		}
	}
	for _, a := range w.agents {
		a.restartDaemon()
		clear(a.cutFrom)
	}
}
