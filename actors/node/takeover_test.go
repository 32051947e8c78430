package node

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/test/fakeagent"
)

// container asks the main kernel which container it is.
func (w *world) container(id uuid.UUID) (string, error) {
	v, err := w.ask(id, func(r protocol.ReplyTo) any {
		call := callosum.Execute{KernelID: id.String(), APIVersion: 3, Mode: "query"}.Call()
		return &protocol.Invoke{Call: call, Deadline: time.Now().Add(10 * time.Second), Query: true, Reply: r}
	})
	if err != nil {
		return "", err
	}
	result, err := callosum.Execute{}.Result(v.([]byte))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(fmt.Sprint(result.Console[0][1])), nil
}

func TestKilledManagerLosesNothing(t *testing.T) {
	w := newWorld(t, 3, nil)
	live := make(map[uuid.UUID]string)
	for i := range 50 {
		id, err := w.create(kernelRow(fmt.Sprintf("live-%d", i), small))
		if err != nil {
			t.Fatal(err)
		}
		if s := w.await(id); s != backendai.Running {
			t.Fatal(s)
		}
		if live[id], err = w.container(id); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range w.agents {
		a.SetCreateDelay(300 * time.Millisecond)
	}
	var starting []uuid.UUID
	for i := range 20 {
		id, err := w.create(kernelRow(fmt.Sprintf("starting-%d", i), small))
		if err != nil {
			t.Fatal(err)
		}
		starting = append(starting, id)
	}
	w.crash()
	w.start()
	for id, container := range live {
		if got, err := w.container(id); err != nil || got != container {
			t.Errorf("live session %s: container %q, want %q (%v)", id, got, container, err)
		}
	}
	for _, id := range starting {
		if s := w.await(id); s != backendai.Running {
			t.Errorf("session in mid-creation: %s", s)
		}
	}
	w.checkBooks(70)
	var wg sync.WaitGroup
	for id := range live {
		wg.Go(func() {
			if _, err := w.destroy(id, false); err != nil {
				t.Error(err)
			}
		})
	}
	for _, id := range starting {
		wg.Go(func() {
			if _, err := w.destroy(id, false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.checkBooks(0)
}

// The creation's answer is lost with the link, and the event that it has succeeded too.
func TestLostAnswerOfACreation(t *testing.T) {
	w := newWorld(t, 1, func(c *fakeagent.Config) { c.CreateDelay = 500 * time.Millisecond })
	w.agents[0].Mute(true)
	id, err := w.create(kernelRow("lost-answer", small))
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the agent creates it", func() bool { return w.agents[0].Books().Kernels == 1 })
	if err := w.agents[0].Stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	if s := w.await(id); s != backendai.Running {
		t.Errorf("status %s", s)
	}
	w.checkBooks(1)
}

func TestEndedKernelIsFoundOutWithoutAnEvent(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("vanishes", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(id)
	w.agents[0].Kill(id.String(), false)
	w.node.Send(agentIdentity(w.agents[0]), &protocol.AgentJoined{Agent: "i-0", Reason: "self-started"})
	w.eventually("the session is dead", func() bool { return w.status(id) == backendai.Terminated })
	if got := w.text(`SELECT status_info FROM kernels WHERE id = $1`, id); got != "self-terminated" {
		t.Errorf("status_info %s", got)
	}
	w.eventually("the slots are back", func() bool { return w.text(`SELECT coalesce(occupied_slots ->> 'cpu', '0') FROM agents`) == "0" })
}

func TestLateAndDoubledEventsMoveNothingBack(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("late", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(id)
	for range 3 {
		w.event("kernel_creating", id.String(), "old", "")
		w.event("kernel_pulling", id.String(), "old", image)
	}
	if _, err := w.container(id); err != nil { // the events before it have been handled
		t.Fatal(err)
	}
	if s := w.status(id); s != backendai.Running {
		t.Errorf("status %s", s)
	}
	w.agents[0].Kill(id.String(), true)
	w.eventually("the session is dead", func() bool { return w.status(id) == backendai.Terminated })
	w.event("kernel_terminated", id.String(), "doubled", -1)
	w.event("kernel_creating", id.String(), "old", "")
	if got := w.text(`SELECT status || ' ' || status_info FROM kernels WHERE id = $1`, id); got != "TERMINATED self-terminated" {
		t.Errorf("row %s", got)
	}
}

func cluster3(name string, slots backendai.ResourceSlots) []*record.Kernel {
	rows := []*record.Kernel{kernelRow(name, slots)}
	for i := 1; i < 3; i++ {
		k := kernelRow(name, slots)
		k.SessionID, k.ClusterRole, k.ClusterIdx = rows[0].ID, "sub", i
		k.CreationID, k.CreatedAt = rows[0].CreationID, rows[0].CreatedAt
		rows = append(rows, k)
	}
	for _, k := range rows {
		k.ClusterSize, k.ClusterHostname = 3, fmt.Sprintf("%s%d", k.ClusterRole, k.ClusterIdx)
	}
	return rows
}

func TestClusterSessionIsAllOrNothing(t *testing.T) {
	var mu sync.Mutex
	fail := ""
	w := newWorld(t, 1, func(c *fakeagent.Config) {
		c.FailCreate = func(kernel string) error {
			mu.Lock()
			defer mu.Unlock()
			if kernel == fail {
				return callosum.Exception("ImageNotAvailable", image)
			}
			return nil
		}
	})
	rows := cluster3("gang", small)
	id, err := w.create(rows...)
	if err != nil {
		t.Fatal(err)
	}
	if s := w.await(id); s != backendai.Running {
		t.Fatalf("status %s", s)
	}
	k := w.agents[0].Kernels()[rows[2].ID.String()]
	if k == nil || k.Config.Environ["BACKENDAI_CLUSTER_HOSTS"] != "main1,sub1,sub2" || k.Config.Environ["BACKENDAI_CLUSTER_REPLICAS"] != "main:1,sub:2" {
		t.Errorf("config of sub2: %+v", k)
	}
	if _, err := w.destroy(id, false); err != nil {
		t.Fatal(err)
	}
	if got := w.text(`SELECT string_agg(DISTINCT status || ' ' || status_data::text, '; ') FROM kernels WHERE session_id = $1`, id); got != `TERMINATED {"kernel": {"exit_code": -1}, "session": {"status": "terminated"}}` {
		t.Errorf("rows %s", got)
	}
	w.checkBooks(0)

	rows = cluster3("broken", small)
	mu.Lock()
	fail = rows[1].ID.String()
	mu.Unlock()
	if id, err = w.create(rows...); err != nil {
		t.Fatal(err)
	}
	if s := w.await(id); s != backendai.Cancelled {
		t.Errorf("status %s", s)
	}
	if got := w.text(`SELECT string_agg(DISTINCT status::text, ',') FROM kernels WHERE session_id = $1`, id); got != "CANCELLED" {
		t.Errorf("statuses %s", got)
	}
	w.checkBooks(0)
}

func TestRestart(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("restart", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(id)
	before, err := w.container(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ask(id, func(r protocol.ReplyTo) any { return &protocol.Restart{Now: time.Now(), Reply: r} }); err != nil {
		t.Fatal(err)
	}
	after, err := w.container(id)
	if err != nil || after == before || w.status(id) != backendai.Running {
		t.Errorf("container %q, before %q, status %s, %v", after, before, w.status(id), err)
	}
	if got := w.text(`SELECT container_id FROM kernels WHERE id = $1`, id); got != after {
		t.Errorf("row has container %s", got)
	}
	w.eventually("both queries are counted", func() bool { return w.text(`SELECT num_queries::text FROM kernels WHERE id = $1`, id) == "2" })
}

func TestForcedDestroyOfAKernelThatIsBeingCreated(t *testing.T) {
	w := newWorld(t, 1, func(c *fakeagent.Config) { c.CreateDelay = 300 * time.Millisecond })
	id, err := w.create(kernelRow("forced", small))
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the agent creates it", func() bool { return w.agents[0].Books().Kernels == 1 })
	if _, err := w.destroy(id, false); err == nil || backendai.CodeOf(err) != backendai.GenericForbidden {
		t.Errorf("without force: %v", err)
	}
	if _, err := w.destroy(id, true); err != nil {
		t.Fatal(err)
	}
	if got := w.text(`SELECT status || ' ' || status_info FROM kernels WHERE id = $1`, id); got != "TERMINATED force-terminated" {
		t.Errorf("row %s", got)
	}
	w.eventually("the agent has let it go", func() bool { return w.agents[0].Books().Kernels == 0 })
	w.eventually("the slots are back", func() bool { return w.text(`SELECT coalesce(occupied_slots ->> 'cpu', '0') FROM agents`) == "0" })
	w.checkBooks(0)
}

// A message that crashes its session's actor costs that session a restart from its rows and nothing else.
func TestCrashOfASessionIsItsOwn(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("crashes", small))
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.create(kernelRow("bystander", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(id)
	w.await(other)
	container, err := w.container(id)
	if err != nil {
		t.Fatal(err)
	}
	w.node.Send(sessionIdentity(id), (*protocol.Placement)(nil)) // a nil pointer that it will dereference
	if got, err := w.container(id); err != nil || got != container {
		t.Errorf("after the crash: %q, want %q (%v)", got, container, err)
	}
	if _, err := w.container(other); err != nil {
		t.Errorf("bystander: %v", err)
	}
	for range 5 {
		w.node.Send(sessionIdentity(id), (*protocol.Placement)(nil))
		// Nobody who asks is forgotten: the next life answers.
		if _, err := w.container(id); errors.Is(err, backendai.DeadlineExceeded) {
			t.Error(err)
		}
	}
	w.eventually("it is moved to ERROR", func() bool { return w.status(id) == backendai.Failed })
	if _, err := w.destroy(id, true); err != nil {
		t.Errorf("destroying it by force: %v", err)
	}
	w.eventually("the agent has let it go", func() bool { return w.agents[0].Books().Kernels == 1 })
}

func TestCrashOfTheSchedulerBeginsANewEpoch(t *testing.T) {
	w := newWorld(t, 1, nil)
	before, err := w.node.Ownership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.create(kernelRow("before", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(id)
	w.node.Send(schedulerIdentity("default"), (*protocol.Enqueue)(nil))
	w.eventually("its shard has a new epoch", func() bool {
		o, err := w.node.Ownership(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		raised := 0
		for s, e := range o.Epochs {
			if e > before.Epochs[s] {
				raised++
			}
		}
		return raised == 1 && o.Pending == 0
	})
	next, err := w.create(kernelRow("after", small))
	if err != nil {
		t.Fatal(err)
	}
	if s := w.await(next); s != backendai.Running {
		t.Errorf("status %s", s)
	}
	w.checkBooks(2)
}
