package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo answers every line with itself.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

type talker struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, addr string) *talker {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &talker{t, c, bufio.NewReader(c)}
}

func (c *talker) say(line string) {
	c.Helper()
	if _, err := c.Write([]byte(line + "\n")); err != nil {
		c.Fatal(err)
	}
}

// hears waits for a line, or for the want of one when want is empty.
func (c *talker) hears(want string) {
	c.Helper()
	limit := 5 * time.Second
	if want == "" {
		limit = 150 * time.Millisecond
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	got, err := c.in.ReadString('\n')
	if want == "" {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.Fatalf("heard %q, %v through a cut", got, err)
		}
		return
	}
	if err != nil || got != want+"\n" {
		c.Fatalf("heard %q, %v, want %q", got, err, want)
	}
}

func newWire(t *testing.T) (*wires, *wire) {
	tenants := &tenants{}
	tenants.set(os.Getpid(), "me")
	w := newWires(tenants.owner)
	t.Cleanup(w.Close)
	x, err := w.open("there", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	return w, x
}

func TestCutsAndLateDelivery(t *testing.T) {
	for name, c := range map[string]cut{"both ways": {Out: true, In: true}, "outwards": {Out: true}, "inwards": {In: true}} {
		t.Run(name, func(t *testing.T) {
			w, x := newWire(t)
			a := dial(t, x.Addr)
			a.say("one")
			a.hears("one")
			w.Cut(link{"somebody else", "there"}, cut{Out: true, In: true, Reset: true})
			a.say("two")
			a.hears("two")
			w.Cut(link{"me", "there"}, c)
			a.say("three")
			a.hears("")
			b := dial(t, x.Addr) // the kernel of a machine answers that, but nobody behind it
			b.say("four")
			b.hears("")
			w.Cut(link{"me", "there"}, cut{})
			a.hears("three")
			b.hears("four")
		})
	}
}

func TestResets(t *testing.T) {
	w, x := newWire(t)
	a := dial(t, x.Addr)
	a.say("one")
	a.hears("one")
	w.Cut(link{"", "there"}, cut{Out: true, In: true, Reset: true})
	ended := func(c *talker) {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.in.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("not ended: %v", err)
		}
	}
	ended(a)
	// A new one may be reset before its dialling has returned.
	if c, err := net.Dial("tcp", x.Addr); err == nil {
		t.Cleanup(func() { _ = c.Close() })
		ended(&talker{t, c, bufio.NewReader(c)})
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	w.Heal()
	b := dial(t, x.Addr)
	b.say("two")
	b.hears("two")
}

func TestDelay(t *testing.T) {
	w, x := newWire(t)
	a := dial(t, x.Addr)
	w.Cut(link{"me", "there"}, cut{Delay: 50 * time.Millisecond})
	began := time.Now()
	a.say("slow")
	a.hears("slow")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("there and back took %s", took)
	}
}

func TestRefusal(t *testing.T) {
	_, x := newWire(t)
	x.Refuse()
	if c, err := net.Dial("tcp", x.Addr); err == nil {
		c.Close()
		t.Error("a target that is down takes connections")
	}
	if err := x.Listen(); err != nil {
		t.Fatal(err)
	}
	a := dial(t, x.Addr)
	a.say("back")
	a.hears("back")
}
