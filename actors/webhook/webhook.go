package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	senders  = 8
	maxQueue = 4096
	timeout  = 30 * time.Second
)

// Sender sends notices. NewSender ──▶ running ── Stop ──▶ stopped.
type Sender struct {
	queue   chan notice
	client  *http.Client
	log     *slog.Logger
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	dropped atomic.Int64
}

type notice struct {
	url  string
	body body
}

type body struct {
	Type      string `json:"type"`
	Event     string `json:"event"`
	SessionID string `json:"session_id"`
	When      string `json:"when"`
}

// NewSender starts the senders.
func NewSender(log *slog.Logger) *Sender {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sender{queue: make(chan notice, maxQueue), client: &http.Client{Timeout: timeout}, log: log, cancel: cancel}
	for range senders {
		s.wg.Go(func() { s.run(ctx) })
	}
	return s
}

// Session queues the notice of a session event ("session_started" is told as "started"). It never blocks.
func (s *Sender) Session(url, event string, session uuid.UUID, at time.Time) {
	n := notice{url, body{
		Type: "session_lifecycle", Event: strings.TrimPrefix(event, "session_"), SessionID: session.String(),
		When: at.UTC().Format("2006-01-02T15:04:05.000000+00:00"),
	}}
	select {
	case s.queue <- n:
	default:
		if s.dropped.Add(1) == 1 {
			s.log.Warn("too many web hooks are waiting; some are dropped")
		}
	}
}

// Stop drops what waits and cancels what is being sent.
func (s *Sender) Stop() {
	s.cancel()
	s.wg.Wait()
}

func (s *Sender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-s.queue:
			s.send(ctx, n)
		}
	}
}

func (s *Sender) send(ctx context.Context, n notice) {
	doc, err := json.Marshal(n.body)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(doc))
	if err != nil {
		s.log.Warn("a session's callback URL is not usable", "session", n.body.SessionID, "error", err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		s.log.Warn("a session's web hook was not reached", "session", n.body.SessionID, "event", n.body.Event, "error", err)
		return
	}
	defer resp.Body.Close()
	reply, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	s.log.Info("web hook called", "session", n.body.SessionID, "event", n.body.Event, "status", resp.StatusCode)
	if len(reply) > 0 {
		s.log.Warn("a web hook answered with a body; it is ignored", "session", n.body.SessionID, "event", n.body.Event, "bytes", len(reply))
	}
}
