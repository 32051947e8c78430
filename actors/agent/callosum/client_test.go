package callosum

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	zmq "github.com/pebbe/zmq4"
)

func TestCallReturnsResultAndException(t *testing.T) {
	var failed []string
	s, _ := startServer(t, ServerConfig{OnFailure: func(method string, err *RemoteError) { failed = append(failed, method+" "+err.Repr) }}, map[string]Handler{
		MethodGetLogs: Typed(func(_ context.Context, q GetLogs) (Logs, error) {
			if q.KernelID == "gone" {
				return Logs{}, Exception("KeyError", "gone")
			}
			return Logs{"log of " + q.KernelID}, nil
		}),
	})
	c := startClient(t, ClientConfig{})
	peer := Peer{AgentID: "i-1", Address: s.Address()}
	ctx := testContext(t)

	logs, err := InvokeContext(ctx, c, peer, GetLogs{"k1"}, Fence{})
	if err != nil || logs.Logs != "log of k1" {
		t.Errorf("%+v, %v", logs, err)
	}
	_, err = InvokeContext(ctx, c, peer, GetLogs{"gone"}, Fence{})
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Name != "KeyError" || remote.Repr != "KeyError('gone')" || remote.Kind != MessageFailure {
		t.Errorf("%+v", err)
	}
	_, err = c.CallContext(ctx, peer, NewCall("no_such_method"), Fence{})
	if !errors.As(err, &remote) || remote.Repr != "KeyError('no_such_method')" {
		t.Errorf("%v", err)
	}
	stats, ok := c.Link(peer)
	if !ok || stats.State != LinkUp || stats.Sent != 3 || stats.Received != 3 || stats.RemoteErrors != 2 || stats.Connects != 1 || stats.RoundTrip <= 0 {
		t.Errorf("%+v", stats)
	}
	if len(c.Links()) != 1 {
		t.Error(c.Links())
	}
}

func TestOneConnectionCarriesManyCalls(t *testing.T) {
	s, _ := startServer(t, ServerConfig{}, nil)
	c := startClient(t, ClientConfig{})
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for g := range 8 {
		peer := Peer{AgentID: fmt.Sprint("i-", g%4), Address: s.Address()}
		for i := range 200 {
			wg.Add(1)
			msg := fmt.Sprint(g, " ", i)
			Invoke(c, peer, Ping{msg}, Fence{}, in(10*time.Second), func(got string, err error) {
				if got != msg || err != nil {
					wrong.Add(1)
				}
				wg.Done()
			})
		}
	}
	wg.Wait()
	if wrong.Load() != 0 {
		t.Errorf("%d of 1600 calls went wrong", wrong.Load())
	}
	for _, l := range c.Links() {
		if l.Connects != 1 || l.Sent != 400 {
			t.Errorf("%+v", l)
		}
	}
}

func TestDeadlineSaysThatTheCallMayHaveBeenExecuted(t *testing.T) {
	a := startSilent(t)
	c := startClient(t, ClientConfig{})
	peer := Peer{AgentID: "i-1", Address: a.address}
	got := make(chan error, 1)
	Invoke(c, peer, DestroyKernel{KernelID: "k"}, Fence{3, 9}, in(150*time.Millisecond), func(_ Nothing, err error) { got <- err })
	err := <-got
	if CauseOf(err) != CauseDeadline || !MaybeExecuted(err) {
		t.Errorf("%v", err)
	}
	if m := <-a.seen; m.Method != MethodDestroyKernel || m.Fence != (Fence{3, 9}) {
		t.Errorf("%+v", m)
	}
	if m := <-a.seen; m.Type != MessageCancel || m.Method != MethodDestroyKernel {
		t.Errorf("after the deadline came %+v", m)
	}
}

func TestUnreachableAgentFailsUnsent(t *testing.T) {
	s, stop := startServer(t, ServerConfig{}, nil)
	stop() // its port is free now
	c := startClient(t, ClientConfig{ConnectTimeout: 100 * time.Millisecond})
	peer := Peer{AgentID: "i-1", Address: s.Address()}
	_, err := InvokeContext(testContext(t), c, peer, Ping{"x"}, Fence{})
	if CauseOf(err) != CauseUnreachable || MaybeExecuted(err) {
		t.Errorf("%v", err)
	}
}

// A process that was stopped with a call in hand does not send it when it goes on: the world has moved on.
func TestStaleCallIsNotSent(t *testing.T) {
	a := startSilent(t)
	c := startClient(t, ClientConfig{})
	peer := Peer{AgentID: "i-1", Address: a.address}
	stale := func(age time.Duration, done func(Outcome)) *pending {
		payload, _ := Ping{"old"}.Call().Payload()
		return &pending{method: MethodPing, payload: payload, deadline: in(time.Minute), handedIn: wall(time.Now()).Add(-age), done: done, index: -1}
	}
	got := make(chan error, 1)
	if !c.pumpOf(peer).put(command{kind: commandCall, peer: peer, pending: stale(time.Minute, func(o Outcome) { got <- o.Err })}) {
		t.Fatal("the queue is full")
	}
	if err := <-got; CauseOf(err) != CauseUnreachable || MaybeExecuted(err) {
		t.Errorf("%v", err)
	}
	if !c.pumpOf(peer).put(command{kind: commandCall, peer: peer, pending: stale(time.Second, func(Outcome) {})}) {
		t.Fatal("the queue is full")
	}
	if m := <-a.seen; m.Method != MethodPing { // the first and only
		t.Errorf("%+v", m)
	}
	if l, _ := c.Link(peer); l.Sent != 1 {
		t.Errorf("%+v", l)
	}
}

func TestDisconnectFailsWhatWasSentAndReconnects(t *testing.T) {
	blocked := make(chan struct{}, 1)
	block := map[string]Handler{MethodGetLogs: Typed(func(ctx context.Context, q GetLogs) (Logs, error) {
		blocked <- struct{}{}
		<-ctx.Done()
		return Logs{}, ctx.Err()
	})}
	silent := startSilent(t)
	c := startClient(t, ClientConfig{ReconnectMin: 10 * time.Millisecond, ReconnectMax: 20 * time.Millisecond})
	peer := Peer{AgentID: "i-1", Address: silent.address}
	got := make(chan error, 1)
	Invoke(c, peer, GetLogs{"k"}, Fence{}, in(10*time.Second), func(_ Logs, err error) { got <- err })
	<-silent.seen
	silent.stop()
	if err := <-got; CauseOf(err) != CauseDisconnected || !MaybeExecuted(err) {
		t.Errorf("%v", err)
	}
	// A call during the outage waits for the agent's next life and is executed once.
	Invoke(c, peer, Ping{"again"}, Fence{}, in(10*time.Second), func(msg string, err error) { got <- err })
	_, stop := startServer(t, ServerConfig{Address: silent.address}, block)
	if err := <-got; err != nil {
		t.Errorf("after reconnecting: %v", err)
	}
	if l, _ := c.Link(peer); l.Connects != 2 || l.InFlight != 0 || l.Waiting != 0 {
		t.Errorf("%+v", l)
	}
	// A planned stop answers what it can: here with CANCELLED, as the handler heeds its context.
	Invoke(c, peer, GetLogs{"k"}, Fence{}, in(10*time.Second), func(_ Logs, err error) { got <- err })
	<-blocked
	stop()
	var remote *RemoteError
	if err := <-got; !errors.As(err, &remote) || !remote.Cancelled() {
		t.Errorf("%v", err)
	}
}

func TestBreakerOpensOnSilenceAndHeals(t *testing.T) {
	a := startSilent(t)
	c := startClient(t, ClientConfig{
		ProbeTimeout: 50 * time.Millisecond,
		Breaker:      BreakerConfig{Threshold: 3, Cooldown: 20 * time.Millisecond, MaxWait: 40 * time.Millisecond},
	})
	peer := Peer{AgentID: "i-1", Address: a.address}
	refused := func() bool {
		got := make(chan error, 1)
		Invoke(c, peer, GetLogs{"k"}, Fence{}, in(30*time.Millisecond), func(_ Logs, err error) { got <- err })
		err := <-got
		if CauseOf(err) == CauseBreakerOpen && MaybeExecuted(err) {
			t.Error("a refused call counts as sent")
		}
		return CauseOf(err) == CauseBreakerOpen
	}
	eventually(t, "breaker opens", refused)
	a.answer <- true
	eventually(t, "breaker closes", func() bool {
		l, _ := c.Link(peer)
		return l.Breaker == BreakerClosed
	})
	if msg, err := InvokeContext(testContext(t), c, peer, Ping{"x"}, Fence{}); err != nil || msg != "probe" {
		t.Errorf("%q, %v", msg, err)
	}
}

func TestOverloadIsToldAtOnce(t *testing.T) {
	a := startSilent(t)
	c := startClient(t, ClientConfig{MaxOutstanding: 5})
	peer := Peer{AgentID: "i-1", Address: a.address}
	got := make(chan error, 8)
	for range 8 {
		Invoke(c, peer, GetLogs{"k"}, Fence{}, in(10*time.Second), func(_ Logs, err error) { got <- err })
	}
	for range 3 {
		if err := <-got; CauseOf(err) != CauseOverloaded || MaybeExecuted(err) {
			t.Errorf("%v", err)
		}
	}
	c.Drop(peer)
	for range 5 {
		if err := <-got; CauseOf(err) != CauseStopped {
			t.Errorf("%v", err)
		}
	}
	eventually(t, "link is gone", func() bool { return len(c.Links()) == 0 })
}

func TestStopCallsEveryoneBack(t *testing.T) {
	a := startSilent(t)
	c := startClient(t, ClientConfig{})
	const calls = 3000
	var back atomic.Int64
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range calls / 3 {
				peer := Peer{AgentID: fmt.Sprint("i-", i%20), Address: a.address}
				if g == 0 && i%2 == 0 {
					peer.Address = "tcp://127.0.0.1:1"
				}
				c.Call(peer, NewCall("x"), Fence{}, in(time.Minute), func(o Outcome) {
					if o.Err == nil {
						t.Error("answered")
					}
					back.Add(1)
				})
			}
		})
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if back.Load() != calls {
		t.Errorf("%d of %d calls were called back", back.Load(), calls)
	}
}

func TestCancelReachesTheHandler(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	s, _ := startServer(t, ServerConfig{}, map[string]Handler{
		MethodExecuteBatch: Typed(func(ctx context.Context, q ExecuteBatch) (Nothing, error) {
			close(entered)
			<-ctx.Done()
			close(left)
			return Nothing{}, ctx.Err()
		}),
	})
	c := startClient(t, ClientConfig{})
	ctx, cancel := context.WithCancel(testContext(t))
	got := make(chan error, 1)
	go func() {
		_, err := InvokeContext(ctx, c, Peer{AgentID: "i-1", Address: s.Address()}, ExecuteBatch{KernelID: "k"}, Fence{})
		got <- err
	}()
	<-entered
	cancel()
	<-left
	if err := <-got; CauseOf(err) != CauseCancelled {
		t.Errorf("%v", err)
	}
	if s.Stats().Cancels != 1 {
		t.Errorf("%+v", s.Stats())
	}
}

func TestIdleLinkCloses(t *testing.T) {
	s, _ := startServer(t, ServerConfig{}, nil)
	c := startClient(t, ClientConfig{IdleTimeout: 20 * time.Millisecond})
	if _, err := InvokeContext(testContext(t), c, Peer{AgentID: "i-1", Address: s.Address()}, Ping{"x"}, Fence{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "idle link is closed", func() bool { return len(c.Links()) == 0 })
}

func TestCallsThatCannotBeMade(t *testing.T) {
	c := startClient(t, ClientConfig{})
	ctx := testContext(t)
	for name, c2 := range map[string]struct {
		peer Peer
		call Call
		want Cause
	}{
		"bad address": {Peer{AgentID: "a", Address: "localhost:6001"}, NewCall("x"), CauseInvalid},
		"bad payload": {Peer{AgentID: "a", Address: "tcp://127.0.0.1:1"}, NewCall("x", "\xff"), CauseInvalid},
	} {
		if _, err := c.CallContext(ctx, c2.peer, c2.call, Fence{}); CauseOf(err) != c2.want || MaybeExecuted(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	idle := NewClient(ClientConfig{})
	if _, err := idle.CallContext(ctx, Peer{Address: "tcp://127.0.0.1:1"}, NewCall("x"), Fence{}); CauseOf(err) != CauseStopped {
		t.Errorf("%v", err)
	}
	if err := idle.Stop(); err != nil {
		t.Error(err)
	}
}

func TestCurve(t *testing.T) {
	if !zmq.HasCurve() {
		t.Fatal("this libzmq has no CURVE")
	}
	serverPublic, serverSecret, _ := zmq.NewCurveKeypair()
	public, secret, _ := zmq.NewCurveKeypair()
	s, _ := startServer(t, ServerConfig{SecretKey: serverSecret, AuthorizedKeys: []string{public}}, nil)
	ctx := testContext(t)
	peer := Peer{AgentID: "i-1", Address: s.Address(), ServerKey: serverPublic}

	known := startClient(t, ClientConfig{PublicKey: public, SecretKey: secret})
	if _, err := InvokeContext(ctx, known, peer, Ping{"x"}, Fence{}); err != nil {
		t.Errorf("authorized client: %v", err)
	}
	stranger := startClient(t, ClientConfig{ConnectTimeout: 200 * time.Millisecond})
	if _, err := InvokeContext(ctx, stranger, peer, Ping{"x"}, Fence{}); CauseOf(err) != CauseUnreachable {
		t.Errorf("stranger: %v", err)
	}
	peer.ServerKey = ""
	if _, err := InvokeContext(ctx, stranger, peer, Ping{"x"}, Fence{}); CauseOf(err) != CauseUnreachable {
		t.Errorf("plain: %v", err)
	}
}

// A host that vanishes sends no FIN. Only the transport's pings notice, long before the deadline of the call.
func TestVanishedHostIsNoticed(t *testing.T) {
	a := startSilent(t)
	proxy := startProxy(t, a.address)
	c := startClient(t, ClientConfig{Heartbeat: 50 * time.Millisecond})
	peer := Peer{AgentID: "i-1", Address: proxy.address}
	got := make(chan error, 1)
	Invoke(c, peer, GetLogs{"k"}, Fence{}, in(time.Minute), func(_ Logs, err error) { got <- err })
	<-a.seen
	proxy.freeze()
	if err := <-got; CauseOf(err) != CauseDisconnected || !MaybeExecuted(err) {
		t.Errorf("%v", err)
	}
}
