package logging

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pebbe/zmq4"

	"backend.ai/manager/config"
)

const (
	queueLength  = 4096
	writeTimeout = 5 * time.Second
	redialEvery  = time.Second
	closeGrace   = 2 * time.Second
)

// sender ships records to logstash from one goroutine: started by startSender, ended by Close, which gives queued records a moment. A
// broken connection is made again; what does not fit the queue meanwhile is dropped.
type sender struct {
	cfg     config.Logstash
	queue   chan []byte
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
	dropped atomic.Int64
}

func startSender(cfg config.Logstash) *sender {
	s := &sender{cfg: cfg, queue: make(chan []byte, queueLength), stop: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *sender) enqueue(record []byte) {
	select {
	case s.queue <- record:
	default:
		s.dropped.Add(1)
	}
}

func (s *sender) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	return nil
}

// conduit is one connection.
type conduit interface {
	send(record []byte) error
	close()
}

func (s *sender) run() {
	defer close(s.done)
	var c conduit
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		var record []byte
		select {
		case record = <-s.queue:
		case <-s.stop:
			s.drain(c)
			return
		}
		for c == nil || c.send(record) != nil {
			if c != nil {
				c.close()
				c = nil
			}
			var err error
			if c, err = s.dial(); err == nil {
				continue
			}
			c = nil
			select {
			case <-time.After(redialEvery):
			case <-s.stop:
				s.dropped.Add(1 + int64(len(s.queue)))
				return
			}
		}
	}
}

// drain sends what is queued as long as the grace lasts.
func (s *sender) drain(c conduit) {
	deadline := time.Now().Add(closeGrace)
	for time.Now().Before(deadline) {
		select {
		case record := <-s.queue:
			if c == nil {
				var err error
				if c, err = s.dial(); err != nil {
					return
				}
				defer c.close()
			}
			if c.send(record) != nil {
				return
			}
		default:
			return
		}
	}
}

func (s *sender) dial() (conduit, error) {
	addr := s.cfg.Endpoint.String()
	switch s.cfg.Protocol {
	case "udp":
		conn, err := net.DialTimeout("udp", addr, writeTimeout)
		if err != nil {
			return nil, err
		}
		return stream{conn, true}, nil
	case "zmq.push":
		return dialZMQ(zmq4.PUSH, addr)
	case "zmq.pub":
		return dialZMQ(zmq4.PUB, addr)
	}
	d := &net.Dialer{Timeout: writeTimeout}
	if s.cfg.TLS {
		conn, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{ServerName: s.cfg.Endpoint.Host, InsecureSkipVerify: !s.cfg.Verify}) //nolint:gosec // asked for by ssl-verify
		if err != nil {
			return nil, err
		}
		return stream{conn, false}, nil
	}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return stream{conn, false}, nil
}

// stream is tcp or udp; datagrams carry no newline.
type stream struct {
	net.Conn
	datagram bool
}

func (c stream) send(record []byte) error {
	if c.datagram {
		record = record[:len(record)-1]
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Write(record)
	var ne net.Error
	if c.datagram && err != nil && !errors.As(err, &ne) {
		return nil // a datagram that is too long is lost alone
	}
	return err
}

func (c stream) close() { _ = c.Close() }

// zmqConduit belongs to the sender's goroutine, as ZeroMQ demands.
type zmqConduit struct{ *zmq4.Socket }

func dialZMQ(kind zmq4.Type, addr string) (conduit, error) {
	s, err := zmq4.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	err = errors.Join(s.SetLinger(closeGrace), s.SetSndtimeo(writeTimeout), s.Connect("tcp://"+addr))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return zmqConduit{s}, nil
}

func (c zmqConduit) send(record []byte) error {
	_, err := c.SendBytes(record[:len(record)-1], 0)
	return err
}

func (c zmqConduit) close() { _ = c.Close() }
