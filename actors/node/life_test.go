package node

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/test/fakeagent"
)

var small = backendai.SlotsOf("cpu", "1", "mem", "1g")

func TestLifeOfASession(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("life", small))
	if err != nil {
		t.Fatal(err)
	}
	if s := w.await(id); s != backendai.Running {
		t.Fatalf("status %s", s)
	}
	if got := w.text(`SELECT concat_ws('|', status, status_info, status_data, agent, kernel_host, occupied_slots, service_ports -> 0 ->> 'name') FROM kernels WHERE id = $1`, id); got != `RUNNING||{}|i-0|127.0.0.1|{"cpu": "1", "mem": "1073741824"}|sshd` {
		t.Errorf("running row %s", got)
	}
	w.eventually("the agent's row shows what is taken", func() bool {
		return w.text(`SELECT coalesce(occupied_slots ->> 'cpu', '0') FROM agents`) == "1"
	})
	d, err := w.destroy(id, false)
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Stats) == "" {
		t.Error("no last statistics")
	}
	if got := w.text(`SELECT concat_ws('|', status, status_info, status_data, terminated_at IS NOT NULL, last_stat -> 'cpu_used' ->> 'current') FROM kernels WHERE id = $1`, id); got != `TERMINATED|user-requested|{"kernel": {"exit_code": -1}, "session": {"status": "terminated"}}|t|1` {
		t.Errorf("dead row %s", got)
	}
	want := []string{"session_enqueued", "session_scheduled", "session_preparing", "session_started", "kernel_terminating", "session_terminated"}
	w.eventually("all events are out", func() bool { return reflect.DeepEqual(w.bus.names(), want) })
	w.eventually("the slots are back", func() bool { return w.text(`SELECT coalesce(occupied_slots ->> 'cpu', '0') FROM agents`) == "0" })
	w.checkBooks(0)
	if _, err := w.destroy(id, false); !errors.Is(err, backendai.SessionNotFound) {
		t.Errorf("destroying it again: %v", err)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	w := newWorld(t, 4, func(c *fakeagent.Config) { c.CreateDelay = 20 * time.Millisecond })
	const n = 200
	ids := make([]uuid.UUID, n)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id, err := w.create(kernelRow(fmt.Sprintf("many-%d", i), small))
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = id
			if s := w.await(id); s != backendai.Running {
				t.Errorf("session %d: %s", i, s)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sessions RUNNING in %v", n, time.Since(begin))
	w.checkBooks(n)
	begin = time.Now()
	for i := range n {
		wg.Go(func() {
			if _, err := w.destroy(ids[i], false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sessions destroyed in %v", n, time.Since(begin))
	w.checkBooks(0)
	if left := w.text(`SELECT count(*)::text FROM kernels WHERE status <> 'TERMINATED'`); left != "0" {
		t.Errorf("%s rows are not dead", left)
	}
}

func TestQueueWaitsForRoom(t *testing.T) {
	w := newWorld(t, 1, func(c *fakeagent.Config) { c.Capacity = backendai.SlotsOf("cpu", "1", "mem", "4g") })
	first, err := w.create(kernelRow("first", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(first)
	second, err := w.create(kernelRow("second", small))
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the row says why it waits", func() bool {
		return w.text(`SELECT coalesce(status_info, '') FROM kernels WHERE id = $1`, second) == "no-available-instances"
	})
	want := "Could not find a contiguous resource region in any agent big enough to host the session (" + second.String() + ")"
	if got := w.text(`SELECT status_data -> 'scheduler' ->> 'msg' FROM kernels WHERE id = $1`, second); got != want {
		t.Errorf("msg %q", got)
	}
	if _, err := w.destroy(first, false); err != nil {
		t.Fatal(err)
	}
	if s := w.await(second); s != backendai.Running {
		t.Errorf("second: %s", s)
	}
	w.checkBooks(1)
}

func TestFailedStartIsCancelledWhole(t *testing.T) {
	w := newWorld(t, 1, func(c *fakeagent.Config) {
		c.FailCreate = func(string) error { return callosum.Exception("RuntimeError", "no luck") }
	})
	id, err := w.create(kernelRow("fails", small))
	if err != nil {
		t.Fatal(err)
	}
	if s := w.await(id); s != backendai.Cancelled {
		t.Errorf("status %s", s)
	}
	want := `CANCELLED|failed-to-start|{"error": {"src": "agent", "name": "MultiAgentError", "repr": "MultiAgentError(1)", "collection": [{"src": "agent", "name": "RuntimeError", "repr": "RuntimeError('no luck')"}]}}`
	if got := w.text(`SELECT concat_ws('|', status, status_info, status_data) FROM kernels WHERE id = $1`, id); got != want {
		t.Errorf("row\n got %s\nwant %s", got, want)
	}
	w.checkBooks(0)
}

func TestNameIsTakenByALiveSession(t *testing.T) {
	w := newWorld(t, 1, nil)
	id, err := w.create(kernelRow("name", small))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.create(kernelRow("name", small)); !errors.Is(err, backendai.SessionAlreadyExists) {
		t.Errorf("second of the name: %v", err)
	}
	w.await(id)
	other, err := w.create(kernelRow("other", small))
	if err != nil {
		t.Fatal(err)
	}
	w.await(other)
	rename := func(name string) error {
		_, err := w.ask(other, func(r protocol.ReplyTo) any { return &protocol.Rename{Name: name, Reply: r} })
		return err
	}
	if err := rename("name"); !errors.Is(err, backendai.SessionAlreadyExists) {
		t.Errorf("rename to a taken name: %v", err)
	}
	if err := rename("free"); err != nil {
		t.Errorf("rename: %v", err)
	}
	if got := w.text(`SELECT session_name FROM kernels WHERE id = $1`, other); got != "free" {
		t.Errorf("name %s", got)
	}
}
