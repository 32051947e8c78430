package ports

import (
	"net"
	"testing"
)

// A port is given once, and never one that is taken or that the system may give to a connection.
func TestFree(t *testing.T) {
	seen := make(map[string]bool)
	for range 200 {
		addr := Free()
		if seen[addr] {
			t.Fatalf("%s is given twice", addr)
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		if port := l.Addr().(*net.TCPAddr).Port; port < lowest || port >= lowest+count || lowest+count > 32768 {
			t.Errorf("port %d", port)
		}
	}
}
