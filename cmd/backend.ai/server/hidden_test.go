package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A plan may rest on when other people's sessions end: plain users are told when, not whose.
func TestPlanHidesOthers(t *testing.T) {
	w := newWorld(t)
	ask := func(as, target, name, options string, want int) string {
		t.Helper()
		status, _, text := w.call(w.url, as, http.MethodPost, target, fmt.Sprintf(
			`{"name": %q, "image": %q, "config": {"scaling_group": "default", "resources": {"cpu": "60", "mem": "256m"}, "resource_opts": {%s}}}`, name, recordedImage, options))
		if status != want {
			t.Fatalf("%s %s: %d %s", as, target, status, text)
		}
		return text
	}
	ask("admin", "/session", "takes-nearly-all", `"time_limit": "1h"`, http.StatusCreated)
	var other string
	if err := w.pool.QueryRow(t.Context(), `SELECT session_id::text FROM kernels WHERE session_name = 'takes-nearly-all'`).Scan(&other); err != nil {
		t.Fatal(err)
	}
	for as, shown := range map[string]bool{"admin": true, "user": false} {
		text := ask(as, "/session/_/plan", "would-wait", "", http.StatusOK)
		if !strings.Contains(text, `"estimate"`) || !strings.Contains(text, `"no-agent"`) {
			t.Errorf("%s: %s", as, text)
		}
		if strings.Contains(text, other) != shown {
			t.Errorf("%s: the other's session is shown: %v; %s", as, !shown, text)
		}
	}
}
