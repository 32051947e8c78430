package callosum

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestServerBoundsConcurrency(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	s, _ := startServer(t, ServerConfig{MaxConcurrent: 3, MaxQueued: 4}, map[string]Handler{
		MethodPingKernel: Typed(func(context.Context, PingKernel) (Nothing, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			entered <- struct{}{}
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			return Nothing{}, nil
		}),
	})
	c := startClient(t, ClientConfig{})
	got := make(chan error, 10)
	for range 10 {
		Invoke(c, Peer{AgentID: "i", Address: s.Address()}, PingKernel{KernelID: "k"}, Fence{}, in(10*time.Second), func(_ Nothing, err error) { got <- err })
	}
	for range 3 { // 3 run, 4 wait, 3 are too many
		var remote *RemoteError
		if err := <-got; !errors.As(err, &remote) || remote.Name != "ServerOverloaded" || remote.Kind != MessageError {
			t.Errorf("%v", err)
		}
	}
	for range 3 {
		<-entered
	}
	close(release)
	for range 7 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if most != 3 {
		t.Errorf("%d handlers ran at a time", most)
	}
}

func TestServerAnswersInCompletionOrder(t *testing.T) {
	release := make(chan struct{})
	s, _ := startServer(t, ServerConfig{}, map[string]Handler{
		MethodPingKernel: Typed(func(context.Context, PingKernel) (Nothing, error) {
			<-release
			return Nothing{}, nil
		}),
	})
	c := startClient(t, ClientConfig{})
	peer := Peer{AgentID: "i", Address: s.Address()}
	order := make(chan string, 2)
	Invoke(c, peer, PingKernel{KernelID: "k"}, Fence{}, in(10*time.Second), func(Nothing, error) { order <- "slow" })
	Invoke(c, peer, Ping{"x"}, Fence{}, in(10*time.Second), func(string, error) { order <- "fast"; close(release) })
	if a, b := <-order, <-order; a != "fast" || b != "slow" {
		t.Error(a, b)
	}
}

func TestServerTurnsErrorsIntoExceptions(t *testing.T) {
	outcomes := map[string]error{
		"plain": errors.New("no such thing"), "own": fmt.Errorf("wrapped: %w", Exception("ValueError", "x")),
		"deadline": context.DeadlineExceeded, "cancelled": context.Canceled,
	}
	s, _ := startServer(t, ServerConfig{}, map[string]Handler{
		"fail": func(_ context.Context, a Arguments) ([]byte, error) {
			var how string
			if err := a.Bind(Required("how", &how)); err != nil {
				return nil, err
			}
			switch how {
			case "panic":
				panic("secret detail")
			case "unencodable":
				return Typed(func(context.Context, Ping) (time.Time, error) { return time.Now(), nil })(context.Background(), a)
			}
			return nil, outcomes[how]
		},
	})
	c := startClient(t, ClientConfig{})
	for how, want := range map[string]string{
		"plain": "RuntimeError('no such thing')", "own": "ValueError('x')", "deadline": "TimeoutError()", "cancelled": "CancelledError()",
		"panic": "RuntimeError('internal error of the agent')", "unencodable": "TypeError(",
	} {
		_, err := c.CallContext(testContext(t), Peer{AgentID: "i", Address: s.Address()}, NewCall("fail", how), Fence{})
		var remote *RemoteError
		if !errors.As(err, &remote) || !strings.HasPrefix(remote.Repr, want) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestServerEchoesKeyAndReadsFence(t *testing.T) {
	fences := make(chan Fence, 1)
	s, _ := startServer(t, ServerConfig{}, map[string]Handler{
		MethodPingKernel: Typed(func(ctx context.Context, _ PingKernel) (Nothing, error) {
			fences <- FenceOf(ctx)
			return Nothing{}, nil
		}),
	})
	c := startClient(t, ClientConfig{})
	peer := Peer{AgentID: "i", Address: s.Address()}
	if _, err := InvokeContext(testContext(t), c, peer, PingKernel{KernelID: "k"}, Fence{5, 6}); err != nil {
		t.Fatal(err)
	}
	if f := <-fences; f != (Fence{5, 6}) {
		t.Error(f)
	}
}

func TestServerRefusesTakenAddress(t *testing.T) {
	s, _ := startServer(t, ServerConfig{}, nil)
	if err := NewServer(ServerConfig{Address: s.Address()}).Start(); err == nil {
		t.Error("bound twice")
	}
}
