package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
)

// container is the truth about one incarnation of a kernel.
type container struct {
	kernel, session uuid.UUID
	id              string
	slots           backendai.ResourceSlots
	ready           bool // the creation has ended well
	ending          bool
	gone            bool
	stale           bool // made by a command of a deposed owner, or through a deposed twin, that the agent could not tell from a current one
	created         []func([]byte, error)
	ended           []func([]byte, error)
	restarts        int
	born            time.Time
	again           bool // there was one before: its answer was lost, or it came late
}

// fakeAgent is an agent's daemon with its own truth. A bundled one joins repeated creations, answers every destroy and compares epochs
// (cmd/agent/node); an official one refuses a second creation, does not know a kernel that it still creates, and forgets the first of two
// destroys (spec/agent-protocol §5.5, §5.6).
type fakeAgent struct {
	w          *World
	id         string
	group      string
	bundled    bool
	capacity   backendai.ResourceSlots
	down       bool
	life       int
	containers map[uuid.UUID]*container
	order      []*container // the same, in order of creation
	high       map[uint32]uint64
	hangUps    []func()
	cutFrom    map[string]int64 // by node, until when
}

func (a *fakeAgent) hangUp(life int, f func()) {
	if a.life == life {
		a.hangUps = append(a.hangUps, f)
	}
}

// serve carries a call out; reply may come later or never.
func (a *fakeAgent) serve(q request, fence callosum.Fence, reply func([]byte, error)) {
	w := a.w
	if !fence.IsZero() {
		if high := a.high[fence.Shard]; fence.Epoch < high {
			w.stats.Fenced++
			reply(nil, callosum.Exception("StaleEpoch", fmt.Sprintf("shard %d is in epoch %d, the command is of epoch %d", fence.Shard, high, fence.Epoch)))
			return
		}
		a.high[fence.Shard] = fence.Epoch
	}
	w.log("  %s serves %s of %s", a.id, q.Kind, w.name(q.Kernel))
	switch q.Kind {
	case createKernels:
		a.create(q, reply)
	case destroyKernel:
		a.destroy(q, reply)
	case restartKernel:
		a.restart(q, reply)
	case probeKernel:
		if c := a.containers[q.Kernel]; c != nil && (c.ready || a.bundled) {
			reply(encode(callosum.ServiceResult{Status: "failed"}), nil)
		} else {
			reply(nil, callosum.Exception("KeyError", q.Kernel.String()))
		}
	}
}

func encode(v any) []byte {
	b, err := callosum.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (a *fakeAgent) create(q request, reply func([]byte, error)) {
	w := a.w
	if c := a.containers[q.Kernel]; c != nil {
		switch {
		case !a.bundled:
			w.stats.Duplicates++
			reply(nil, callosum.Exception("AgentError", "the kernel exists"))
		case c.ending: // it is on its way out; then it is created anew
			c.ended = append(c.ended, func([]byte, error) { a.create(q, reply) })
		case c.ready:
			reply(a.result(c), nil)
		default:
			c.created = append(c.created, reply)
		}
		return
	}
	for _, o := range w.agents {
		if o.containers[q.Kernel] != nil {
			w.violate("I3", "kernel %s is created on %s while it lives on %s", w.name(q.Kernel), a.id, o.id)
		}
	}
	c := &container{kernel: q.Kernel, session: q.Session, id: fmt.Sprintf("c%06x", w.rng.Uint32()&0xffffff), slots: q.Slots, born: w.time(), again: w.created[q.Kernel]}
	w.created[q.Kernel] = true
	// A bundled agent has compared the epoch. None can tell that a twin which was paused sends what it was given long ago.
	c.stale = w.db.epochs[q.Guard.Shard] != q.Guard.Epoch || w.db.epochs[q.Via.Shard] != q.Via.Epoch
	c.created = append(c.created, reply)
	a.containers[q.Kernel] = c
	a.order = append(a.order, c)
	w.stats.Containers++
	a.emit("kernel_creating", c.kernel, "")
	d := w.between(50*time.Millisecond, 3*time.Second)
	if w.chance(w.faults.slowCreate) {
		// With a late arrival, within the quarter of a minute for which kernels reckon with it (settleTime): an official agent does not say
		// what it is still creating, so that nobody could know of more.
		d = w.between(3*time.Second, 8*time.Second)
	}
	if w.chance(w.faults.pull) {
		w.after(d/4, nil, func() { a.emit("kernel_pulling", c.kernel, "image") })
		w.after(d/2, nil, func() { a.emit("kernel_creating", c.kernel, "") })
	}
	life := a.life
	w.after(d, nil, func() {
		switch {
		case c.gone || a.life != life:
		case w.chance(w.faults.createFails):
			a.forget(c)
			answer(c.created, nil, callosum.Exception("RuntimeError", "no luck"))
		default:
			c.ready = true
			a.emit("kernel_started", c.kernel, "")
			answer(c.created, a.result(c), nil)
			a.mayDie(c)
			if q.Batch {
				w.after(w.between(time.Second, 20*time.Second), nil, func() {
					if !c.gone {
						a.emit("session_success", c.kernel, "task-finished")
					}
				})
			}
		}
		c.created = nil
	})
}

// mayDie lets a container end by itself some time.
func (a *fakeAgent) mayDie(c *container) {
	w := a.w
	if !w.chance(w.faults.selfDeath) {
		return
	}
	w.after(w.between(0, time.Minute), nil, func() {
		if !c.gone && !c.ending && !a.down && !w.healed {
			w.log("  %s of %s dies by itself on %s", c.id, w.name(c.kernel), a.id)
			a.forget(c)
			a.emit("kernel_terminated", c.kernel, "self-terminated")
		}
	})
}

func answer(to []func([]byte, error), value []byte, err error) {
	for _, f := range to {
		f(value, err)
	}
}

func (a *fakeAgent) result(c *container) []byte {
	allocations := make(map[string]map[string]map[string]string)
	for name, d := range c.slots.All() {
		allocations[name.Device()] = map[string]map[string]string{string(name): {"0": d.String()}}
	}
	return encode([]callosum.KernelCreationResult{{ID: c.kernel.String(), KernelHost: a.id, ContainerID: c.id,
		ResourceSpec: callosum.ResourceSpec{Allocations: allocations}}})
}

func (a *fakeAgent) destroy(q request, reply func([]byte, error)) {
	w, c := a.w, a.containers[q.Kernel]
	if c == nil || !a.bundled && !c.ready {
		if !q.Suppress {
			a.emit("kernel_terminated", q.Kernel, "already-terminated")
		}
		reply(encode(nil), nil)
		return
	}
	if c.ending {
		if !a.bundled {
			c.ended = nil // the first call never returns
		}
		c.ended = append(c.ended, reply)
		return
	}
	c.ending = true
	c.ended = append(c.ended, reply)
	life := a.life
	w.after(w.between(20*time.Millisecond, 3*time.Second), nil, func() {
		if c.gone || a.life != life {
			return
		}
		a.forget(c)
		answer(c.created, nil, callosum.Exception("RuntimeError", "cancelled"))
		c.created = nil
		if !q.Suppress || !a.bundled {
			a.emit("kernel_terminated", c.kernel, q.Reason)
		}
		answer(c.ended, encode(nil), nil)
	})
}

func (a *fakeAgent) restart(q request, reply func([]byte, error)) {
	w, c := a.w, a.containers[q.Kernel]
	if c == nil || !c.ready || c.ending {
		reply(nil, callosum.Exception("KeyError", q.Kernel.String()))
		return
	}
	life := a.life
	w.after(w.between(50*time.Millisecond, 2*time.Second), nil, func() {
		switch {
		case c.gone || c.ending || a.life != life:
			reply(nil, callosum.Exception("KeyError", q.Kernel.String()))
		case w.chance(w.faults.createFails):
			a.forget(c)
			a.emit("kernel_terminated", c.kernel, "restart-failed")
			reply(nil, callosum.Exception("RuntimeError", "no luck"))
		default:
			c.restarts++
			c.id = fmt.Sprintf("c%06x", w.rng.Uint32()&0xffffff)
			reply(encode(callosum.RestartResult{ContainerID: c.id}), nil)
		}
	})
}

func (a *fakeAgent) forget(c *container) {
	c.gone = true
	delete(a.containers, c.kernel)
	a.order = slices.DeleteFunc(a.order, func(o *container) bool { return o == c })
}

// crash ends the daemon. Its containers live on, or not; what it was creating is lost.
func (a *fakeAgent) crash(keep bool) {
	w := a.w
	w.log("%s crashes (containers %s)", a.id, map[bool]string{true: "live on", false: "are lost"}[keep])
	a.down = true
	a.life++
	calls := a.hangUps
	a.hangUps = nil
	for _, f := range calls {
		f()
	}
	for _, c := range slices.Clone(a.order) {
		c.created, c.ended = nil, nil
		if !keep || !c.ready {
			a.forget(c)
		}
		c.ending = false
	}
}

func (a *fakeAgent) restartDaemon() {
	if !a.down {
		return
	}
	a.down = false
	a.w.log("%s is back", a.id)
	a.w.publish(busEvent{name: "agent_started", agent: a.id, reason: "self-started"})
	a.beat()
}

func (a *fakeAgent) emit(name string, kernel uuid.UUID, reason string) {
	if !a.down {
		a.w.publish(busEvent{name: name, agent: a.id, kernel: kernel, reason: reason})
	}
}

// beat sends one heartbeat.
func (a *fakeAgent) beat() {
	if a.down {
		return
	}
	hb := &protocol.Heartbeat{Agent: a.id, Region: "local", ScalingGroup: a.group, Addr: "tcp://" + a.id + ":6001", Version: "22.03", Architecture: "x86_64"}
	for name, d := range a.capacity.All() {
		hb.Slots = append(hb.Slots, protocol.AgentSlot{Name: string(name), Type: backendai.GuessSlotType(name), Amount: d})
	}
	if a.bundled {
		hb.Features = []string{"idempotent-create", "epoch"}
	}
	a.w.publish(busEvent{name: "agent_heartbeat", agent: a.id, heartbeat: hb})
}

func (a *fakeAgent) beatForEver() {
	a.beat()
	every := 10 * time.Second
	if a.w.slow(every) > every {
		every *= 3
	}
	a.w.after(a.w.between(every/2, every*3/2), nil, a.beatForEver)
}
