package transport

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/grpc"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

const (
	// MaxFrame bounds a frame in bytes: the largest message between actors and whom it is for.
	MaxFrame = 65 << 20
	// QueueFrames and QueueBytes bound what waits for one peer.
	QueueFrames = 4096
	QueueBytes  = 2 * MaxFrame
	// MaxAge is how long a frame may wait for its peer. Whoever waits for an answer has given up or asked again by then.
	MaxAge = 5 * time.Second
	// maxPeers bounds the peers that are remembered at once; idle ones are forgotten.
	maxPeers = 1024
	// idleAfter is how long nothing must have been sent to a peer until its connection is closed.
	idleAfter = 2 * time.Minute
	// flushTime bounds how long Stop sends what is still queued.
	flushTime = 2 * time.Second
	// lastMoment is what Stop allows itself after the end of its context.
	lastMoment = 250 * time.Millisecond
)

// Config says where a node is reached and whom it trusts. Host, Receive and either Secret or Files are required.
type Config struct {
	// System, if set, gets the address at Start. Actors carry it, so Start comes before the first of them.
	System *actor.ActorSystem
	// Host and Port are listened on; port 0: any free one.
	Host string
	Port int
	// Advertised is where others reach this node, "host" or "host:port". Default: where it listens. Needed when Host means every
	// interface. Without a port, or with port 0, the one that is listened on.
	Advertised string
	// Secret is the cluster's; at least MinSecret characters, better drawn than thought up: a short one can be guessed by who can connect.
	Secret config.Secret
	// Files name certificates made by an operator, instead of Secret.
	Files Files
	Log   *slog.Logger
	// Receive gets each frame, for keeps. It is called by one goroutine per peer that sends, and holds that peer up until it returns.
	Receive func(frame []byte)
	// OnBroken, if set, is told the address of a peer whose stream has broken or can't be opened. It must not wait.
	OnBroken func(address string)

	// For tests; the constants above are meant.
	maxAge, idleAfter time.Duration
}

// Transport carries frames between nodes. Safe for concurrent use.
//
//	New ── Start ──▶ running ── Stop ──▶ stopped
type Transport struct {
	cfg   Config
	log   *slog.Logger
	rare  *rare
	trust *trust

	address string
	server  *grpc.Server
	serving chan struct{}   // closed when the server has ended
	going   context.Context // ends when Stop begins: writers send what they have, open nothing and end
	halt    context.CancelFunc
	ctx     context.Context // ends when there is no more time for that
	cancel  context.CancelFunc
	writers sync.WaitGroup

	mu      sync.RWMutex
	peers   map[string]*peer
	stopped bool
}

// New makes a transport; nothing happens before Start.
// Errors: InvalidConfig, with what is wrong.
func New(cfg Config) (*Transport, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	cfg.maxAge, cfg.idleAfter = cmp.Or(cfg.maxAge, MaxAge), cmp.Or(cfg.idleAfter, idleAfter)
	switch {
	case cfg.Receive == nil:
		return nil, backendai.Errorf(backendai.InvalidConfig, "a transport needs a receiver")
	case cfg.Advertised == "" && unspecified(cfg.Host):
		return nil, backendai.Errorf(backendai.InvalidConfig, "a node that listens on every interface must say where other nodes reach it")
	}
	t := &Transport{cfg: cfg, log: cfg.Log, rare: newRare(cfg.Log, time.Minute), peers: make(map[string]*peer), serving: make(chan struct{})}
	var err error
	t.trust, err = newTrust(cfg.Secret, cfg.Files)
	return t, err
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// Start listens. Errors: InvalidConfig when the address can't be listened on.
func (t *Transport) Start(ctx context.Context) error {
	var listen net.ListenConfig
	at := net.JoinHostPort(t.cfg.Host, strconv.Itoa(t.cfg.Port))
	listener, err := listen.Listen(ctx, "tcp", at)
	if err != nil {
		return backendai.Errorf(backendai.InvalidConfig, "other nodes can't reach this one: %s can't be listened on", at).WithCause(err)
	}
	t.address = advertised(t.cfg.Advertised, listener.Addr().String())
	if t.cfg.System != nil {
		t.cfg.System.ProcessRegistry.Address = t.address
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.going, t.halt = context.WithCancel(t.ctx)
	t.server = t.newServer()
	go func() {
		defer close(t.serving)
		if err := t.server.Serve(listener); err != nil {
			t.log.Error("other nodes can't reach this one any more", "error", err)
		}
	}()
	return nil
}

// advertised completes what the operator says by what is listened on.
func advertised(said, listening string) string {
	if said == "" {
		return listening
	}
	_, port, _ := net.SplitHostPort(listening)
	host, given, err := net.SplitHostPort(said)
	if err != nil { // no port
		return net.JoinHostPort(strings.Trim(said, "[]"), port)
	}
	if given == "" || given == "0" {
		given = port
	}
	return net.JoinHostPort(host, given)
}

// Address is where other nodes reach this one, host:port; empty before Start.
func (t *Transport) Address() string { return t.address }

// Trust is a mark that nodes have in common if, and unless an operator has given them certificates only if, they trust each other. It may be
// shown to everybody: of a cluster secret it is a hash of the key that a connection shows as well.
func (t *Transport) Trust() string { return t.trust.mark }

// Send hands a frame over for the node at an address; the caller must not change it afterwards. It never waits, and whether the frame
// arrives is not known.
func (t *Transport) Send(address string, frame []byte) {
	if len(frame) > MaxFrame {
		t.rare.say("large "+address, "a message is too large for another node and is dropped", "node", address, "bytes", len(frame), "limit", MaxFrame)
		return
	}
	for {
		t.mu.RLock()
		p, stopped := t.peers[address], t.stopped
		if p != nil && !stopped {
			p.push(frame)
		}
		t.mu.RUnlock()
		if p != nil || stopped || !t.meet(address) {
			return
		}
	}
}

// meet makes a peer and its writer, unless there is one already. False: there can't be one.
func (t *Transport) meet(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped || t.ctx == nil:
		return false
	case t.peers[address] != nil:
		return true
	case len(t.peers) >= maxPeers:
		t.rare.say("peers", "messages are dropped: there are too many nodes to send to", "node", address, "limit", maxPeers)
		return false
	}
	p := newPeer(t, address)
	t.peers[address] = p
	t.writers.Go(p.run)
	return true
}

// forget removes a peer that nothing waits for, and tells whether it did.
func (t *Transport) forget(p *peer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p.queue) > 0 {
		return false
	}
	delete(t.peers, p.address)
	return true
}

// Stop sends what is queued for peers that are connected (at most 2 s, at most until the end of ctx), and ends everything that the
// transport has started. Receive is not called any more when it returns nil. Error: DeadlineExceeded when a Receive has not returned in time.
func (t *Transport) Stop(ctx context.Context) error {
	t.mu.Lock()
	if t.stopped || t.ctx == nil {
		t.stopped = true
		t.mu.Unlock()
		return nil
	}
	t.stopped = true
	t.mu.Unlock()
	defer t.cancel()
	t.halt()
	ended := make(chan struct{})
	go func() {
		t.writers.Wait()
		t.server.Stop()
		<-t.serving
		close(ended)
	}()
	flush := time.AfterFunc(flushTime, t.cancel)
	defer flush.Stop()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		t.cancel()
	}
	// The writers end at once now; only a receiver that does not return holds this up.
	select {
	case <-ended:
		return nil
	case <-time.After(lastMoment):
		return backendai.NewError(backendai.DeadlineExceeded).WithCause(ctx.Err())
	}
}

// broken tells that the stream to a peer has broken, unless this transport stops.
func (t *Transport) broken(address string) {
	if t.cfg.OnBroken != nil && t.going.Err() == nil {
		t.cfg.OnBroken(address)
	}
}

// PeerStats tells how it stands with one peer.
type PeerStats struct {
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Queued    int    `json:"queued"`
	Sent      uint64 `json:"sent"`     // frames
	Messages  uint64 `json:"messages"` // that carried them
	Dropped   uint64 `json:"dropped"`
}

// Stats lists the peers by address.
func (t *Transport) Stats() []PeerStats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]PeerStats, 0, len(t.peers))
	for _, p := range t.peers {
		list = append(list, PeerStats{Address: p.address, Connected: p.connected.Load(), Queued: len(p.queue), Sent: p.sent.Load(), Messages: p.messages.Load(), Dropped: p.dropped.Load()})
	}
	slices.SortFunc(list, func(a, b PeerStats) int { return cmp.Compare(a.Address, b.Address) })
	return list
}
