package api

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

// pingEvery is how often a stream says that it still lives (spec/rest-core §7.3).
var pingEvery = 15 * time.Second

// eventTimeout is how long a client may take to read an event.
const eventTimeout = 30 * time.Second

// Events is an open stream of server-sent events. Safe for concurrent use.
type Events struct {
	mu    sync.Mutex
	out   *bufio.Writer
	conn  net.Conn
	leave context.CancelFunc
}

// Events answers with a stream of server-sent events in the form of the original's (spec/rest-core §7.3): lines end in CRLF, a comment every
// 15 s, no rate limit in the head. run sends them; the stream ends when it returns. Its context ends when the client goes away, which only
// shows when something is sent, or when the server begins to stop. r must not be used by run.
// Error: Overloaded when there are too many streams.
func (r *Request) Events(run func(ctx context.Context, to *Events)) error {
	s := r.server
	if s.streams.Add(1) > int64(s.config.MaxStreams) {
		s.streams.Add(-1)
		return errBusy
	}
	res := r.ctx.Response()
	res.SetStatusCode(fiber.StatusOK)
	res.Header.SetContentType("text/event-stream")
	res.Header.Set("Cache-Control", "no-cache")
	res.Header.Set("Connection", "keep-alive")
	res.Header.Set("X-Accel-Buffering", "no")
	res.ImmediateHeaderFlush = true
	conn, path := r.ctx.Context().Conn(), r.Path
	r.ctx.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer s.streams.Add(-1)
		ctx, cancel := context.WithCancel(s.stopping)
		defer cancel()
		e := &Events{out: w, conn: conn, leave: cancel}
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.ping(ctx)
		}()
		func() {
			defer func() {
				if p := recover(); p != nil {
					slog.Error("a stream of events panicked", "path", path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				}
			}()
			run(ctx, e)
		}()
		cancel()
		<-done
		_ = conn.SetWriteDeadline(time.Time{}) // the connection may serve other requests
	})
	return nil
}

// Send sends an event; data is one line, JSON as a rule. Error: the client has gone.
func (e *Events) Send(name string, data []byte) error {
	return e.write("event: " + name + "\r\ndata: " + strings.ReplaceAll(string(data), "\n", "\r\ndata: ") + "\r\n\r\n")
}

func (e *Events) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.conn.SetWriteDeadline(time.Now().Add(eventTimeout))
	_, err := e.out.WriteString(text)
	if err == nil {
		err = e.out.Flush()
	}
	if err != nil {
		e.leave()
	}
	return err
}

func (e *Events) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = e.write(": ping\r\n\r\n")
		case <-ctx.Done():
			return
		}
	}
}
