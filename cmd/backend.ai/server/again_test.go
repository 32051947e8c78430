package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A balancer sends a request again when the node that had it died. The very same request creates one session, and each time the
// answer is that it was created; another request for that name is told that there is one.
func TestSameRequestAgain(t *testing.T) {
	w := newWorld(t)
	body := fmt.Sprintf(`{"name": "once-only", "image": %q, "config": {"resources": {"cpu": "1", "mem": "256m"}}}`, recordedImage)
	req := w.signed(w.url, "user", http.MethodPost, "/session", body)
	type answer struct {
		SessionID, Status string
		Created           bool
	}
	read := func(status int, _ http.Header, text string) (a answer) {
		if err := json.Unmarshal([]byte(text), &a); err != nil || status/100 != 2 {
			t.Errorf("%d %s (%v)", status, text, err)
		}
		return a
	}
	copyOf := func() *http.Request {
		c := req.Clone(t.Context())
		c.Body, _ = req.GetBody()
		return c
	}
	beside := make(chan answer)
	go func() { beside <- read(w.send(copyOf())) }()
	first := read(w.send(copyOf()))
	if first.Status != "RUNNING" || !first.Created {
		t.Errorf("first: %+v", first)
	}
	if a := <-beside; a != first {
		t.Errorf("beside the first: %+v, not %+v", a, first)
	}
	if a := read(w.send(copyOf())); a != first {
		t.Errorf("after the first: %+v, not %+v", a, first)
	}
	if a := read(w.call(w.url, "user", http.MethodPost, "/session", body)); a.Created || a.SessionID != first.SessionID {
		t.Errorf("another request: %+v", a)
	}
	if status, _, text := w.call(w.url, "user", http.MethodPost, "/session", strings.Replace(body, `{"name"`, `{"reuseIfExists": false, "name"`, 1)); status != http.StatusBadRequest {
		t.Errorf("another request that wants a new one: %d %s", status, text)
	}
	var n int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM kernels WHERE session_name = 'once-only'`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v", n, err)
	}
	if status, _, text := w.call(w.url, "user", http.MethodDelete, "/session/once-only", ""); status != http.StatusOK {
		t.Fatalf("destroy: %d %s", status, text)
	}
	if a := read(w.call(w.url, "user", http.MethodPost, "/session", body)); !a.Created || a.SessionID == first.SessionID {
		t.Errorf("after its end: %+v", a)
	}
}
