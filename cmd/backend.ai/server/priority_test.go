package server_test

import (
	"fmt"
	"net/http"
	"testing"
)

// A waiting session's priority can be changed, by those who may, where it is heeded; and then it starts first.
func TestPriority(t *testing.T) {
	w := newWorld(t)
	set := func(as, name, n string) int {
		t.Helper()
		query := ""
		if as == "admin" {
			query = "?owner_access_key=AKIANABBDUSEREXAMPLE"
		}
		status, _, text := w.call(w.url, as, http.MethodPost, "/session/"+name+"/priority"+query, `{"priority": `+n+`}`)
		t.Log(status, text)
		return status
	}
	create := func(name, cpu string, wait bool) {
		t.Helper()
		status, _, text := w.call(w.url, "user", http.MethodPost, "/session", fmt.Sprintf(
			`{"name": %q, "image": %q, "enqueueOnly": %v, "config": {"resources": {"cpu": %q, "mem": "256m"}}}`, name, recordedImage, !wait, cpu))
		if status != http.StatusCreated {
			t.Fatalf("%s: %d %s", name, status, text)
		}
	}
	create("fills-all", "64", true)
	create("waits-first", "64", false)
	create("waits-second", "64", false)
	if status := set("user", "waits-second", "-1"); status != http.StatusBadRequest {
		t.Errorf("a group that does not heed priorities: %d", status)
	}
	if _, err := w.pool.Exec(t.Context(), `UPDATE scaling_groups SET scheduler_opts = '{"config": {"priority": true}}' WHERE name = 'default'`); err != nil {
		t.Fatal(err)
	}
	w.eventually("the option is known", func() bool { return set("user", "waits-first", "0") == http.StatusNoContent })
	for n, want := range map[string]int{"1": http.StatusForbidden, "5000": http.StatusBadRequest, `"x"`: http.StatusBadRequest} {
		if status := set("user", "waits-second", n); status != want {
			t.Errorf("a user asks for %s: %d", n, status)
		}
	}
	if status := set("user", "fills-all", "-1"); status != http.StatusBadRequest {
		t.Errorf("it runs: %d", status)
	}
	if status := set("admin", "waits-second", "5"); status != http.StatusNoContent {
		t.Fatalf("an administrator: %d", status)
	}
	if status, _, text := w.call(w.url, "user", http.MethodDelete, "/session/fills-all", ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	w.until("the one with the higher priority runs", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'waits-second' AND status = 'RUNNING'`)
	w.until("the other waits", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'waits-first' AND status = 'PENDING'`)
}
