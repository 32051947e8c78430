package inspector

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// counter is an actor with one child, a word of state, and a value that changes without messages.
type counter struct {
	in    *Inspector
	child bool
	seen  int
	link  *atomic.Int64
	done  chan<- struct{}
}

func (c *counter) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		if c.child {
			ctx.Spawn(c.in.Props(Identity{Kind: KindKernel, ID: "k", Shard: 3, Epoch: 7}, func() actor.Actor { return &counter{in: c.in, link: c.link, done: c.done} }))
		}
	case string:
		if msg == "fail" {
			panic("told to")
		}
		c.seen++
		c.done <- struct{}{}
	}
}

func (c *counter) State() string {
	if c.seen > 0 {
		return "used"
	}
	return "empty"
}

func (c *counter) Facts() map[string]any {
	return map[string]any{"seen": c.seen, "link": c.link.Load()}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatal("not in time:", what)
}

func TestActorsAreSeenFromStartToEnd(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	defer system.Shutdown()
	in, link, done := New("n1", system), new(atomic.Int64), make(chan struct{}, 8)
	pid := system.Root.Spawn(in.Props(Identity{Kind: KindSession, ID: "s", Shard: 3, Epoch: 7}, func() actor.Actor {
		return &counter{in: in, child: true, link: link, done: done}
	}))
	eventually(t, "both actors are listed", func() bool { return in.Counts()[KindKernel] == 1 && in.Counts()[KindSession] == 1 })
	system.Root.Send(pid, "hello")
	<-done
	link.Store(42)
	eventually(t, "the message is counted", func() bool {
		list, total := in.List(Filter{Kind: KindSession}, 0)
		return total == 1 && list[0].State == "used" && list[0].Facts["seen"] == 1 && list[0].Facts["link"] == int64(42) && list[0].Mailbox == 0 && list[0].MessagesIn == 2
	})
	link.Store(43)
	list, total := in.List(Filter{}, 0)
	roots := Tree(list)
	if total != 2 || len(roots) != 1 || len(roots[0].Children) != 1 {
		t.Fatalf("tree of %d with %d roots", total, len(roots))
	}
	s, k := roots[0], roots[0].Children[0]
	if s.Facts["link"] != int64(43) || s.Node != "n1" || *s.Shard != 3 || s.Epoch != 7 || k.ID != "k" || k.Parent != s.PID {
		t.Errorf("session %+v\nkernel %+v", s.Snapshot, k.Snapshot)
	}
	if list, total := in.List(Filter{}, 1); total != 2 || len(list) != 1 {
		t.Errorf("a limit of one gives %d of %d", len(list), total)
	}
	other := int32(4)
	if _, total := in.List(Filter{Shard: &other}, 0); total != 0 {
		t.Errorf("%d actors in another shard", total)
	}
	system.Root.Send(pid, "fail")
	// A stop that overtakes the restart would be lost in the actor library, so this waits for the new start.
	eventually(t, "the failure is told", func() bool {
		list, _ := in.List(Filter{ID: "s"}, 0)
		return len(list) == 1 && list[0].Restarts == 1 && list[0].LastError == "told to" && list[0].State == "empty"
	})
	system.Root.Stop(pid)
	eventually(t, "ended actors are gone", func() bool { return len(in.Counts()) == 0 })
}
