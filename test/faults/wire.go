package main

import (
	"net"
	"sync"
	"time"

	"backend.ai/manager/test/ports"
)

// cut says what does not get through, or late. The zero value is a sound link.
type cut struct {
	Out   bool          // what the node sends does not arrive
	In    bool          // what is sent to the node does not arrive
	Reset bool          // connections end at once, and new ones are refused, instead of staying silent
	Delay time.Duration // of every packet
}

// link is the way from a node to a target; from "" means from everywhere.
type link struct{ From, To string }

// wires are all the ways that can be cut.
type wires struct {
	owner func(local, remote net.Addr) string // the node that a connection comes from, "" when it is none

	mu      sync.Mutex
	cuts    map[link]cut
	changed chan struct{} // closed at every change
	pipes   map[*pipe]struct{}
	all     []*wire
}

func newWires(owner func(local, remote net.Addr) string) *wires {
	return &wires{owner: owner, cuts: make(map[link]cut), changed: make(chan struct{}), pipes: make(map[*pipe]struct{})}
}

// wire takes connections to a target.
type wire struct {
	wires  *wires
	Target string // name
	Addr   string // where it listens

	mu       sync.Mutex
	to       string
	listener net.Listener
}

// open makes a wire to the address of a target.
func (w *wires) open(target, to string) (*wire, error) {
	x := &wire{wires: w, Target: target, Addr: ports.Free(), to: to}
	w.mu.Lock()
	w.all = append(w.all, x)
	w.mu.Unlock()
	return x, x.Listen()
}

// Listen takes connections (again). A target that is down refuses them: so does its wire after Refuse.
func (x *wire) Listen() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", x.Addr)
	if err != nil {
		return err
	}
	x.listener = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go x.serve(c)
		}
	}()
	return nil
}

// Refuse takes no connections until Listen.
func (x *wire) Refuse() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.listener != nil {
		_ = x.listener.Close()
		x.listener = nil
	}
}

// Lead changes where the wire leads.
func (x *wire) Lead(to string) {
	x.mu.Lock()
	x.to = to
	x.mu.Unlock()
}

func (x *wire) target() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.to
}

// Cut changes a link.
func (w *wires) Cut(l link, c cut) {
	w.mu.Lock()
	if c == (cut{}) {
		delete(w.cuts, l)
	} else {
		w.cuts[l] = c
	}
	close(w.changed)
	w.changed = make(chan struct{})
	var end []*pipe
	if c.Reset {
		for p := range w.pipes {
			if p.to == l.To && (l.From == "" || p.from == l.From) {
				end = append(end, p)
			}
		}
	}
	w.mu.Unlock()
	for _, p := range end {
		p.reset()
	}
}

// Heal mends all links.
func (w *wires) Heal() {
	w.mu.Lock()
	clear(w.cuts)
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
}

// Close ends all wires and what goes through them.
func (w *wires) Close() {
	w.mu.Lock()
	all := w.all
	var pipes []*pipe
	for p := range w.pipes {
		pipes = append(pipes, p)
	}
	w.mu.Unlock()
	for _, x := range all {
		x.Refuse()
	}
	for _, p := range pipes {
		p.close()
	}
}

func (w *wires) state(from, to string) (cut, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	own, every := w.cuts[link{from, to}], w.cuts[link{"", to}]
	return cut{own.Out || every.Out, own.In || every.In, own.Reset || every.Reset, max(own.Delay, every.Delay)}, w.changed
}

// pipe is one connection through a wire.
type pipe struct {
	wires    *wires
	from, to string
	client   net.Conn
	server   net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (x *wire) serve(c net.Conn) {
	p := &pipe{wires: x.wires, from: x.wires.owner(c.RemoteAddr(), c.LocalAddr()), to: x.Target, client: c, closed: make(chan struct{})}
	if !p.pass(true) || !p.pass(false) { // a handshake needs both directions
		p.reset()
		return
	}
	server, err := net.DialTimeout("tcp", x.target(), 5*time.Second)
	if err != nil {
		p.reset()
		return
	}
	p.server = server
	x.wires.mu.Lock()
	x.wires.pipes[p] = struct{}{}
	x.wires.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, c, true) })
	both.Go(func() { p.pump(c, server, false) })
	both.Wait()
	x.wires.mu.Lock()
	delete(x.wires.pipes, p)
	x.wires.mu.Unlock()
}

// pass waits until something may go through in a direction; false when the connection has ended or is refused.
func (p *pipe) pass(out bool) bool {
	for {
		c, changed := p.wires.state(p.from, p.to)
		var late <-chan time.Time
		switch {
		case c.Reset:
			return false
		case out && c.Out || !out && c.In:
		case c.Delay > 0:
			late = time.After(c.Delay)
		default:
			return true
		}
		select {
		case <-late:
			return true
		case <-changed:
		case <-p.closed:
			return false
		}
	}
}

// pump carries bytes in one direction. The end of a connection is cut off like all else.
func (p *pipe) pump(to, from net.Conn, out bool) {
	defer p.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.pass(out) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			p.pass(out)
			return
		}
	}
}

func (p *pipe) close() {
	p.once.Do(func() {
		close(p.closed)
		_ = p.client.Close()
		if p.server != nil {
			_ = p.server.Close()
		}
	})
}

// reset ends the connection as a machine does that knows nothing of it.
func (p *pipe) reset() {
	for _, c := range []net.Conn{p.client, p.server} {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
	}
	p.close()
}
