package resources

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"backend.ai/manager/actors/agent/callosum"
	"pgregory.net/rapid"
)

func name(err error) string {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return remote.Name
	}
	return fmt.Sprint(err)
}

func TestAllocate(t *testing.T) {
	p := NewPool([]int{1, 2, 5}, 1000)
	a, err := p.Allocate("a", map[string]string{"cpu": "2", "mem": "600", "cuda.shares": "0"})
	if err != nil || !slices.Equal(a.CPUs, []int{1, 2}) || a.MemBytes != 600 {
		t.Fatal(a, err)
	}
	if got := a.Allocations()["cpu"]["cpu"]; got["1"] != "1" || got["2"] != "1" || len(got) != 2 {
		t.Error(got)
	}
	for want, slots := range map[string]map[string]string{
		"InsufficientResource":    {"cpu": "2", "mem": "1"},
		"UnsupportedResource":     {"cpu": "1", "mem": "1", "cuda.shares": "0.5"},
		"NotMultipleOfQuantum":    {"cpu": "0.5", "mem": "1"},
		"InvalidResourceArgument": {"cpu": "1"},
		"RuntimeError":            {"cpu": "x"},
	} {
		kernel := "b"
		if want == "RuntimeError" {
			kernel, slots = "a", map[string]string{"cpu": "0", "mem": "0"}
		}
		if _, err := p.Allocate(kernel, slots); name(err) != want {
			t.Errorf("%v: %v", slots, err)
		}
	}
	if _, err := p.Allocate("b", map[string]string{"cpu": "1", "mem": "401"}); name(err) != "InsufficientResource" {
		t.Error(err)
	}
	if _, err := p.Allocate("b", map[string]string{"cpu": "1", "mem": "Infinity"}); name(err) != "InsufficientResource" {
		t.Error(err)
	}
	p.Release("a")
	if _, err := p.Allocate("b", map[string]string{"cpu": "3", "mem": "1000"}); err != nil {
		t.Error(err)
	}
}

func TestNeverOverCommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := NewPool([]int{0, 1, 2, 3}, 100)
		held := map[string]Allocation{}
		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				k := rapid.StringMatching("[a-e]").Draw(t, "kernel")
				a, err := p.Allocate(k, map[string]string{"cpu": fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "cpu")), "mem": fmt.Sprint(rapid.IntRange(0, 120).Draw(t, "mem"))})
				if err == nil {
					held[k] = a
				}
			},
			"release": func(t *rapid.T) {
				k := rapid.StringMatching("[a-e]").Draw(t, "kernel")
				p.Release(k)
				delete(held, k)
			},
			"": func(t *rapid.T) {
				owner := map[int]string{}
				var mem int64
				for k, a := range held {
					for _, c := range a.CPUs {
						if owner[c] != "" {
							t.Fatalf("core %d is held by %s and %s", c, owner[c], k)
						}
						owner[c] = k
					}
					mem += a.MemBytes
				}
				if mem > 100 {
					t.Fatalf("%d bytes given away", mem)
				}
			},
		})
	})
}

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	p := NewPorts("127.0.0.1", taken, taken+3)
	first, err := p.Take("a", taken)
	if err != nil || first == taken {
		t.Fatal(first, err)
	}
	seen := map[int]bool{first: true}
	for {
		port, err := p.Take("a", 0)
		if err != nil {
			if name(err) != "InsufficientResource" {
				t.Error(err)
			}
			break
		}
		if seen[port] || port == taken {
			t.Fatal("twice", port)
		}
		seen[port] = true
	}
	p.Release("a")
	if _, err := p.Take("b", first); err != nil {
		t.Error(err)
	}
}

func TestAnnouncedCoresAreShared(t *testing.T) {
	p := NewPool([]int{2, 3}, 1000)
	if pins := p.Pins(Allocation{CPUs: []int{3}}); !slices.Equal(pins, []int{3}) {
		t.Errorf("pins %v", pins)
	}
	p.Announce(5)
	if cpus, _ := p.Capacity(); cpus != 5 {
		t.Errorf("%d cores", cpus)
	}
	a, err := p.Allocate("a", map[string]string{"cpu": "5", "mem": "1"})
	if err != nil || !slices.Equal(a.CPUs, []int{2, 3, 4, 5, 6}) || len(p.Pins(a)) != 0 {
		t.Errorf("%+v %v pinned to %v", a, err, p.Pins(a))
	}
	q := NewPool([]int{2, 3}, 1000)
	q.Announce(1)
	if cpus, _ := q.Capacity(); cpus != 1 {
		t.Errorf("%d cores", cpus)
	}
}
