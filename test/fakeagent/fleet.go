package fakeagent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
)

// heartbeatPeriod is that of real agents.
const heartbeatPeriod = 3 * time.Second

// Fleet is many agents that publish heartbeats and events on a real event stream.
type Fleet struct {
	Agents   []*Agent
	image    string
	producer *redis.Producer
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// NewFleet makes n agents with the capacity and delay of cfg, i-go-000 … unless cfg.ID is another beginning; they speak once they are started.
func NewFleet(set *redis.Set, n int, image string, cfg Config) *Fleet {
	f := &Fleet{image: image, producer: redis.NewProducer(set, redis.ProducerConfig{Queue: 1 << 16}, slog.Default())}
	for i := range n {
		c := cfg
		c.ID = fmt.Sprintf("%s-%03d", cmp.Or(cfg.ID, "i-go"), i)
		c.Events = func(name string, args ...any) { f.publish(c.ID, name, args) }
		f.Agents = append(f.Agents, New(c))
	}
	return f
}

// Start opens the agents' ports and has all of them say hello at once.
func (f *Fleet) Start() error {
	f.producer.Start()
	for _, a := range f.Agents {
		if err := a.Start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, a := range f.Agents {
		f.wg.Go(func() { f.beat(ctx, a) })
	}
	return nil
}

// Stop ends heartbeats and closes the ports; nothing is said.
func (f *Fleet) Stop() {
	f.cancel()
	f.wg.Wait()
	for _, a := range f.Agents {
		_ = a.Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f.producer.Stop(ctx)
}

// Books sums what the agents have counted.
func (f *Fleet) Books() (total Books) {
	for _, a := range f.Agents {
		b := a.Books()
		total.Kernels += b.Kernels
		total.Created += b.Created
		total.Overcommits += b.Overcommits
		total.Duplicates += b.Duplicates
		total.Used = total.Used.Add(b.Used)
	}
	return total
}

func (f *Fleet) beat(ctx context.Context, a *Agent) {
	_ = f.producer.Publish(event.AgentStarted{Reason: "self-started"}, a.ID())
	tick := time.NewTicker(heartbeatPeriod)
	defer tick.Stop()
	for {
		_ = f.producer.Publish(event.AgentHeartbeat{Info: f.heartbeat(a)}, a.ID())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *Fleet) heartbeat(a *Agent) event.Heartbeat {
	h := event.Heartbeat{IP: "127.0.0.1", Region: "local", ScalingGroup: a.cfg.ScalingGroup, Addr: a.Address(), Version: "22.03.14",
		Architecture: a.cfg.Architecture, Images: []event.Image{{Tag: f.image, ID: "sha256:00"}}}
	for name, amount := range a.cfg.Capacity.All() {
		h.Slots = append(h.Slots, event.Slot{Name: string(name), Unit: string(backendai.GuessSlotType(name)), Amount: amount.String()})
	}
	return h
}

// publish turns what an agent says into the event's type.
func (f *Fleet) publish(agent, name string, args []any) {
	id, err := uuid.Parse(args[0].(string))
	if err != nil {
		return
	}
	kernel := backendai.KernelID{UUID: id}
	step := event.KernelEnqueued{Kernel: kernel}
	if strings.HasPrefix(name, "kernel_") && name != "kernel_terminated" {
		step.Creation = backendai.CreationID(args[1].(string))
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
		e = event.KernelTerminated{Kernel: kernel, Reason: args[1].(string), ExitCode: -1}
	case "do_sync_kernel_logs":
		e = event.DoSyncKernelLogs{Kernel: kernel, Container: args[1].(string)}
	case "execution_started":
		e = event.ExecutionStarted{Session: backendai.SessionID(kernel)}
	case "execution_finished":
		e = event.ExecutionFinished{Session: backendai.SessionID(kernel)}
	default:
		return
	}
	_ = f.producer.Publish(e, agent)
}
