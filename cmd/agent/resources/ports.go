package resources

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	"backend.ai/manager/actors/agent/callosum"
)

// Ports gives away ports of a range. Safe for concurrent use.
type Ports struct {
	host      string
	low, high int
	mu        sync.Mutex
	held      map[int]string // by port
	next      int
}

// NewPorts gives away low to high, both included, of the address that services bind.
func NewPorts(host string, low, high int) *Ports {
	return &Ports{host: host, low: low, high: high, held: map[int]string{}, next: low}
}

// Take gives a port that nobody listens on. wanted, if not 0, is given when it is free, even outside the range: kernels share
// the machine's network here, so a program with a fixed port works as long as it is the only one. Error:
// InsufficientResource.
func (p *Ports) Take(kernel string, wanted int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wanted != 0 && p.free(wanted) {
		p.held[wanted] = kernel
		return wanted, nil
	}
	for range p.high - p.low + 1 {
		port := p.next
		if p.next++; p.next > p.high {
			p.next = p.low
		}
		if p.free(port) {
			p.held[port] = kernel
			return port, nil
		}
	}
	return 0, callosum.Exception("InsufficientResource", fmt.Sprintf("no free port between %d and %d", p.low, p.high))
}

func (p *Ports) free(port int) bool {
	if _, ok := p.held[port]; ok {
		return false
	}
	l, err := net.Listen("tcp", net.JoinHostPort(p.host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// Restore notes a port of a kernel that was found again.
func (p *Ports) Restore(kernel string, port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[port] = kernel
}

// Release takes back all ports of a kernel.
func (p *Ports) Release(kernel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, k := range p.held {
		if k == kernel {
			delete(p.held, port)
		}
	}
}
