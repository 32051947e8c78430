package callosum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"
)

// Handler serves one method: it gets the encoded arguments and returns the encoded value. Errors become exceptions at
// the caller, see Server.
type Handler func(ctx context.Context, args Arguments) ([]byte, error)

// bindable is a request type that can read its arguments.
type bindable[Q any] interface {
	*Q
	Bind(Arguments) error
}

// Typed makes a Handler of a function over a request type of this package:
//
//	server.Handle(callosum.MethodGetLogs, callosum.Typed(func(ctx context.Context, q callosum.GetLogs) (callosum.Logs, error) { … }))
func Typed[Q, R any, P bindable[Q]](serve func(context.Context, Q) (R, error)) Handler {
	return func(ctx context.Context, args Arguments) ([]byte, error) {
		var q Q
		if err := P(&q).Bind(args); err != nil {
			return nil, err
		}
		r, err := serve(ctx, q)
		if err != nil {
			return nil, err
		}
		payload, err := Marshal(r)
		if err != nil { // official agents leave the caller without an answer here (spec §2.11)
			return nil, Exception("TypeError", err.Error())
		}
		return payload, nil
	}
}

// ServerConfig tunes a Server; only Address is required.
type ServerConfig struct {
	Address string // tcp://host:port to bind; port 0 or * takes a free one, see Server.Address
	// MaxConcurrent bounds the handlers that run at a time; default 1024. More requests wait in line.
	MaxConcurrent int
	// MaxQueued bounds the requests in line; default 8192. One more is answered ERROR ServerOverloaded.
	MaxQueued int
	// MaxMessage bounds a request in bytes, also after decompression; a larger one ends its connection. Default 64 MiB.
	MaxMessage int
	// SecretKey (Z85) turns CURVE on: clients must know the matching public key.
	SecretKey string
	// AuthorizedKeys (Z85) are the public keys of the managers that may connect; nil: any that know ours. CURVE only.
	AuthorizedKeys []string
	// OnFailure is told of every exception sent to a caller, as an agent publishes agent_error for each (spec §3).
	OnFailure func(method string, err *RemoteError)
	Logger    *slog.Logger
}

// ServerStats counts what a server has seen since it was started.
type ServerStats struct {
	Running     int // handlers
	Queued      int // requests in line
	Requests    uint64
	Results     uint64
	Failures    uint64
	Cancels     uint64 // CANCEL messages that found their request
	Undecodable uint64 // messages without a readable header, which cannot be answered
	Dropped     uint64 // answers to a peer that has gone or reads too slowly
}

// Server answers RPC as an agent does. An error of a handler reaches the caller as FAILURE: a *RemoteError as it is
// (Exception makes them), context.Canceled as CANCELLED, context.DeadlineExceeded as TimeoutError, everything else as
// RuntimeError with the error's text.
//
//	new ── Handle … ── Start ──▶ serving ── Stop ──▶ stopped (for good)
type Server struct {
	config   ServerConfig
	handlers map[string]Handler
	log      *slog.Logger

	zctx     *zmq.Context
	router   *zmq.Socket // the I/O goroutine's
	zap      *zapHandler
	waker    *waker
	address  string
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{}
	stopping atomic.Bool
	started  bool
	stopOnce sync.Once
	workers  sync.WaitGroup

	mu       sync.Mutex
	outbound []reply
	line     []job
	active   map[requestKey]context.CancelFunc
	stats    ServerStats
}

type requestKey struct {
	peer string
	id   ID
}

type job struct {
	key   requestKey
	msg   Message
	ctx   context.Context
	close context.CancelFunc
}

type reply struct {
	peer   string
	frames Frames
}

// NewServer returns a server that has to be given handlers and started.
func NewServer(config ServerConfig) *Server {
	if config.MaxConcurrent <= 0 {
		config.MaxConcurrent = 1024
	}
	if config.MaxQueued <= 0 {
		config.MaxQueued = 8192
	}
	if config.MaxMessage <= 0 {
		config.MaxMessage = 64 << 20
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Server{config: config, handlers: map[string]Handler{}, log: config.Logger, active: map[requestKey]context.CancelFunc{}, done: make(chan struct{})}
}

// Handle registers the handler of a method; it panics when the server has been started or the method is taken.
func (s *Server) Handle(method string, h Handler) {
	if s.started || s.handlers[method] != nil {
		panic("callosum: handler of " + method + " registered too late or twice")
	}
	s.handlers[method] = h
}

// Start binds the address and begins to serve.
func (s *Server) Start() (err error) {
	if s.started {
		return errors.New("callosum: server was started before")
	}
	s.started = true
	if s.zctx, err = zmq.NewContext(); err != nil {
		return fmt.Errorf("callosum: context: %w", err)
	}
	defer func() {
		if err != nil {
			if s.router != nil {
				s.router.Close()
			}
			if s.waker != nil {
				s.waker.close()
				s.waker.receive.Close()
			}
			if s.zap != nil {
				s.zap.close()
			}
			err = errors.Join(err, s.zctx.Term())
		}
	}()
	if s.waker, err = newWaker(s.zctx, "server"); err != nil {
		return err
	}
	if err = s.bind(); err != nil {
		return fmt.Errorf("callosum: bind %s: %w", s.config.Address, err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return nil
}

func (s *Server) bind() (err error) {
	if s.router, err = s.zctx.NewSocket(zmq.ROUTER); err != nil {
		return err
	}
	err = errors.Join(s.router.SetLinger(100*time.Millisecond), s.router.SetMaxmsgsize(int64(s.config.MaxMessage)),
		s.router.SetSndhwm(10000), s.router.SetRouterMandatory(1), s.router.SetRcvhwm(10000), s.router.SetIpv6(strings.Contains(s.config.Address, "[")))
	if err != nil {
		return err
	}
	if s.config.SecretKey != "" {
		if s.config.AuthorizedKeys != nil {
			if s.zap, err = newZAPHandler(s.zctx, s.config.AuthorizedKeys); err != nil {
				return err
			}
		}
		if err = errors.Join(s.router.SetCurveServer(1), s.router.SetCurveSecretkey(s.config.SecretKey)); err != nil {
			return err
		}
	}
	if err = s.router.Bind(s.config.Address); err != nil {
		return err
	}
	s.address, err = s.router.GetLastEndpoint()
	return err
}

// Address is the address that was bound, with the real port.
func (s *Server) Address() string { return s.address }

// Stats returns the counters.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Queued = len(s.line)
	return stats
}

// Stop takes no more requests, cancels the contexts of the running handlers, waits for them to end or for ctx, sends what
// they answered and closes the socket. A handler that outlives ctx finds its answer dropped.
func (s *Server) Stop(ctx context.Context) (err error) {
	if s.ctx == nil {
		return nil
	}
	s.stopOnce.Do(func() {
		s.mu.Lock() // so that no request is admitted after the wait below has begun
		s.stopping.Store(true)
		s.mu.Unlock()
		s.cancel()
		idle := make(chan struct{})
		go func() {
			s.workers.Wait()
			close(idle)
		}()
		s.waker.wake()
		select {
		case <-idle:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
		s.line = nil
		s.outbound = append(s.outbound, reply{}) // the end mark
		s.mu.Unlock()
		s.waker.wake()
		<-s.done
		s.waker.close()
		if s.zap != nil {
			s.zap.close()
		}
		err = errors.Join(err, s.zctx.Term())
	})
	return err
}

func (s *Server) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	poller := zmq.NewPoller()
	poller.Add(s.router, zmq.POLLIN)
	poller.Add(s.waker.receive, zmq.POLLIN)
	for {
		polled, err := poller.Poll(time.Second)
		if err != nil && zmq.AsErrno(err) != zmq.Errno(syscall.EINTR) {
			s.log.Error("callosum: poll failed", "err", err)
		}
		for _, item := range polled {
			if item.Socket == s.waker.receive {
				s.waker.drain()
			} else if !s.stopping.Load() {
				s.receive()
			}
		}
		if s.stopping.Load() {
			poller.RemoveBySocket(s.router) // else unread requests would make the poll spin
		}
		if s.sendReplies() {
			break
		}
	}
	s.router.Close()
	s.waker.receive.Close()
}

func (s *Server) receive() {
	for range receiveBatch {
		frames, err := s.router.RecvMessageBytes(zmq.DONTWAIT)
		if err != nil {
			return
		}
		s.onMessage(frames)
	}
}

func (s *Server) onMessage(frames [][]byte) {
	m, err := Decode(frames, DecodeOptions{MaxBody: s.config.MaxMessage})
	if len(frames) < 3 || errors.Is(err, ErrNoHeader) {
		s.count(func(st *ServerStats) { st.Undecodable++ })
		return
	}
	key := requestKey{peer: string(frames[0]), id: m.ID}
	switch {
	case m.Type == MessageCancel:
		s.mu.Lock()
		cancel := s.active[key]
		if cancel != nil {
			s.stats.Cancels++
		}
		s.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	case m.Type != MessageFunction:
		s.count(func(st *ServerStats) { st.Undecodable++ })
	case err != nil:
		e := Exception("ValueError", err.Error())
		e.Kind = MessageError
		s.answer(key, nil, e)
	default:
		s.admit(key, m)
	}
}

// admit starts the handler, or puts the request in line.
func (s *Server) admit(key requestKey, m Message) {
	ctx, cancel := context.WithCancel(context.WithValue(s.ctx, fenceKey{}, m.Fence))
	j := job{key: key, msg: m, ctx: ctx, close: cancel}
	s.mu.Lock()
	if s.stopping.Load() {
		s.mu.Unlock()
		cancel()
		return
	}
	s.stats.Requests++
	if len(s.line) >= s.config.MaxQueued {
		s.mu.Unlock()
		cancel()
		e := Exception("ServerOverloaded", "too many requests are waiting")
		e.Kind = MessageError
		s.answer(key, nil, e)
		return
	}
	s.active[key] = cancel
	if s.stats.Running >= s.config.MaxConcurrent {
		s.line = append(s.line, j)
		s.mu.Unlock()
		return
	}
	s.stats.Running++
	s.workers.Add(1)
	s.mu.Unlock()
	go s.work(j)
}

// work runs one request, and then those in line.
func (s *Server) work(j job) {
	defer s.workers.Done()
	for {
		payload, err := s.serve(j)
		j.close()
		s.mu.Lock()
		delete(s.active, j.key)
		s.mu.Unlock()
		s.answer(j.key, payload, err)

		s.mu.Lock()
		if len(s.line) == 0 || s.stopping.Load() {
			s.stats.Running--
			s.mu.Unlock()
			return
		}
		j = s.line[0]
		s.line[0] = job{}
		if s.line = s.line[1:]; len(s.line) == 0 {
			s.line = nil
		}
		s.mu.Unlock()
	}
}

func (s *Server) serve(j job) (payload []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("callosum: handler panicked", "method", j.msg.Method, "panic", v, "stack", string(debug.Stack()))
			payload, err = nil, Exception("RuntimeError", "internal error of the agent")
		}
	}()
	if err := j.ctx.Err(); err != nil { // cancelled in line
		return nil, err
	}
	h := s.handlers[j.msg.Method]
	if h == nil { // official agents leave the caller without an answer here (spec §2.11)
		return nil, Exception("KeyError", j.msg.Method)
	}
	args, err := DecodeArguments(j.msg.Method, j.msg.Payload)
	if err != nil {
		return nil, err
	}
	return h(j.ctx, args)
}

// answer hands an answer to the I/O goroutine.
func (s *Server) answer(key requestKey, payload []byte, err error) {
	var frames Frames
	var encodeErr error
	var remote *RemoteError
	if err != nil {
		remote = asRemote(err)
		frames, encodeErr = EncodeFailure(key.id, remote)
	} else {
		if payload == nil {
			payload = []byte{0xc0}
		}
		frames, encodeErr = EncodeResult(key.id, payload)
	}
	if encodeErr != nil {
		s.log.Error("callosum: answer cannot be encoded", "method", key.id.Method, "err", encodeErr)
		return
	}
	s.mu.Lock()
	if remote != nil {
		s.stats.Failures++
	} else {
		s.stats.Results++
	}
	s.outbound = append(s.outbound, reply{key.peer, frames})
	s.mu.Unlock()
	s.waker.wake()
	if remote != nil && remote.Kind != MessageCancelled && s.config.OnFailure != nil {
		s.config.OnFailure(key.id.Method, remote)
	}
}

func asRemote(err error) *RemoteError {
	var remote *RemoteError
	switch {
	case errors.As(err, &remote):
		return remote
	case errors.Is(err, context.Canceled):
		return &RemoteError{Name: "CancelledError", Repr: "CancelledError()", Kind: MessageCancelled}
	case errors.Is(err, context.DeadlineExceeded):
		return Exception("TimeoutError")
	}
	return Exception("RuntimeError", err.Error())
}

// sendReplies sends what the handlers have answered; true at the end mark.
func (s *Server) sendReplies() (end bool) {
	s.mu.Lock()
	replies := s.outbound
	s.outbound = nil
	s.mu.Unlock()
	for _, r := range replies {
		if r.peer == "" {
			return true
		}
		// Fails when the peer has gone, or reads so slowly that there is no room; either way nobody waits for it.
		_, err := s.router.SendBytes([]byte(r.peer), zmq.SNDMORE|zmq.DONTWAIT)
		if err == nil {
			_, err = s.router.SendBytes(r.frames[0], zmq.SNDMORE|zmq.DONTWAIT)
		}
		if err == nil {
			_, err = s.router.SendBytes(r.frames[1], zmq.DONTWAIT)
		}
		if err != nil {
			s.count(func(st *ServerStats) { st.Dropped++ })
		}
	}
	return false
}

func (s *Server) count(change func(*ServerStats)) {
	s.mu.Lock()
	change(&s.stats)
	s.mu.Unlock()
}

type fenceKey struct{}

// FenceOf tells, inside a handler, on whose authority the call was made; zero for managers that do not say.
func FenceOf(ctx context.Context) Fence {
	f, _ := ctx.Value(fenceKey{}).(Fence)
	return f
}
