package callosum

import (
	"container/heap"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"
)

// receiveBatch is how many answers of one link are read before the others get their turn.
const receiveBatch = 256

// link is one lasting connection; it belongs to its pump, but for the stats.
type link struct {
	peer     Peer
	state    LinkState
	socket   *zmq.Socket // nil while waiting
	monitor  *zmq.Socket
	blocked  bool // the socket's queue is full; POLLOUT will tell
	waiting  fifo // not yet sent
	inFlight map[uint32]*pending
	nextSeq  uint32
	breaker  Breaker

	upSince   time.Time
	lastCall  time.Time
	lastError error
	backoff   time.Duration
	reopenAt  time.Time // while waiting
	timerAt   time.Time
	index     int

	mu      sync.Mutex
	stats   LinkStats
	publish func(func(*LinkStats)) // updates stats under mu
}

func (l *link) outstanding() int { return l.waiting.live + len(l.inFlight) }

func (p *pump) newLink(peer Peer, now time.Time) *link {
	l := &link{peer: peer, inFlight: map[uint32]*pending{}, breaker: NewBreaker(p.config.Breaker), lastCall: now, index: -1}
	l.stats.Peer = peer
	l.publish = func(change func(*LinkStats)) {
		l.mu.Lock()
		change(&l.stats)
		l.stats.Waiting, l.stats.InFlight = l.waiting.live, len(l.inFlight)
		l.stats.Breaker, l.stats.BreakerRetryAt = l.breaker.State, l.breaker.RetryAt
		l.mu.Unlock()
	}
	p.links[peer] = l
	p.stats.add(l)
	p.open(l, now)
	return l
}

// open makes a fresh socket. A fresh one, because what an old one still holds would be sent to the agent's next life.
func (p *pump) open(l *link, now time.Time) {
	if err := p.connect(l); err != nil {
		p.closeSocket(l, true)
		p.wait(l, now, err)
		return
	}
	p.setState(l, LinkConnecting, now)
	p.schedule(l, now)
}

func (p *pump) connect(l *link) (err error) {
	if l.socket, err = p.zctx.NewSocket(zmq.DEALER); err != nil {
		return fmt.Errorf("callosum: socket: %w", err)
	}
	s, c := l.socket, p.config
	idle := max(1, int(c.Keepalive/time.Second))
	options := []error{
		s.SetLinger(100 * time.Millisecond),
		s.SetTcpKeepalive(1), s.SetTcpKeepaliveIdle(idle), s.SetTcpKeepaliveIntvl(max(2, idle/3)), s.SetTcpKeepaliveCnt(3),
		// Not ZMQ_IMMEDIATE: with it libzmq 4.3 throws answers away that arrived just before the connection ended. Nothing
		// queues up for a connection that is not there anyhow, because a link sends only while it is up.
		s.SetReconnectIvl(c.ReconnectMin), s.SetReconnectIvlMax(c.ReconnectMax),
		s.SetConnectTimeout(c.ConnectTimeout), s.SetHandshakeIvl(c.ConnectTimeout),
		s.SetMaxmsgsize(int64(c.MaxMessage)),
		s.SetIpv6(strings.Contains(l.peer.Address, "[")), // names shall resolve to what official agents can bind
	}
	if c.Heartbeat > 0 {
		options = append(options, s.SetHeartbeatIvl(c.Heartbeat), s.SetHeartbeatTimeout(2*c.Heartbeat))
	}
	if l.peer.ServerKey != "" {
		options = append(options, s.SetCurveServerkey(l.peer.ServerKey), s.SetCurvePublickey(c.PublicKey), s.SetCurveSecretkey(c.SecretKey))
	}
	if err := errors.Join(options...); err != nil {
		return fmt.Errorf("callosum: socket options: %w", err)
	}
	p.monitors++
	address := fmt.Sprintf("inproc://monitor-%d-%d", p.id, p.monitors)
	err = s.Monitor(address, zmq.EVENT_HANDSHAKE_SUCCEEDED|zmq.EVENT_DISCONNECTED|zmq.EVENT_CONNECT_RETRIED|
		zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL|zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL|zmq.EVENT_HANDSHAKE_FAILED_AUTH)
	if err != nil {
		return fmt.Errorf("callosum: monitor: %w", err)
	}
	if l.monitor, err = p.zctx.NewSocket(zmq.PAIR); err != nil {
		return fmt.Errorf("callosum: monitor: %w", err)
	}
	if err := errors.Join(l.monitor.SetLinger(0), l.monitor.Connect(address)); err != nil {
		return fmt.Errorf("callosum: monitor: %w", err)
	}
	if err := s.Connect(l.peer.Address); err != nil {
		return fmt.Errorf("callosum: connect: %w", err)
	}
	p.sockets[s], p.sockets[l.monitor] = l, l
	p.poller.Add(s, zmq.POLLIN)
	p.poller.Add(l.monitor, zmq.POLLIN)
	return nil
}

func (p *pump) closeSocket(l *link, broken bool) {
	if l.monitor != nil {
		_ = p.poller.RemoveBySocket(l.monitor)
		delete(p.sockets, l.monitor)
	}
	if l.socket != nil {
		_ = p.poller.RemoveBySocket(l.socket)
		delete(p.sockets, l.socket)
		_ = l.socket.Monitor("", 0) // a monitor that outlives its socket can crash the context's end
		if broken {
			_ = l.socket.SetLinger(0)
		}
		_ = l.socket.Close()
	}
	if l.monitor != nil {
		_ = l.monitor.Close()
	}
	l.socket, l.monitor, l.blocked = nil, nil, false
}

// wait plans the next connection.
func (p *pump) wait(l *link, now time.Time, err error) {
	lasted := time.Duration(0)
	if !l.upSince.IsZero() {
		lasted = now.Sub(l.upSince)
	}
	l.backoff = nextBackoff(l.backoff, lasted, p.config.ReconnectMin, p.config.ReconnectMax)
	l.reopenAt, l.upSince, l.lastError = now.Add(l.backoff), time.Time{}, err
	p.setState(l, LinkWaiting, now)
	l.publish(func(s *LinkStats) { s.LastError, s.LastErrorAt = err.Error(), now })
	p.schedule(l, now)
}

// nextBackoff doubles the pause between connections that do not last, and starts over after one that did.
func nextBackoff(previous, lasted, least, most time.Duration) time.Duration {
	if previous == 0 || lasted > 10*time.Second {
		return least
	}
	return min(2*previous, most)
}

// onMonitor reads what happened to the connection.
func (p *pump) onMonitor(l *link) {
	for l.monitor != nil {
		event, _, value, err := l.monitor.RecvEvent(zmq.DONTWAIT)
		if err != nil {
			return
		}
		now := time.Now()
		switch event {
		case zmq.EVENT_HANDSHAKE_SUCCEEDED:
			p.onUp(l, now)
		case zmq.EVENT_DISCONNECTED:
			if l.state == LinkUp {
				p.onDisconnect(l, now)
			}
		case zmq.EVENT_CONNECT_RETRIED:
			p.noteError(l, now, errors.New("no connection yet"))
		case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH:
			p.noteError(l, now, fmt.Errorf("handshake failed: %s (%d)", event, value))
		}
	}
}

func (p *pump) noteError(l *link, now time.Time, err error) {
	l.lastError = err
	l.publish(func(s *LinkStats) { s.LastError, s.LastErrorAt = err.Error(), now })
}

func (p *pump) onUp(l *link, now time.Time) {
	if l.state == LinkUp {
		return
	}
	l.upSince, l.lastError = now, nil
	p.setState(l, LinkUp, now)
	l.publish(func(s *LinkStats) { s.Connects++ })
	if l.breaker.Connected() {
		p.probe(l, now)
	}
	p.flush(l)
	p.schedule(l, now)
}

// onDisconnect fails what was sent: the agent answers to a connection, and this one is gone (spec §1.4). Answers that came
// before the end are still in the socket. What was not sent waits for the next connection.
func (p *pump) onDisconnect(l *link, now time.Time) {
	p.receive(l, 1<<30)
	p.closeSocket(l, true)
	lost := errors.New("connection lost")
	p.wait(l, now, lost)
	for _, q := range l.inFlight {
		if q.probe {
			l.breaker.ProbeLost(now)
		}
		p.finish(q, CauseDisconnected, lost)
	}
	until := now.Add(p.config.ConnectTimeout)
	for _, q := range l.waiting.items {
		if !q.finished && q.index >= 0 {
			q.at = minTime(q.deadline, until)
			heap.Fix(&p.timers, q.index)
		}
	}
	p.schedule(l, now)
}

// onSocket reads answers, and goes on sending when the socket has room again.
func (p *pump) onSocket(l *link, events zmq.State) {
	if events&zmq.POLLIN != 0 {
		p.receive(l, receiveBatch)
	}
	if events&zmq.POLLOUT != 0 && l.blocked {
		l.blocked = false
		_, _ = p.poller.UpdateBySocket(l.socket, zmq.POLLIN)
		p.flush(l)
	}
}

// flush sends what waits, as far as the connection takes it.
func (p *pump) flush(l *link) {
	for l.state == LinkUp && !l.blocked {
		q := l.waiting.front()
		if q == nil {
			break
		}
		if _, taken := l.inFlight[l.nextSeq]; taken { // after 2³² calls
			l.nextSeq++
			continue
		}
		if late := wall(time.Now()).Sub(q.handedIn); late > p.config.SendTimeout {
			p.finish(q, CauseUnreachable, fmt.Errorf("it has waited %s to be sent", late.Truncate(time.Millisecond)))
			continue
		}
		frames, err := EncodeRequest(ID{Method: q.method, Seq: l.nextSeq}, q.fence, q.payload)
		if err != nil {
			p.finish(q, CauseInvalid, err)
			continue
		}
		if !p.send(l, frames) {
			return
		}
		l.waiting.pop()
		q.sent, q.seq, q.sentAt, q.payload = true, l.nextSeq, time.Now(), nil
		l.nextSeq++
		l.inFlight[q.seq] = q
		if q.at != q.deadline {
			q.at = q.deadline
			heap.Fix(&p.timers, q.index)
		}
		l.publish(func(s *LinkStats) { s.Sent++ })
	}
}

// send hands one message to the socket; false when it has no room.
func (p *pump) send(l *link, frames Frames) bool {
	_, err := l.socket.SendBytes(frames[0], zmq.SNDMORE|zmq.DONTWAIT)
	if err == nil {
		// libzmq counts whole messages against the high-water mark, so the second part has room when the first had.
		_, err = l.socket.SendBytes(frames[1], zmq.DONTWAIT)
	}
	if err == nil {
		return true
	}
	if zmq.AsErrno(err) != zmq.Errno(syscall.EAGAIN) {
		p.noteError(l, time.Now(), fmt.Errorf("send: %w", err))
	}
	l.blocked = true
	_, _ = p.poller.UpdateBySocket(l.socket, zmq.POLLIN|zmq.POLLOUT)
	return false
}

// sendCancel tells the agent that an answer is no longer wanted; the bundled agent heeds it, official ones do not.
func (p *pump) sendCancel(q *pending) {
	if !q.sent || q.link.state != LinkUp || q.link.blocked {
		return
	}
	if frames, err := EncodeCancel(ID{Method: q.method, Seq: q.seq}); err == nil {
		p.send(q.link, frames)
	}
}

func (p *pump) receive(l *link, most int) {
	for range most {
		if l.socket == nil { // a callback cannot close it, but an error can
			return
		}
		frames, err := l.socket.RecvMessageBytes(zmq.DONTWAIT)
		if err != nil {
			return
		}
		p.onMessage(l, frames)
	}
}

func (p *pump) onMessage(l *link, frames [][]byte) {
	now := time.Now()
	m, err := Decode(frames, DecodeOptions{MaxBody: p.config.MaxMessage})
	if errors.Is(err, ErrNoHeader) {
		p.noteError(l, now, err)
		return
	}
	q := l.inFlight[m.Seq]
	if q == nil || q.method != m.Method || m.OrderKey != (OrderKey{}) || m.Type == MessageFunction || m.Type == MessageCancel {
		// Mostly the answer to a call whose deadline has passed.
		l.breaker.Answered()
		l.publish(func(s *LinkStats) { s.Received++; s.Late++ })
		return
	}
	wasRefusing := !l.breaker.Allows()
	l.breaker.Answered()
	if wasRefusing {
		p.log.Info("callosum: agent answers again", "agent", l.peer.AgentID)
	}
	count := func(s *LinkStats) {
		s.Received++
		s.note(now.Sub(q.sentAt))
		if m.Err != nil {
			s.RemoteErrors++
		}
	}
	switch {
	case err != nil:
		p.deliver(q, Outcome{Err: &LinkError{Cause: CauseProtocol, Agent: l.peer.AgentID, Method: q.method, Sent: true, Err: err}}, count)
	case m.Type == MessageCancelled:
		p.deliver(q, Outcome{Err: &RemoteError{Name: "CancelledError", Repr: "CancelledError()", Kind: MessageCancelled}}, count)
	case m.Err != nil:
		p.deliver(q, Outcome{Err: m.Err}, count)
	default:
		p.deliver(q, Outcome{Payload: m.Payload}, count)
	}
}

// expire ends a call at its deadline.
func (p *pump) expire(q *pending, now time.Time) {
	l := q.link
	p.sendCancel(q)
	probe := false
	switch {
	case q.probe && q.sent:
		if l.breaker.State == BreakerSuspect {
			p.log.Warn("callosum: agent does not answer, calls are refused", "agent", l.peer.AgentID)
		}
		l.breaker.ProbeFailed(now)
	case q.probe:
		l.breaker.ProbeLost(now)
	case q.sent:
		probe = l.breaker.TimedOut()
	}
	p.finish(q, CauseDeadline, nil)
	if probe {
		p.probe(l, now)
	}
	p.schedule(l, now)
}

// probe sends the breaker's ping.
func (p *pump) probe(l *link, now time.Time) {
	payload, err := Ping{Msg: "probe"}.Call().Payload()
	if err != nil {
		return
	}
	p.accept(l.peer, &pending{
		method: MethodPing, payload: payload, deadline: now.Add(p.config.ProbeTimeout), handedIn: wall(now), done: func(Outcome) {}, probe: true, index: -1,
	})
}

// remove closes a link for good.
func (p *pump) remove(l *link, err error) {
	for _, q := range l.inFlight {
		p.finish(q, CauseStopped, err)
	}
	for _, q := range l.waiting.items {
		p.finish(q, CauseStopped, err)
	}
	if l.index >= 0 {
		heap.Remove(&p.timers, l.index)
	}
	p.closeSocket(l, false)
	delete(p.links, l.peer)
	p.stats.remove(l)
}

func (l *link) due() time.Time { return l.timerAt }
func (l *link) place() *int    { return &l.index }

// schedule sets the link's one timer to whatever comes first.
func (p *pump) schedule(l *link, now time.Time) {
	at := l.lastCall.Add(p.config.IdleTimeout)
	if !at.After(now) { // idle, but a call is still out
		at = now.Add(p.config.IdleTimeout)
	}
	if l.state == LinkWaiting {
		at = minTime(at, l.reopenAt)
	}
	if l.breaker.State == BreakerOpen {
		at = minTime(at, l.breaker.RetryAt)
	}
	l.timerAt = at
	if l.index >= 0 {
		heap.Fix(&p.timers, l.index)
	} else {
		heap.Push(&p.timers, l)
	}
	l.publish(func(*LinkStats) {})
}

// fire does what the link's timer was set for.
func (l *link) fire(p *pump, now time.Time) {
	if l.outstanding() == 0 && !now.Before(l.lastCall.Add(p.config.IdleTimeout)) {
		p.remove(l, nil)
		return
	}
	if l.state == LinkWaiting && !now.Before(l.reopenAt) {
		p.open(l, now)
	}
	if l.breaker.Tick(now) {
		p.probe(l, now)
	}
	p.schedule(l, now)
}

func (p *pump) setState(l *link, state LinkState, now time.Time) {
	l.state = state
	l.publish(func(s *LinkStats) { s.State, s.Since = state, now })
}
