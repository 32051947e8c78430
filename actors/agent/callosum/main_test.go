package callosum

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	zmq "github.com/pebbe/zmq4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// startServer serves until the test ends, or until the returned function is called.
func startServer(t testing.TB, config ServerConfig, handlers map[string]Handler) (*Server, func()) {
	t.Helper()
	if config.Address == "" {
		config.Address = "tcp://127.0.0.1:*"
	}
	config.Logger = quiet
	s := NewServer(config)
	s.Handle(MethodPing, Typed(func(_ context.Context, q Ping) (string, error) { return q.Msg, nil }))
	for method, h := range handlers {
		s.Handle(method, h)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func startClient(t testing.TB, config ClientConfig) *Client {
	t.Helper()
	config.Logger = quiet
	c := NewClient(config)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func in(d time.Duration) time.Time { return time.Now().Add(d) }

// eventually polls, for states that no signal announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := in(10 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// silentAgent is an agent that is connected but answers only when told to, as a hung host.
type silentAgent struct {
	address string
	seen    chan Message
	answer  chan bool // true: answer pings from now on
	stop    func()
}

func startSilent(t testing.TB) *silentAgent {
	t.Helper()
	zctx, err := zmq.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	router, err := zctx.NewSocket(zmq.ROUTER)
	if err != nil {
		t.Fatal(err)
	}
	if err := router.Bind("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	address, _ := router.GetLastEndpoint()
	a := &silentAgent{address: address, seen: make(chan Message, 1000), answer: make(chan bool, 1)}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer router.Close()
		answering := false
		poller := zmq.NewPoller()
		poller.Add(router, zmq.POLLIN)
		for {
			select {
			case <-quit:
				return
			case answering = <-a.answer:
			default:
			}
			if polled, _ := poller.Poll(5 * time.Millisecond); len(polled) == 0 {
				continue
			}
			frames, err := router.RecvMessageBytes(zmq.DONTWAIT)
			if err != nil {
				continue
			}
			m, err := Decode(frames, DecodeOptions{})
			if err != nil {
				continue
			}
			a.seen <- m
			if answering && m.Type == MessageFunction && m.Method == MethodPing {
				out, _ := EncodeResult(m.ID, []byte("\xa5probe"))
				_, _ = router.SendMessage(frames[0], out[0], out[1])
			}
		}
	}()
	stopped := false
	a.stop = func() {
		if !stopped {
			stopped = true
			close(quit)
			<-done
			_ = zctx.Term()
		}
	}
	t.Cleanup(a.stop)
	return a
}

// proxy forwards TCP until it is frozen, from when on it swallows everything and closes nothing.
type proxy struct {
	address string
	frozen  atomic.Bool
}

func (p *proxy) freeze() { p.frozen.Store(true) }

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: "tcp://" + listener.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	pipe := func(from, to net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if !p.frozen.Load() {
				_, _ = to.Write(buf[:n])
			}
		}
	}
	wg.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(target, "tcp://"))
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			wg.Go(func() { pipe(near, far) })
			wg.Go(func() { pipe(far, near) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return p
}
