package api_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"backend.ai/manager/api"
)

// speaker streams what it is told to say.
type speaker struct {
	say  chan string
	left chan error // why a stream has ended
}

func (s *speaker) Register(r *api.Router) {
	r.GET("/events", func(r *api.Request) error {
		return r.Events(func(ctx context.Context, to *api.Events) {
			for {
				select {
				case text, ok := <-s.say:
					if !ok {
						s.left <- nil
						return
					}
					if text == "panic" {
						defer func() { s.left <- errors.New("panicked") }()
						panic("at the microphone")
					}
					_ = to.Send("said", []byte(text))
				case <-ctx.Done():
					s.left <- ctx.Err()
					return
				}
			}
		})
	}, api.Auth)
	r.GET("/echo", func(r *api.Request) error { return r.JSON("still here") })
}

func speak(t *testing.T, config api.Config) (string, *speaker, *api.Server) {
	t.Helper()
	s := &speaker{say: make(chan string), left: make(chan error, 10)}
	url, server := start(t, config, api.Deps{Credentials: people{}}, func(a *api.Server) { a.Mount("/speaker", s) })
	return url, s, server
}

func (s *speaker) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.left:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the stream does not end")
		return nil
	}
}

// listen opens a stream over a connection of its own.
func listen(t *testing.T, url string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	req := as(t, "user", url, "GET", "/speaker/events")
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		t.Fatal(err)
	}
	return conn, in, resp
}

func TestEvents(t *testing.T) {
	url, s, _ := speak(t, api.Config{})
	conn, in, resp := listen(t, url)
	want := map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
	for name, value := range want {
		if got := resp.Header.Get(name); got != value && name != "Connection" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-RateLimit-Limit") != "" || len(resp.TransferEncoding) != 1 {
		t.Errorf("%v", resp)
	}
	read := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	s.say <- `{"a": 1}`
	read("event: said\r\ndata: {\"a\": 1}\r\n\r\n")
	s.say <- "two\nlines"
	read("event: said\r\ndata: two\r\ndata: lines\r\n\r\n")
	close(s.say)
	if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after its end: %v", err)
	}
	if err := s.ended(t); err != nil {
		t.Error(err)
	}
	// The connection serves other requests.
	if _, err := io.WriteString(conn, "GET /speaker/echo HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %v", resp, err)
	}
}

// A client that goes away is noticed when something is sent, at the latest with a ping.
func TestEventsWithoutAListener(t *testing.T) {
	defer api.SetPing(10 * time.Millisecond)()
	url, s, _ := speak(t, api.Config{})
	conn, _, resp := listen(t, url)
	got := make([]byte, len(": ping\r\n\r\n"))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != ": ping\r\n\r\n" {
		t.Errorf("%q %v", got, err)
	}
	_ = conn.Close()
	if err := s.ended(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A server that stops ends its streams first; it does not wait for them until its time is over.
func TestEventsOfAServerThatStops(t *testing.T) {
	url, s, server := speak(t, api.Config{})
	_, _, resp := listen(t, url)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.ended(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

// There are at most so many streams, and one that panics ends alone.
func TestEventsAreBounded(t *testing.T) {
	url, s, _ := speak(t, api.Config{MaxStreams: 1})
	_, _, first := listen(t, url)
	if _, _, second := listen(t, url); second.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%v", second)
	}
	s.say <- "panic"
	if rest, _ := io.ReadAll(first.Body); len(rest) != 0 {
		t.Errorf("%q", rest)
	}
	_ = s.ended(t)
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, _, third := listen(t, url)
		if third.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v", third)
		}
	}
}
