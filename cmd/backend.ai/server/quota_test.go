package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/test/fakeagent"
)

// A quota is over all scaling groups: what is taken in one is missing in the other, and who waits there starts as soon as something is given back here.
func TestQuotaOverScalingGroups(t *testing.T) {
	w := newStores(t)
	for _, sql := range []string{
		`INSERT INTO scaling_groups (name, is_active, driver, driver_opts, scheduler, scheduler_opts) VALUES ('second', true, 'static', '{}', 'fifo', '{}')`,
		`INSERT INTO sgroups_for_domains (scaling_group, domain) VALUES ('second', 'default')`,
		`UPDATE keypair_resource_policies SET total_resource_slots = '{"cpu": "3"}', max_concurrent_sessions = 2`,
	} {
		if _, err := w.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.startManager()
	w.startAgent(w.cache)
	set, err := redis.Open(t.Context(), redis.Config{Addr: w.cache})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	fleet := fakeagent.NewFleet(set, 1, recordedImage, fakeagent.Config{ID: "i-second", ScalingGroup: "second", Capacity: backendai.SlotsOf("cpu", "64", "mem", "256g")})
	if err := fleet.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Stop)
	w.until("both agents are alive", `SELECT count(*) = 2 FROM agents WHERE status = 'ALIVE'`)
	create := func(name, group, cpu string, wait bool) string {
		t.Helper()
		status, _, text := w.call(w.url, "user", http.MethodPost, "/session", fmt.Sprintf(
			`{"name": %q, "image": %q, "enqueueOnly": %v, "config": {"scaling_group": %q, "resources": {"cpu": %q, "mem": "256m"}}}`, name, recordedImage, !wait, group, cpu))
		var answer struct{ Status string }
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusCreated {
			t.Fatalf("%s: %d %s", name, status, text)
		}
		return answer.Status
	}
	if s := create("first-of-three", "default", "2", true); s != "RUNNING" {
		t.Fatal(s)
	}
	create("too-much", "second", "2", false)
	w.until("its quota is said to be used up", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'too-much' AND status = 'PENDING' AND status_data->'scheduler'->'failed_predicates'->0->>'name' = 'keypair_resource_limit'`)
	if s := create("fits-beside", "second", "1", true); s != "RUNNING" {
		t.Fatal(s)
	}
	begin := time.Now()
	if status, _, text := w.call(w.url, "user", http.MethodDelete, "/session/first-of-three", ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	w.until("the one that has waited runs", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'too-much' AND status = 'RUNNING'`)
	if took := time.Since(begin); took > 8*time.Second { // a tick is 10 s
		t.Errorf("it was not woken: %v", took)
	}
	// Both of the two sessions that the key may have are in the second group; the counter that clients read knows.
	create("one-too-many", "default", "1", false)
	w.until("the number of sessions is used up", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'one-too-many' AND status = 'PENDING' AND status_data->'scheduler'->'failed_predicates'->0->>'name' = 'concurrency'`)
	w.eventually("two sessions are counted", func() bool {
		n, err := w.stat.Do(t.Context(), w.stat.B().Get().Key("keypair.concurrency_used.AKIANABBDUSEREXAMPLE").Build()).AsInt64()
		return err == nil && n == 2
	})
}
