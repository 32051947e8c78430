package node

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
)

// options gives the scaling group other options and has its scheduler told.
func (w *world) options(doc string) {
	w.Helper()
	if _, err := w.pool.Exec(context.Background(), `UPDATE scaling_groups SET scheduler_opts = $1 WHERE name = 'default'`, doc); err != nil {
		w.Fatal(err)
	}
	w.node.PoliciesChanged()
}

// why asks the scheduler why a session waits.
func (w *world) why(id uuid.UUID) (answer struct {
	Note      string
	Sentences []string
	Changes   []struct{ Sentence string }
}) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	v, err := w.node.Ask(ctx, schedulerIdentity("default"), func(r protocol.ReplyTo) any { return &protocol.Why{SessionID: id, Reply: r} })
	if errors.Is(err, backendai.ServiceUnavailable) { // it is reading its rows
		return answer
	}
	if err != nil {
		w.Fatal(err)
	}
	if err := json.Unmarshal(v.([]byte), &answer); err != nil {
		w.Fatal(err)
	}
	return answer
}

// Options count without a restart, priorities change while sessions wait and survive one, a slip of an administrator changes nothing, and what
// owners have used is written down when the scheduler is handed over.
func TestOptionsOfAScalingGroup(t *testing.T) {
	w := newWorld(t, 1, nil)
	whole := backendai.SlotsOf("cpu", "64", "mem", "1g")
	create := func(name string) uuid.UUID {
		t.Helper()
		id, err := w.create(kernelRow(name, whole))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	prioritise := func(id uuid.UUID, priority int) error {
		_, err := w.ask(id, func(r protocol.ReplyTo) any {
			return &protocol.Reprioritize{SessionID: id, Priority: priority, Reply: r}
		})
		return err
	}
	running := create("running")
	w.await(running)
	first, second := create("first"), create("second")
	w.options(`{"config": {"priority": true, "fair_share_half_life": "1h"}}`)
	if err := prioritise(second, 5); err != nil {
		t.Fatal(err)
	}
	if got := w.text(`SELECT resource_opts::text FROM kernels WHERE id = $1`, second); got != `{"shmem": 67108864, "priority": 5}` {
		t.Errorf("options %s", got)
	}
	w.eventually("the other goes first", func() bool {
		return strings.Contains(strings.Join(w.why(first).Sentences, " "), "1 session of higher priority is looked at first.")
	})
	w.eventually("what was used is known", func() bool {
		list, _ := w.node.Inspector().List(inspector.Filter{Kind: inspector.KindScheduler, ID: "default"}, 1)
		return len(list) == 1 && list[0].Facts["fair_share_owners"] == 1
	})
	w.options(`{"config": {"priority": "of course"}}`)
	w.eventually("what is not understood is told", func() bool {
		return strings.Contains(w.why(first).Note, `priority: "of course" is not true or false; the last good ones are used`)
	})
	if _, err := w.destroy(running, false); err != nil {
		t.Fatal(err)
	}
	if s := w.await(second); s != backendai.Running {
		t.Fatalf("the second is %s", s)
	}
	if s := w.status(first); s != backendai.Pending {
		t.Errorf("the first is %s", s)
	}
	if err := prioritise(second, 6); !errors.Is(err, backendai.InvalidAPIParameters) {
		t.Errorf("of a session that runs: %v", err)
	}
	w.options(`{"config": {"priority": true, "fair_share_half_life": "1h"}}`)
	w.eventually("what is right again is understood", func() bool { return w.why(first).Note == "" })

	third := create("third")
	if err := prioritise(third, 1); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if got := w.text(`SELECT string_agg(concat_ws(' ', scaling_group, access_key, (slot_seconds->>'cpu')::float > 0), ', ') FROM backendai_actors.past_uses`); got != "default "+accessKey+" t" {
		t.Errorf("written down: %q", got)
	}
	w.start()
	w.eventually("the third still goes first", func() bool {
		return strings.Contains(strings.Join(w.why(first).Sentences, " "), "1 session of higher priority is looked at first.")
	})
}
