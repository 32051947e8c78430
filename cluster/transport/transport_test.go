package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

// TestMain sees to it that no transport leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 20 * time.Second

const secret = "a secret of the tests, long enough"

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

type node struct {
	*Transport
	t      testing.TB
	log    *journal
	frames chan []byte
}

func newNode(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	n := &node{t: t, log: &journal{}, frames: make(chan []byte, 1<<16)}
	cfg := Config{
		Host: "127.0.0.1", Secret: config.NewSecret(secret), Log: slog.New(slog.NewTextHandler(n.log, nil)),
		Receive: func(frame []byte) {
			select {
			case n.frames <- frame:
			default: // more than any test looks at
			}
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if n.Transport, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		n.t.Errorf("stop: %v", err)
	}
}

func (n *node) next() []byte {
	n.t.Helper()
	select {
	case f := <-n.frames:
		return f
	case <-time.After(within):
		n.t.Fatal("no frame came")
		return nil
	}
}

func at(port string) func(*Config) {
	return func(c *Config) {
		var err error
		if c.Port, err = net.LookupPort("tcp", port); err != nil {
			panic(err)
		}
	}
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func number(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Two actor systems in one process exchange frames, both ways, of any size, in order.
func TestExchange(t *testing.T) {
	quiet := actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })
	systems := []*actor.ActorSystem{actor.NewActorSystem(quiet), actor.NewActorSystem(quiet)}
	defer func() {
		for _, s := range systems {
			s.Shutdown()
		}
	}()
	a := newNode(t, func(c *Config) { c.System = systems[0] })
	b := newNode(t, func(c *Config) { c.System = systems[1]; c.Advertised = "localhost" })
	if systems[0].Address() != a.Address() || systems[1].Address() != b.Address() || !strings.HasPrefix(b.Address(), "localhost:") {
		t.Errorf("the systems have the addresses %q and %q", systems[0].Address(), systems[1].Address())
	}
	const n = 2000
	for i := range n {
		a.Send(b.Address(), number(i))
		b.Send(a.Address(), number(i))
	}
	for i := range n {
		if x, y := a.next(), b.next(); !bytes.Equal(x, number(i)) || !bytes.Equal(y, number(i)) {
			t.Fatalf("%d: %x %x", i, x, y)
		}
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), MaxFrame/16)
	for _, frame := range [][]byte{{}, {0}, large} {
		a.Send(b.Address(), frame)
		if got := b.next(); !bytes.Equal(got, frame) {
			t.Errorf("%d bytes became %d", len(frame), len(got))
		}
	}
	a.Send(b.Address(), make([]byte, MaxFrame+1))
	a.Send(a.Address(), []byte("to myself"))
	if got := string(a.next()); got != "to myself" {
		t.Error(got)
	}
	if s := a.Stats(); len(s) != 2 || s[0].Queued+s[1].Queued != 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(a.log.String(), "too large") {
		t.Error("a frame that is too large is dropped without a word")
	}
}

// After a burst messages have pauses, in which frames gather, in order; what is large does not wait for others.
func TestFramesShareMessages(t *testing.T) {
	a, b := newNode(t), newNode(t)
	sent := 0
	send := func(n int) {
		for i := range n {
			a.Send(b.Address(), number(sent+i))
		}
		for range n {
			if got := b.next(); !bytes.Equal(got, number(sent)) {
				t.Fatalf("%d: %x", sent, got)
			}
			sent++
		}
	}
	began := time.Now()
	for range 10 * messageBurst { // one after the other: none finds another to go with
		send(1)
	}
	send(2000)
	poll(t, "all are counted", func() bool { return a.Stats()[0].Sent == uint64(sent) })
	most := messageBurst + 1 + uint64(time.Since(began)/messageEvery)
	if got := a.Stats()[0].Messages; got > most {
		t.Errorf("%d messages for %d frames, at most %d in this time", got, sent, most)
	}
	large := make([]byte, MessageBytes)
	for range 2 * messageBurst {
		a.Send(b.Address(), large)
	}
	for range 2 * messageBurst {
		b.next()
	}
}

// What was sent right before Stop arrives.
func TestStopFlushes(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.Send(b.Address(), []byte("first"))
	b.next()
	for i := range 1000 {
		a.Send(b.Address(), number(i))
	}
	a.stop()
	for i := range 1000 {
		if got := b.next(); !bytes.Equal(got, number(i)) {
			t.Fatalf("%d: %x", i, got)
		}
	}
	a.Send(b.Address(), []byte("after the end")) // nothing happens
	a.stop()
}

// Who lacks the secret is refused, the log says so once, and without the secret.
func TestStrangers(t *testing.T) {
	b := newNode(t)
	const other = "quite another secret, also long enough"
	stranger := newNode(t, func(c *Config) { c.Secret = config.NewSecret(other) })
	for range 20 {
		stranger.Send(b.Address(), []byte("let me in"))
	}
	const sentence = "a node is not let in, it has another cluster secret"
	poll(t, "the refused one says why", func() bool { return strings.Contains(stranger.log.String(), sentence) })
	poll(t, "the refusing one says why", func() bool {
		return strings.Contains(b.log.String(), "either of them has another cluster secret")
	})
	// Several attempts later it has not been said again.
	poll(t, "some attempts", func() bool {
		stranger.rare.mu.Lock()
		defer stranger.rare.mu.Unlock()
		s := stranger.rare.said["trust "+b.Address()]
		return s != nil && s.times >= 3
	})
	if n := strings.Count(stranger.log.String(), sentence); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, stranger.log)
	}
	// The other way round: the client's side is refused by the server.
	for what, cfg := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true}, //nolint:gosec // a stranger
		"old TLS":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		"their own authority": func() *tls.Config {
			tr, err := newTrust(config.NewSecret(other), Files{})
			if err != nil {
				t.Fatal(err)
			}
			c := tr.config()
			c.InsecureSkipVerify = true
			return c
		}(),
	} {
		if err := call(t, b.Address(), credentials.NewTLS(cfg)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	conn, err := net.Dial("tcp", b.Address())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
	poll(t, "the log tells of all of them", func() bool {
		log := b.log.String()
		return strings.Contains(log, "without a certificate was refused") && strings.Contains(log, "without encryption was refused") && strings.Contains(log, sentence)
	})
	if len(b.frames) != 0 {
		t.Error("a stranger's frame was received")
	}
	for _, log := range []string{b.log.String(), stranger.log.String(), fmt.Sprintf("%+v %#v", b.cfg.Secret, b.cfg.Secret)} {
		if strings.Contains(log, secret) || strings.Contains(log, other) {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
}

// call opens a stream the way a peer does, and sends a frame.
func call(t *testing.T, address string, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	stream, err := conn.NewStream(ctx, &framesDesc.Streams[0], framesMethod)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(wrapperspb.Bytes([]byte("frame"))); err != nil && err != io.EOF {
		return err
	}
	return stream.RecvMsg(new(wrapperspb.BytesValue))
}

// There is nothing to call but the one stream, and a receiver that panics ends the stream only.
func TestNothingKillsTheProcess(t *testing.T) {
	var panics atomic.Bool
	panics.Store(true)
	got := make(chan []byte, 16)
	b := newNode(t, func(c *Config) {
		c.Receive = func(frame []byte) {
			if panics.CompareAndSwap(true, false) {
				panic("a bug")
			}
			got <- frame
		}
	})
	a := newNode(t)
	conn, err := grpc.NewClient("passthrough:///"+b.Address(), grpc.WithTransportCredentials(a.credentials(b.Address())))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, method := range []string{"/remote.Remoting/ListProcesses", "/remote.Remoting/GetProcessDiagnostics", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
		err := conn.Invoke(context.Background(), method, &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	a.Send(b.Address(), []byte("crash"))
	poll(t, "the panic is logged", func() bool { return strings.Contains(b.log.String(), "a bug") })
	poll(t, "the stream is open again", func() bool {
		a.Send(b.Address(), []byte("alive?"))
		return len(got) > 0
	})
}

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A peer that is dead, or accepts connections and says nothing, or does not take its frames: Send returns at once, memory stays bounded,
// and no goroutines pile up.
func TestUselessPeers(t *testing.T) {
	block := make(chan struct{})
	slow := newNode(t, func(c *Config) { c.Receive = func([]byte) { <-block } })
	defer close(block)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for what, address := range map[string]string{"dead": dead.Addr().String(), "silent": silent.Addr().String(), "slow": slow.Address()} {
		t.Run(what, func(t *testing.T) {
			a := newNode(t)
			frame := make([]byte, 1<<10)
			before, goroutines := heap(), runtime.NumGoroutine()
			begun := time.Now()
			const n = 50_000
			for range n {
				a.Send(address, frame)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("%d frames took %s to send", n, d)
			}
			if used := heap() - before; used > 32<<20 {
				t.Errorf("they take %d MiB", used>>20)
			}
			// Each in a memory of its own: no more than the queue's bytes.
			for range 300 {
				a.Send(address, make([]byte, 1<<20))
			}
			if used := heap() - before; used > QueueBytes+64<<20 {
				t.Errorf("large ones take %d MiB", used>>20)
			}
			if s := a.Stats()[0]; s.Queued > QueueFrames || s.Dropped == 0 {
				t.Errorf("%+v", s)
			}
			if more := runtime.NumGoroutine() - goroutines; more > 30 {
				t.Errorf("%d goroutines more", more)
			}
			poll(t, "the log says so", func() bool { return strings.Contains(a.log.String(), "messages to another node are dropped") })
			if n := strings.Count(a.log.String(), "are dropped"); n != 1 {
				t.Errorf("it is said %d times", n)
			}
		})
	}
}

// A peer that comes back at its address gets frames again, soon, and none that are old.
func TestPeerComesBack(t *testing.T) {
	a := newNode(t, func(c *Config) { c.maxAge = 300 * time.Millisecond })
	b := newNode(t)
	address := b.Address()
	_, port, _ := net.SplitHostPort(address)
	for round := range 3 {
		a.Send(address, number(round))
		for got := b.next(); !bytes.Equal(got, number(round)); got = b.next() {
			if string(got) != "fresh" {
				t.Fatalf("%q has waited for too long and was sent all the same", got)
			}
		}
		b.stop()
		poll(t, "the end is noticed", func() bool { return !a.Stats()[0].Connected })
		dropped := a.Stats()[0].Dropped
		for range 10 {
			a.Send(address, []byte("stale"))
		}
		poll(t, "what waits becomes too old", func() bool { return a.Stats()[0].Dropped == dropped+10 })
		b = newNode(t, at(port))
		back := time.Now()
		poll(t, "frames arrive again", func() bool {
			a.Send(address, []byte("fresh"))
			return len(b.frames) > 0
		})
		if d := time.Since(back); d > 3*time.Second {
			t.Errorf("that took %s", d)
		}
	}
}

// Peers to whom nothing is sent are forgotten, and met again.
func TestIdlePeersAreForgotten(t *testing.T) {
	a, b := newNode(t, func(c *Config) { c.idleAfter = 50 * time.Millisecond }), newNode(t)
	for range 3 {
		a.Send(b.Address(), []byte("x"))
		b.next()
		poll(t, "the peer is forgotten", func() bool { return len(a.Stats()) == 0 })
	}
}

// Whoever sends while transports stop and start is neither blocked nor hurt.
func TestSendWhileStopping(t *testing.T) {
	for range 5 {
		a, b := newNode(t), newNode(t)
		var senders sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			senders.Go(func() {
				for !isClosed(stop) {
					a.Send(b.Address(), []byte("x"))
					b.Send(a.Address(), []byte("y"))
				}
			})
		}
		a.next()
		b.next()
		var stops sync.WaitGroup
		stops.Go(a.stop)
		stops.Go(b.stop)
		stops.Wait()
		close(stop)
		senders.Wait()
	}
}

// A receiver that never returns holds Stop up no longer than its context.
func TestStopIsBounded(t *testing.T) {
	block := make(chan struct{})
	received := make(chan struct{}, 1)
	b := newNode(t, func(c *Config) {
		c.Receive = func([]byte) {
			received <- struct{}{}
			<-block
		}
	})
	a := newNode(t)
	a.Send(b.Address(), []byte("x"))
	<-received
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := b.Stop(ctx); backendai.CodeOf(err) != backendai.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if d := time.Since(begun); d > flushTime {
		t.Errorf("it took %s", d)
	}
	close(block)
	<-b.serving
}

// What is said rarely is counted, and what is remembered of it is bounded.
func TestRare(t *testing.T) {
	r := newRare(slog.New(slog.DiscardHandler), time.Minute)
	now := time.Unix(0, 0)
	for _, c := range []struct {
		after time.Duration
		times int
		said  bool
	}{{0, 1, true}, {time.Second, 0, false}, {58 * time.Second, 0, false}, {time.Second, 3, true}, {time.Second, 0, false}} {
		now = now.Add(c.after)
		if times, said := r.due("x", now); times != c.times || said != c.said {
			t.Errorf("at %s: %d %v", now, times, said)
		}
	}
	for i := range 10 * maxSaid {
		r.due(fmt.Sprint(i), now)
	}
	if len(r.said) > maxSaid {
		t.Error(len(r.said))
	}
	if _, said := r.due("new", now.Add(time.Hour)); !said {
		t.Error("old entries are kept for ever")
	}
}
