package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"backend.ai/manager/test/golden"
)

// What users see of presets, quotas and scaling groups, as recorded.
func TestGoldenResource(t *testing.T) {
	w := newStores(t)
	w.twoAgents()
	w.startManager()
	p := golden.Replayer{URL: w.url, Differences: map[string]golden.Difference{
		"check presets, unknown group": {
			Why:  "500 in the original (spec/rest-core §7.8)",
			Want: func(r *golden.Response) { invalid(r, "Unknown user group") },
		},
	}}
	p.Run(t, golden.Load(t, "testdata/resource.json"))
}

// twoAgents puts the recorded cluster's agents into the database.
func (w *world) twoAgents() {
	w.Helper()
	if _, err := w.pool.Exec(w.Context(), `INSERT INTO agents (id, status, region, scaling_group, schedulable, available_slots, occupied_slots, addr, first_contact, version, architecture, compute_plugins)
 SELECT 'i-fake-00' || n, 'ALIVE', 'test', 'default', true, '{"cpu": "64", "mem": "274877906944", "cuda.shares": "8"}', '{}', 'tcp://127.0.0.1:1', now(), '22.03.3', 'x86_64', '{}' FROM generate_series(0, 1) n`); err != nil {
		w.Fatal(err)
	}
}

// Quotas, what is taken of them, and agents that are full change what can be had; administrators may have the figures made anew.
func TestPresets(t *testing.T) {
	w := newWorld(t)
	for _, sql := range []string{
		`UPDATE keypair_resource_policies SET total_resource_slots = '{"cpu": "3"}'`,
		`UPDATE groups SET total_resource_slots = '{"mem": "6g"}' WHERE name = 'default'`,
		`INSERT INTO resource_presets (name, resource_slots) VALUES ('three', '{"cpu": "3", "mem": "1g"}'), ('two', '{"cpu": "2", "mem": "1g", "strange": "1"}'), ('large', '{"cpu": "1", "mem": "7g"}')`,
	} {
		if _, err := w.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	check := func(body string) (answer struct {
		KeypairRemaining map[string]string                            `json:"keypair_remaining"`
		KeypairUsing     map[string]string                            `json:"keypair_using"`
		Remaining        map[string]string                            `json:"scaling_group_remaining"`
		Groups           map[string]struct{ Using map[string]string } `json:"scaling_groups"`
		Presets          []struct {
			Name        string
			Allocatable bool
		}
	}, can map[string]bool) {
		status, _, text := w.call(w.url, "user", http.MethodPost, "/resource/check-presets", body)
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s (%v)", status, text, err)
		}
		can = make(map[string]bool)
		for _, p := range answer.Presets {
			can[p.Name] = p.Allocatable
		}
		return answer, can
	}
	w.eventually("the quotas are known", func() bool {
		a, _ := check("")
		return a.KeypairRemaining["cpu"] == "3" && a.KeypairRemaining["mem"] == "6442450944"
	})
	if a, can := check(`{}`); !can["three"] || !can["two"] || can["large"] || a.Remaining["cpu"] != "3" {
		t.Errorf("nothing is taken: %+v", a)
	}
	if status, _, text := w.call(w.url, "user", http.MethodPost, "/session", `{"name": "one-of-three", "image": "`+recordedImage+`", "config": {"resources": {"cpu": "1", "mem": "512m"}}}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if a, can := check(`{"group": "default", "scaling_group": "default"}`); can["three"] || !can["two"] || a.KeypairUsing["cpu"] != "1" || a.Groups["default"].Using["mem"] != "536870912" {
		t.Errorf("a third is taken: %+v", a)
	}
	if _, err := w.pool.Exec(t.Context(), `UPDATE agents SET occupied_slots = '{"cpu": "63", "mem": "1g"}'`); err != nil {
		t.Fatal(err)
	}
	if _, can := check(""); can["two"] {
		t.Error("the agent is full")
	}
	if status, _, text := w.call(w.url, "admin", http.MethodPost, "/resource/recalculate-usage", "{}"); status != http.StatusOK || text != "{}" {
		t.Errorf("recalculate: %d %s", status, text)
	}
	w.eventually("the agent's figure is right again", func() bool { _, can := check(""); return can["two"] })
}

// The version of a scaling group's coordinator is asked for, and one that does not answer is unavailable.
func TestCoordinatorVersion(t *testing.T) {
	w := newStores(t)
	w.startManager()
	coordinator := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			_, _ = rw.Write([]byte(`{"api_version": "v2"}`))
		}
	}))
	set := func(address string) {
		if _, err := w.pool.Exec(t.Context(), `UPDATE scaling_groups SET wsproxy_addr = $1 WHERE name = 'default'`, address); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() (int, string) {
		status, _, text := w.call(w.url, "user", http.MethodGet, "/scaling-groups/default/wsproxy-version?group=default", "")
		return status, text
	}
	set(coordinator.URL + "/")
	if status, text := ask(); status != http.StatusOK || text != `{"wsproxy_version":"v2"}` && text != `{"wsproxy_version": "v2"}` {
		t.Errorf("%d %s", status, text)
	}
	coordinator.Close()
	if status, _ := ask(); status != http.StatusOK {
		t.Errorf("it is not remembered: %d", status)
	}
	set("http://127.0.0.1:1")
	if status, text := ask(); status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, text)
	}
}
