package callosum

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	zmq "github.com/pebbe/zmq4"
)

// Peer names an agent and where to reach it. Every distinct Peer has a link of its own.
type Peer struct {
	AgentID string
	Address string // as the agent's heartbeat gives it: tcp://host:port
	// ServerKey is the agent's CURVE public key (Z85, 40 characters); empty: plain, as official 22.03 agents speak.
	ServerKey string
}

// Outcome is how a call ended: Err is nil, a *RemoteError or a *LinkError.
type Outcome struct {
	Payload []byte // the encoded return value
	Err     error
}

// ClientConfig tunes a Client; the zero value is fit for use.
type ClientConfig struct {
	Pumps     int // I/O goroutines; default 2
	QueueSize int // requests a pump has not yet taken; default 8192
	// MaxOutstanding bounds the calls of one link, waiting or sent; default 4096. A call beyond is CauseOverloaded.
	MaxOutstanding int
	// Keepalive is K of spec §1.3 (etcd config/network/rpc/keepalive-timeout); default 60 s.
	Keepalive time.Duration
	// Heartbeat is the interval of ZMTP pings, after three times of which without any traffic a connection counts as
	// broken; default 10 s, negative: none.
	Heartbeat time.Duration
	// ConnectTimeout bounds how long a call waits for a connection; default 5 s.
	ConnectTimeout time.Duration
	// SendTimeout bounds how long a call may wait to be sent at all, by the wall clock, which goes on while the process is stopped; default 8 s.
	// Beyond it the one who asked may have been replaced, and the call come after what his successor has done.
	SendTimeout time.Duration
	// ReconnectMin and ReconnectMax bound the back-off between connections; default 100 ms and 2 s.
	ReconnectMin, ReconnectMax time.Duration
	// IdleTimeout closes a link that has had no calls for so long; default 10 min.
	IdleTimeout time.Duration
	// ProbeTimeout is the deadline of a breaker's ping; default 3 s.
	ProbeTimeout time.Duration
	Breaker      BreakerConfig
	// MaxMessage bounds an answer in bytes; a larger one breaks the connection. Default 256 MiB.
	MaxMessage int
	// PublicKey and SecretKey (Z85) are the client's for peers with a ServerKey; default: a fresh pair, for agents that
	// do not authenticate managers.
	PublicKey, SecretKey string
	Logger               *slog.Logger
}

func (c ClientConfig) withDefaults() ClientConfig {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Pumps <= 0 {
		c.Pumps = 2
	}
	if c.QueueSize <= 0 {
		c.QueueSize = 8192
	}
	if c.MaxOutstanding <= 0 {
		c.MaxOutstanding = 4096
	}
	if c.MaxMessage <= 0 {
		c.MaxMessage = 256 << 20
	}
	set(&c.Keepalive, time.Minute)
	set(&c.Heartbeat, 10*time.Second)
	set(&c.ConnectTimeout, 5*time.Second)
	set(&c.SendTimeout, 8*time.Second)
	set(&c.ReconnectMin, 100*time.Millisecond)
	set(&c.ReconnectMax, 2*time.Second)
	set(&c.IdleTimeout, 10*time.Minute)
	set(&c.ProbeTimeout, 3*time.Second)
	c.Breaker = c.Breaker.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Client calls methods of many agents over lasting connections. All methods may be called from any goroutine.
//
//	new ── Start ──▶ running ── Stop ──▶ stopped (for good)
type Client struct {
	config ClientConfig
	zctx   *zmq.Context
	pumps  []*pump

	mu      sync.RWMutex // held for reading while a command is handed in, so that Stop finds every command
	running bool
	stopped bool
}

// NewClient returns a client that has to be started.
func NewClient(config ClientConfig) *Client { return &Client{config: config.withDefaults()} }

// Start opens the I/O goroutines; connections are opened by the first call to each peer.
func (c *Client) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running || c.stopped {
		return errors.New("callosum: client was started before")
	}
	if c.config.PublicKey == "" && zmq.HasCurve() {
		public, secret, err := zmq.NewCurveKeypair()
		if err != nil {
			return fmt.Errorf("callosum: CURVE key pair: %w", err)
		}
		c.config.PublicKey, c.config.SecretKey = public, secret
	}
	zctx, err := zmq.NewContext()
	if err != nil {
		return fmt.Errorf("callosum: context: %w", err)
	}
	// A link has a DEALER and both ends of its monitor; libzmq's own default ends at some 300 agents.
	if err := zctx.SetMaxSockets(65535); err != nil {
		return errors.Join(err, zctx.Term())
	}
	c.zctx = zctx
	for i := range c.config.Pumps {
		p, err := newPump(zctx, i, c.config)
		if err != nil {
			for _, p := range c.pumps {
				p.closeUnstarted()
			}
			return errors.Join(err, zctx.Term())
		}
		c.pumps = append(c.pumps, p)
	}
	for _, p := range c.pumps {
		go p.run()
	}
	c.running = true
	return nil
}

// Stop fails everything outstanding with CauseStopped, closes the connections and returns when all goroutines have ended
// and every callback has been called. Only the first call has an effect.
func (c *Client) Stop() error {
	c.mu.Lock()
	wasRunning := c.running
	c.running, c.stopped = false, true
	c.mu.Unlock()
	if !wasRunning {
		return nil
	}
	for _, p := range c.pumps {
		p.stop()
	}
	for _, p := range c.pumps {
		<-p.done
	}
	for _, p := range c.pumps {
		p.waker.close()
	}
	return c.zctx.Term()
}

// Call hands a call in and returns at once. done is called exactly once: on an I/O goroutine, where it must not block, or
// before Call returns when the call is refused right away (CauseInvalid, CauseOverloaded, CauseStopped). The deadline is
// required; after it the agent is sent a CANCEL, and the operation may still happen.
func (c *Client) Call(peer Peer, call Call, fence Fence, deadline time.Time, done func(Outcome)) {
	c.start(peer, call, fence, deadline, done)
}

func (c *Client) start(peer Peer, call Call, fence Fence, deadline time.Time, done func(Outcome)) *pending {
	refuse := func(cause Cause, err error) *pending {
		done(Outcome{Err: &LinkError{Cause: cause, Agent: peer.AgentID, Method: call.Method, Err: err}})
		return nil
	}
	payload, err := call.Payload()
	if err != nil {
		return refuse(CauseInvalid, err)
	}
	if !strings.HasPrefix(peer.Address, "tcp://") && !strings.HasPrefix(peer.Address, "ipc://") {
		return refuse(CauseInvalid, fmt.Errorf("address %q is neither tcp:// nor ipc://", peer.Address))
	}
	now := time.Now()
	if !now.Before(deadline) {
		return refuse(CauseDeadline, nil)
	}
	q := &pending{method: call.Method, payload: payload, fence: fence, deadline: deadline, handedIn: wall(now), done: done, index: -1}
	c.mu.RLock()
	ok := c.running
	full := ok && !c.pumpOf(peer).put(command{kind: commandCall, peer: peer, pending: q})
	c.mu.RUnlock()
	switch {
	case !ok:
		return refuse(CauseStopped, nil)
	case full:
		return refuse(CauseOverloaded, errors.New("queue of the I/O goroutine is full"))
	}
	return q
}

// CallContext calls and waits, for code that is no actor. Without a deadline of ctx it waits up to 30 s. When ctx ends first,
// the call is given up with CauseCancelled.
func (c *Client) CallContext(ctx context.Context, peer Peer, call Call, fence Fence) ([]byte, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	got := make(chan Outcome, 1)
	q := c.start(peer, call, fence, deadline, func(o Outcome) { got <- o })
	select {
	case o := <-got:
		return o.Payload, o.Err
	case <-ctx.Done():
	}
	if q != nil && errors.Is(ctx.Err(), context.Canceled) {
		c.mu.RLock()
		if c.running && !c.pumpOf(peer).put(command{kind: commandCancel, peer: peer, pending: q}) {
			c.config.Logger.Debug("callosum: cancellation dropped, queue is full", "agent", peer.AgentID, "method", call.Method)
		}
		c.mu.RUnlock()
		return nil, &LinkError{Cause: CauseCancelled, Agent: peer.AgentID, Method: call.Method, Sent: true, Err: ctx.Err()}
	}
	o := <-got // the pump keeps the same deadline
	return o.Payload, o.Err
}

// Invoke is Call with types: done gets the decoded return value.
func Invoke[R any](c *Client, peer Peer, req Request[R], fence Fence, deadline time.Time, done func(R, error)) {
	c.Call(peer, req.Call(), fence, deadline, func(o Outcome) {
		done(decodeOutcome(peer, req, o))
	})
}

// InvokeContext is CallContext with types.
func InvokeContext[R any](ctx context.Context, c *Client, peer Peer, req Request[R], fence Fence) (R, error) {
	payload, err := c.CallContext(ctx, peer, req.Call(), fence)
	return decodeOutcome(peer, req, Outcome{payload, err})
}

func decodeOutcome[R any](peer Peer, req Request[R], o Outcome) (R, error) {
	var zero R
	if o.Err != nil {
		return zero, o.Err
	}
	r, err := req.Result(o.Payload)
	if err != nil {
		return zero, &LinkError{Cause: CauseProtocol, Agent: peer.AgentID, Method: req.Call().Method, Sent: true, Err: err}
	}
	return r, nil
}

// Drop closes the link of a peer that is gone for good; its calls fail with CauseStopped. A later call opens a new one.
func (c *Client) Drop(peer Peer) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.running {
		c.pumpOf(peer).putAlways(command{kind: commandDrop, peer: peer})
	}
}

// Links returns the state of all links, by agent id and address.
func (c *Client) Links() []LinkStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []LinkStats
	for _, p := range c.pumps {
		all = p.stats.appendTo(all)
	}
	slices.SortFunc(all, func(a, b LinkStats) int {
		return strings.Compare(a.Peer.AgentID+"\x00"+a.Peer.Address, b.Peer.AgentID+"\x00"+b.Peer.Address)
	})
	return all
}

// Link returns the state of one peer's link, and whether it has one.
func (c *Client) Link(peer Peer) (LinkStats, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.pumps) == 0 {
		return LinkStats{}, false
	}
	return c.pumpOf(peer).stats.get(peer)
}

func (c *Client) pumpOf(peer Peer) *pump {
	h := fnv.New32a()
	h.Write([]byte(peer.AgentID))
	return c.pumps[h.Sum32()%uint32(len(c.pumps))]
}
