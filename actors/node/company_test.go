package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/test/fakeagent"
)

// TestSeveral runs side by side what mostly waits: one etcd for all, in which each test has a prefix of its own.
func TestSeveral(t *testing.T) {
	etcd := etcdtest.New(t)
	for name, test := range map[string]func(*testing.T, *etcdtest.Server){
		"an interrupted connection":     testInterruptedConnection,
		"any node answers":              testAnyNodeAnswers,
		"events find their sessions":    testEventsFindTheirSessions,
		"a planned stop is not noticed": testPlannedStopIsNotNoticed,
		"survivors take over":           testSurvivorsTakeOver,
		"code for a silent node":        testCodeForASilentNode,
		"a deposed node does nothing":   testDeposedNodeDoesNothing,
		"a lease lost and found again":  testLeaseLostAndFoundAgain,
		"shards that another has had":   testShardsThatAnotherHasHad,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, etcd)
		})
	}
}

// happenings counts the events of sessions by name.
func (b *bus) happenings(name string) map[uuid.UUID]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := make(map[uuid.UUID]int)
	for _, e := range b.events {
		if event.Name(e) != name {
			continue
		}
		switch e := e.(type) {
		case event.SessionEnqueued:
			counts[e.Session.UUID]++
		case event.SessionScheduled:
			counts[e.Session.UUID]++
		case event.SessionPreparing:
			counts[e.Session.UUID]++
		case event.SessionStarted:
			counts[e.Session.UUID]++
		case event.SessionTerminated:
			counts[e.Session.UUID]++
		}
	}
	return counts
}

// eachOnce checks that an event has been published exactly once for each of the sessions.
func (s *several) eachOnce(ids []uuid.UUID, names ...string) {
	s.Helper()
	for _, name := range names {
		s.eventually("every session has its "+name, func() bool { return len(s.bus.happenings(name)) == len(ids) })
		counts := s.bus.happenings(name)
		for _, id := range ids {
			if counts[id] != 1 {
				s.Errorf("%s of session %s was published %d times", name, id, counts[id])
			}
		}
	}
}

// load creates sessions one after another through some nodes until it is stopped, and awaits each through the next node.
type load struct {
	stop  func() []uuid.UUID
	count atomic.Int64
}

func (s *several) load(workers int, through ...*fellow) *load {
	l, name := &load{}, uuid.NewString()[:8]
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var ids []uuid.UUID
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				here, there := through[i%len(through)], through[(i+1)%len(through)]
				id, err := here.create(kernelRow(fmt.Sprintf("load-%s-%d-%d", name, w, i), small))
				if err != nil {
					s.Errorf("create through %s: %v", here.node.Name(), err)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
				if status := there.await(id); status != backendai.Running {
					s.Errorf("session %s is %s", id, status)
				}
				l.count.Add(1)
			}
		})
	}
	l.stop = func() []uuid.UUID {
		cancel()
		working.Wait()
		return ids
	}
	s.Cleanup(func() { l.stop() })
	return l
}

func (s *several) after(l *load, more int64) {
	s.Helper()
	want := l.count.Load() + more
	s.eventually("the load goes on", func() bool { return s.Failed() || l.count.Load() >= want })
}

func testAnyNodeAnswers(t *testing.T, etcd *etcdtest.Server) {
	s, f := newSeveral(t, etcd, "abc", 2, nil)
	owned := map[int32]string{}
	for _, f := range f {
		list := f.owned()
		if len(list) == 0 {
			t.Errorf("%s owns nothing", f.node.Name())
		}
		for _, shard := range list {
			if other := owned[shard]; other != "" {
				t.Errorf("shard %d is owned by %s and %s", shard, other, f.node.Name())
			}
			owned[shard] = f.node.Name()
		}
	}
	if len(owned) != manyShards {
		t.Errorf("%d of %d shards are owned", len(owned), manyShards)
	}
	var ids []uuid.UUID
	for shard := range int32(manyShards) { // whose shards are everybody's
		row := kernelRow(fmt.Sprintf("any-%d", shard), small)
		row.ID = on(shard)
		row.SessionID = row.ID
		ids = append(ids, row.ID)
		at := func(i int) *fellow { return f[(int(shard)+i)%len(f)] }
		if _, err := at(0).create(row); err != nil {
			t.Fatalf("create through %s of a session on %s: %v", at(0).node.Name(), owned[shard], err)
		}
		if status := at(1).await(row.ID); status != backendai.Running {
			t.Fatal(status)
		}
		container := ""
		for i := range f {
			got, err := at(i).container(row.ID)
			if err != nil || container != "" && got != container {
				t.Errorf("%s says %q, others %q (%v)", at(i).node.Name(), got, container, err)
			}
			container = got
		}
		if _, err := at(2).destroy(row.ID, false); err != nil {
			t.Error(err)
		}
		if _, err := at(0).destroy(row.ID, false); backendai.CodeOf(err) != backendai.SessionNotFound {
			t.Errorf("destroying it again: %v", err)
		}
	}
	s.eachOnce(ids, "session_enqueued", "session_scheduled", "session_preparing", "session_started", "session_terminated")
	s.checkBooks(0)
}

// An event of a kernel gets to its session whichever node hears it: one of a main kernel, one of another, which has no session's id, and
// one of a kernel that there is not.
func testEventsFindTheirSessions(t *testing.T, etcd *etcdtest.Server) {
	s, f := newSeveral(t, etcd, "abc", 1, nil)
	for i, hearer := range f {
		for _, kernel := range []int{0, 2} {
			rows := cluster3(fmt.Sprintf("gang-%d-%d", i, kernel), small)
			if _, err := f[0].create(rows...); err != nil {
				t.Fatal(err)
			}
			if status := f[0].await(rows[0].ID); status != backendai.Running {
				t.Fatal(status)
			}
			for _, id := range []uuid.UUID{uuid.New(), rows[kernel].ID, uuid.New()} {
				hearer.node.directory.deliver(&protocol.AgentEvent{Name: "kernel_terminated", KernelID: id, Reason: "self-terminated", ExitCode: 3, Now: time.Now()})
			}
			s.eventually(fmt.Sprintf("the end of kernel %d, heard by %s", kernel, hearer.node.Name()), func() bool {
				return s.text(`SELECT concat_ws(' ', status, status_info) FROM kernels WHERE id = $1`, rows[kernel].ID) == "TERMINATED self-terminated"
			})
			_, _ = f[0].destroy(rows[0].ID, false) // it may be ending by itself
			s.eventually("the end of the session", func() bool {
				return s.text(`SELECT string_agg(DISTINCT status::text, ' ') FROM kernels WHERE session_id = $1`, rows[0].ID) == "TERMINATED"
			})
		}
	}
}

// A node that is drained and stopped while sessions are created through it and the others: nobody notices.
func testPlannedStopIsNotNoticed(t *testing.T, etcd *etcdtest.Server) {
	s, f := newSeveral(t, etcd, "abc", 3, func(c *fakeagent.Config) {
		c.CreateDelay, c.Capacity = 20*time.Millisecond, backendai.SlotsOf("cpu", "4096", "mem", "4096g")
	})
	busy := s.load(4, f...) // through the one that leaves as well
	others := s.load(4, f[1], f[2])
	s.after(others, 10)
	shards := len(f[0].owned())
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f[0].node.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("%d shards were handed over in %v", shards, took)
	if took > time.Duration(shards)*time.Second {
		t.Errorf("%d shards were handed over in %v", shards, took)
	}
	if got := f[0].owned(); len(got) != 0 {
		t.Errorf("it still owns %v", got)
	}
	s.after(busy, 8)
	ids := busy.stop()
	s.leave(f[0])
	s.after(others, 20)
	ids = append(ids, others.stop()...)
	t.Logf("%d sessions", len(ids))
	if left := s.text(`SELECT count(*)::text FROM kernels WHERE status <> 'RUNNING'`); left != "0" {
		t.Errorf("%s sessions are not RUNNING", left)
	}
	created := 0
	for _, a := range s.agents {
		created += a.Books().Created
	}
	t.Logf("%d kernels were created for %d sessions", created, len(ids))
	s.checkBooks(len(ids))
	s.eachOnce(ids, "session_enqueued", "session_scheduled", "session_preparing", "session_started")
}

// A process is killed, then a machine dies: those that are left take over, and no session is lost.
func testSurvivorsTakeOver(t *testing.T, etcd *etcdtest.Server) {
	s, f := newSeveral(t, etcd, "abc", 3, nil)
	live := make(map[uuid.UUID]string)
	for i := range 24 {
		at := f[i%3]
		id, err := at.create(kernelRow(fmt.Sprintf("live-%d", i), small))
		if err != nil {
			t.Fatal(err)
		}
		if status := at.await(id); status != backendai.Running {
			t.Fatal(status)
		}
		if live[id], err = at.container(id); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range s.agents {
		a.SetCreateDelay(200 * time.Millisecond)
	}
	starting := func(from *fellow, n int) (ids []uuid.UUID) {
		for i := range n {
			id, err := from.create(kernelRow(fmt.Sprintf("starting-%s-%d", from.node.Name(), i), small))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	lost := func(victim, through *fellow, end func(*fellow), limit time.Duration) {
		t.Helper()
		shards := victim.owned()
		ids := starting(victim, 16)
		begin := time.Now()
		end(victim)
		s.eventually("the shards have new owners", func() bool { // the view may still show the old ones
			v := through.members.View()
			_, there := v.Member(victim.members.ID())
			return !there && len(v.Claims) == manyShards
		})
		s.whole(through)
		if took := time.Since(begin); took > limit {
			t.Errorf("%d shards of %s had new owners after %v, want at most %v", len(shards), victim.node.Name(), took, limit)
		} else {
			t.Logf("%d shards of %s had new owners after %v", len(shards), victim.node.Name(), took)
		}
		for id, container := range live {
			if got, err := through.container(id); err != nil || got != container {
				t.Errorf("live session %s: container %q, want %q (%v)", id, got, container, err)
			}
		}
		for _, id := range ids {
			if status := through.await(id); status != backendai.Running && !status.IsDead() {
				t.Errorf("session in mid-creation: %s", status)
			}
		}
	}
	lost(f[0], f[1], s.kill, leaseTTL+expiry)
	lost(f[1], f[2], s.unplug, leaseTTL+expiry+time.Second)
	if got := f[2].owned(); len(got) != manyShards {
		t.Errorf("the last one owns %v", got)
	}
	if left := s.text(`SELECT count(*)::text FROM kernels WHERE status NOT IN ('RUNNING', 'TERMINATED', 'CANCELLED', 'ERROR')`); left != "0" {
		t.Errorf("%s sessions are in between", left)
	}
	s.eventually("the agents run what the rows say", func() bool {
		return s.text(`SELECT count(*)::text FROM kernels WHERE status = 'RUNNING'`) == fmt.Sprint(len(s.agents[0].Kernels())+len(s.agents[1].Kernels())+len(s.agents[2].Kernels()))
	})
	for _, a := range s.agents {
		if b := a.Books(); b.Overcommits != 0 || b.Duplicates != 0 {
			t.Errorf("agent %s: %+v", a.ID(), b)
		}
	}
}

// Code must not run twice. It is not sent to a node that has fallen silent, be it the session's or that of the agent's twin, but to those
// who take over: so none is lost, either.
func testCodeForASilentNode(t *testing.T, etcd *etcdtest.Server) {
	var mu sync.Mutex
	runs := make(map[string]int)
	s, f := newSeveral(t, etcd, "abc", 3, func(c *fakeagent.Config) {
		c.Calls = func(call callosum.Call) {
			if call.Method == callosum.MethodExecute {
				mu.Lock()
				defer mu.Unlock()
				runs[fmt.Sprint(call.Args[0])]++
			}
		}
	})
	var ids []uuid.UUID
	for i := range 24 {
		id, err := f[i%3].create(kernelRow(fmt.Sprintf("runs-%d", i), small))
		if err != nil {
			t.Fatal(err)
		}
		if status := f[i%3].await(id); status != backendai.Running {
			t.Fatal(status)
		}
		ids = append(ids, id)
	}
	s.unplug(f[0])
	var asking sync.WaitGroup
	for i, id := range ids {
		asking.Go(func() {
			if _, err := f[1+i%2].container(id); err != nil {
				t.Errorf("session %s: %v", id, err)
			}
		})
	}
	asking.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids {
		if runs[id.String()] != 1 {
			t.Errorf("the code of %s has run %d times", id, runs[id.String()])
		}
	}
}
