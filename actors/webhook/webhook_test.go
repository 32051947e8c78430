package webhook

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestNotice(t *testing.T) {
	got := make(chan map[string]string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var doc map[string]string
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			t.Error(err)
		}
		got <- doc
	}))
	defer server.Close()
	s := NewSender(slog.New(slog.DiscardHandler))
	defer s.Stop()
	id := uuid.New()
	s.Session(server.URL, "session_started", id, time.Date(2022, 9, 1, 2, 3, 4, 1000, time.UTC))
	select {
	case doc := <-got:
		want := map[string]string{"type": "session_lifecycle", "event": "started", "session_id": id.String(), "when": "2022-09-01T02:03:04.000001+00:00"}
		for k, v := range want {
			if doc[k] != v {
				t.Errorf("%s = %q, want %q", k, doc[k], v)
			}
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no notice came")
	}
}

func TestDeadReceiverDoesNotHoldUp(t *testing.T) {
	s := NewSender(slog.New(slog.DiscardHandler))
	for range maxQueue + 100 { // nobody listens there
		s.Session("http://127.0.0.1:1/", "session_started", uuid.New(), time.Now())
	}
	s.Stop()
}
