package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/test/fakeagent"
)

// heartbeatPeriod is that of real agents.
const heartbeatPeriod = 3 * time.Second

// agent is a pretended agent that can be restarted and crashed. What it is reached by, the wire, stays the same.
type agent struct {
	ID     string
	wire   *wire
	events *redis.Producer
	cfg    fakeagent.Config

	mu          sync.Mutex
	fake        *fakeagent.Agent
	up          bool
	overcommits int // of those before the present one
	duplicates  int
	beat        chan struct{} // room for one: say hello now
}

// fleet is all agents.
type fleet struct {
	agents   []*agent
	producer *redis.Producer
	stop     chan struct{}
	beats    sync.WaitGroup
}

// newFleet starts n agents of a scaling group, behind wires unless w is nil.
func newFleet(set *redis.Set, w *wires, n int, group string, cores int) (*fleet, error) {
	f := &fleet{producer: redis.NewProducer(set, redis.ProducerConfig{Queue: 1 << 16}, slog.New(slog.DiscardHandler)), stop: make(chan struct{})}
	f.producer.Start()
	capacity := backendai.SlotsOf("cpu", fmt.Sprint(cores), "mem", fmt.Sprintf("%dg", cores))
	for i := range n {
		a := &agent{ID: fmt.Sprintf("i-fake-%02d", i), events: f.producer, beat: make(chan struct{}, 1)}
		a.cfg = fakeagent.Config{ID: a.ID, ScalingGroup: group, Capacity: capacity, CreateDelay: 100 * time.Millisecond, DestroyDelay: 20 * time.Millisecond}
		if w != nil {
			var err error
			if a.wire, err = w.open(a.ID, ""); err != nil {
				return nil, err
			}
		}
		if err := a.start(false); err != nil {
			return nil, err
		}
		f.agents = append(f.agents, a)
		f.beats.Go(func() { a.live(f.stop) })
	}
	return f, nil
}

// start makes the agent answer: with the kernels that it had, or, after a crash, with none.
func (a *agent) start(crashed bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fake == nil || crashed {
		if a.fake != nil {
			b := a.fake.Books()
			a.overcommits, a.duplicates = a.overcommits+b.Overcommits, a.duplicates+b.Duplicates
		}
		cfg := a.cfg
		var self *fakeagent.Agent
		cfg.Events = func(name string, args ...any) { a.publish(self, name, args) }
		self = fakeagent.New(cfg)
		a.fake = self
	}
	if err := a.fake.Start(); err != nil {
		return err
	}
	a.up = true
	select {
	case a.beat <- struct{}{}:
	default:
	}
	if a.wire == nil {
		return nil
	}
	a.wire.Lead(strings.TrimPrefix(a.fake.Address(), "tcp://"))
	return a.wire.Listen()
}

// end makes the agent vanish; its kernels live on.
func (a *agent) end() error {
	a.mu.Lock()
	a.up = false
	fake := a.fake
	a.mu.Unlock()
	if a.wire != nil {
		a.wire.Refuse()
	}
	return fake.Stop() // it waits for calls, which may want to publish something
}

// live sends heartbeats.
func (a *agent) live(stop <-chan struct{}) {
	tick := time.NewTicker(heartbeatPeriod)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-a.beat:
			_ = a.events.Publish(event.AgentStarted{Reason: "self-started"}, a.ID)
		case <-tick.C:
		}
		a.mu.Lock()
		up := a.up
		a.mu.Unlock()
		if up {
			_ = a.events.Publish(event.AgentHeartbeat{Info: a.heartbeat()}, a.ID)
		}
	}
}

// address is where managers reach it.
func (a *agent) address() string {
	if a.wire != nil {
		return "tcp://" + a.wire.Addr
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fake.Address()
}

func (a *agent) heartbeat() event.Heartbeat {
	h := event.Heartbeat{IP: "127.0.0.1", Region: "local", ScalingGroup: a.cfg.ScalingGroup, Addr: a.address(), Version: "22.03.14", Architecture: "x86_64",
		Images: []event.Image{{Tag: image, ID: "sha256:00"}}}
	for name, amount := range a.cfg.Capacity.All() {
		h.Slots = append(h.Slots, event.Slot{Name: string(name), Unit: string(backendai.GuessSlotType(name)), Amount: amount.String()})
	}
	return h
}

// publish tells what happens to kernels, unless the agent is down, or has crashed since.
func (a *agent) publish(by *fakeagent.Agent, name string, args []any) {
	a.mu.Lock()
	silent := !a.up || a.fake != by
	a.mu.Unlock()
	text, ok := args[0].(string)
	id, err := uuid.Parse(text)
	if silent || !ok || err != nil {
		return
	}
	kernel := backendai.KernelID{UUID: id}
	step := event.KernelEnqueued{Kernel: kernel}
	if len(args) > 1 {
		creation, _ := args[1].(string)
		step.Creation = backendai.CreationID(creation)
	}
	var e event.Event
	switch name {
	case "kernel_preparing":
		e = event.KernelPreparing(step)
	case "kernel_creating":
		e = event.KernelCreating(step)
	case "kernel_started":
		e = event.KernelStarted(step)
	case "kernel_terminated":
		reason, _ := args[1].(string)
		e = event.KernelTerminated{Kernel: kernel, Reason: reason, ExitCode: -1}
	default:
		return
	}
	_ = a.events.Publish(e, a.ID)
}

// kernels are the agent's truth: containers by kernel.
func (a *agent) kernels() map[string]string {
	a.mu.Lock()
	fake := a.fake
	a.mu.Unlock()
	list := make(map[string]string)
	for id, k := range fake.Kernels() {
		list[id] = k.Container
	}
	return list
}

// kernels are all agents' truth: agent and container by kernel.
func (f *fleet) kernels() map[string][2]string {
	all := make(map[string][2]string)
	for _, a := range f.agents {
		for id, container := range a.kernels() {
			all[id] = [2]string{a.ID, container}
		}
	}
	return all
}

// sins are what has been counted of what must never happen.
func (f *fleet) sins() (overcommits, duplicates map[string]int) {
	overcommits, duplicates = make(map[string]int), make(map[string]int)
	for _, a := range f.agents {
		a.mu.Lock()
		b := a.fake.Books()
		overcommits[a.ID], duplicates[a.ID] = a.overcommits+b.Overcommits, a.duplicates+b.Duplicates
		a.mu.Unlock()
	}
	maps.DeleteFunc(overcommits, func(_ string, n int) bool { return n == 0 })
	maps.DeleteFunc(duplicates, func(_ string, n int) bool { return n == 0 })
	return overcommits, duplicates
}

func (f *fleet) close() {
	close(f.stop)
	f.beats.Wait()
	for _, a := range f.agents {
		_ = a.end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	f.producer.Stop(ctx)
}
