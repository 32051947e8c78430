package transport

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// attempt bounds one try to open a stream; between tries, frames that have become too old are dropped.
	attempt = time.Second
	// messageEvery is the pause between messages under load, in which frames gather: a message costs system calls and a record of TLS,
	// however little is in it. messageBurst go without pauses after a quiet time, so that a lone request's frames are not held up.
	messageEvery = 5 * time.Millisecond
	messageBurst = 32
	// window is how many bytes may be on the way to a node that it has not taken yet.
	window = 4 << 20
	// maxPause is the longest pause between two tries to connect: a node that is back hears of the others within about that time.
	maxPause = time.Second
)

// item is a frame that waits.
type item struct {
	frame []byte
	since time.Time
}

// peer is another node: a bounded queue, and a writer that empties it.
type peer struct {
	t       *Transport
	address string

	queue     chan item
	bytes     atomic.Int64 // of the frames in the queue
	connected atomic.Bool
	sent      atomic.Uint64 // frames
	messages  atomic.Uint64
	dropped   atomic.Uint64
}

func newPeer(t *Transport, address string) *peer {
	return &peer{t: t, address: address, queue: make(chan item, QueueFrames)}
}

// push queues a frame or drops it.
func (p *peer) push(frame []byte) {
	n := int64(len(frame))
	if p.bytes.Add(n) <= QueueBytes {
		select {
		case p.queue <- item{frame, time.Now()}:
			return
		default:
		}
	}
	p.bytes.Add(-n)
	p.drop(1, "its queue is full")
}

func (p *peer) drop(frames int, why string) {
	n := p.dropped.Add(uint64(frames))
	p.t.rare.say("drop "+p.address, "messages to another node are dropped", "node", p.address, "reason", why, "dropped_so_far", n)
}

// run empties the queue until the transport stops, or nothing has come for long.
func (p *peer) run() {
	conn, err := p.connect()
	if err != nil { // only for what is wrong in the program
		p.t.log.Error("another node can't be sent to", "node", p.address, "error", err)
		p.t.forget(p)
		return
	}
	defer func() { _ = conn.Close() }()
	w := &writer{peer: p, conn: conn}
	defer w.end()
	idle := time.NewTimer(p.t.cfg.idleAfter)
	defer idle.Stop()
	pace := rate.NewLimiter(rate.Every(messageEvery), messageBurst)
	for {
		select {
		case it := <-p.queue:
			// Whoever is about to send as well gets his turn first: under load, a message then takes the place of several.
			runtime.Gosched()
			if p.bytes.Load() < MessageBytes {
				_ = pace.Wait(p.t.going) // an error means that we leave: at once, then
			}
			w.write(p.gather(it))
			idle.Reset(p.t.cfg.idleAfter)
		case <-w.broken(): // while nothing is sent; a new one is opened for the next frame
			w.close()
		case <-idle.C:
			if p.t.forget(p) {
				return
			}
			idle.Reset(p.t.cfg.idleAfter)
		case <-p.t.going.Done():
			for w.stream != nil && p.t.ctx.Err() == nil {
				select {
				case it := <-p.queue:
					w.write(p.gather(it))
					continue
				default:
				}
				break
			}
			return
		}
	}
}

// gather takes what else waits, as far as it fits into a message with the first.
func (p *peer) gather(first item) []item {
	list := []item{first}
	size := len(first.frame)
	for size < MessageBytes {
		select {
		case it := <-p.queue:
			list = append(list, it)
			size += len(it.frame)
			continue
		default:
		}
		break
	}
	p.bytes.Add(-int64(size))
	return list
}

func (p *peer) connect() (*grpc.ClientConn, error) {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return grpc.NewClient("passthrough:///"+p.address,
		grpc.WithTransportCredentials(p.t.credentials(p.address)),
		// Of our own, because gRPC's asks the environment for a proxy.
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause}, MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithDisableRetry(), // at most once
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
	)
}

// writer is the sending end of the stream to a peer. It belongs to one goroutine.
type writer struct {
	*peer
	conn   *grpc.ClientConn
	stream grpc.ClientStream // nil: none at the moment
	cancel context.CancelFunc
	ended  chan struct{} // closed when the stream has ended
}

// write sends frames as one message, those that are not too old by the time a stream can be had.
func (w *writer) write(list []item) {
	for w.stream == nil || isClosed(w.ended) {
		w.close()
		if list = w.young(list, "it can't be reached, or does not take them as fast as they come"); len(list) == 0 {
			return
		}
		if w.t.going.Err() != nil {
			w.dropped.Add(uint64(len(list)))
			return
		}
		w.open()
	}
	if list = w.young(list, "it does not take them as fast as they come"); len(list) == 0 {
		return
	}
	if err := w.stream.SendMsg(wrapperspb.Bytes(join(list))); err != nil {
		w.t.broken(w.address)
		w.close()
		w.drop(len(list), "the connection broke")
		return
	}
	w.sent.Add(uint64(len(list)))
	w.messages.Add(1)
}

// young drops the frames that have become too old.
func (w *writer) young(list []item, why string) []item {
	all := len(list)
	for len(list) > 0 && time.Since(list[0].since) > w.t.cfg.maxAge { // they came one after the other
		list = list[1:]
	}
	if n := all - len(list); n > 0 {
		w.drop(n, why)
	}
	return list
}

// open tries for a while to open a stream. The connection below it is gRPC's affair, with its own pauses.
func (w *writer) open() {
	ctx, cancel := context.WithCancel(w.t.ctx)
	tries := time.AfterFunc(attempt, cancel)
	leaving := context.AfterFunc(w.t.going, cancel)
	stream, err := w.conn.NewStream(ctx, &framesDesc.Streams[0], framesMethod, grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(maxMessage))
	if err == nil {
		_, err = stream.Header() // the server's word that it listens
	}
	if intime, stays := tries.Stop(), leaving(); err != nil || !intime || !stays {
		cancel()
		w.t.broken(w.address)
		return
	}
	w.stream, w.cancel, w.ended = stream, cancel, make(chan struct{})
	w.connected.Store(true)
	ended := w.ended
	w.t.writers.Go(func() {
		defer close(ended)
		_ = stream.RecvMsg(new(wrapperspb.BytesValue)) // the other end never sends: it can only end
	})
}

// broken is closed when the stream has ended; nil, which is never, when there is none.
func (w *writer) broken() <-chan struct{} {
	if w.stream == nil {
		return nil
	}
	return w.ended
}

// close gives the stream up.
func (w *writer) close() {
	if w.stream != nil {
		w.connected.Store(false)
		if isClosed(w.ended) { // by the other end
			w.t.broken(w.address)
		}
		w.cancel()
		<-w.ended
		w.stream = nil
	}
}

// end closes the stream after the other end has read everything.
func (w *writer) end() {
	if w.stream != nil && w.stream.CloseSend() == nil {
		select {
		case <-w.ended:
		case <-w.t.ctx.Done():
		case <-time.After(flushTime):
		}
	}
	w.close()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
