package embedded

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// conn says the few words a start and a stop need; a client of the whole protocol would retry where we want to know.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, addr, password string) (*conn, error) {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	k := &conn{c, bufio.NewReader(c)}
	if password != "" {
		if answer, err := k.ask("AUTH", password); err != nil || answer[0] == '-' {
			k.close()
			return nil, fmt.Errorf("%s refuses the password", addr)
		}
	}
	return k, nil
}

func (c *conn) close() { _ = c.Close() }

// ask sends a command and returns the first line of the answer.
func (c *conn) ask(words ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		return "", err
	}
	return c.in.ReadString('\n')
}

// dir is the directory the server works in.
func (c *conn) dir() (string, error) {
	head, err := c.ask("CONFIG", "GET", "dir")
	if err != nil || !strings.HasPrefix(head, "*2") {
		return "", fmt.Errorf("no answer: %q %w", head, err)
	}
	var line string
	for range 4 { // $3 dir $n path
		if line, err = c.in.ReadString('\n'); err != nil {
			return "", err
		}
	}
	return strings.TrimRight(line, "\r\n"), nil
}
