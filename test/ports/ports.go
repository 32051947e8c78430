package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

const lowest, count = 18000, 14000

var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: make(map[int]bool)}

// Free is an address of this machine, host:port, at which nobody listens and which this process has not got before.
func Free() string {
	given.Lock()
	defer given.Unlock()
	for {
		port := lowest + rand.IntN(count)
		if given.ports[port] {
			continue
		}
		given.ports[port] = true
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close()
		return addr
	}
}
