package overlay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// DefaultSocket is where Docker listens.
const DefaultSocket = "/var/run/docker.sock"

// removalDelay lets the agents' containers leave the network first.
const removalDelay = 2 * time.Second

// Networks talks to one Docker daemon.
type Networks struct {
	socket string
	client *http.Client
}

// New makes the client of the daemon behind a socket.
func New(socket string) *Networks {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Networks{socket: socket, client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}}
}

// CreateOverlay makes a network. It reports false, without an error, where there is no Docker.
func (n *Networks) CreateOverlay(ctx context.Context, name, mtu string) (created bool, err error) {
	if _, err := os.Stat(n.socket); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	options := map[string]string{}
	if mtu != "" {
		options["com.docker.network.driver.mtu"] = mtu
	}
	doc, err := json.Marshal(map[string]any{
		"Name": name, "Driver": "overlay", "Attachable": true, "Labels": map[string]string{"ai.backend.cluster-network": "1"}, "Options": options,
	})
	if err != nil {
		return false, err
	}
	if err := n.do(ctx, http.MethodPost, "/networks/create", doc, http.StatusCreated); err != nil {
		return false, fmt.Errorf("create the overlay network %s: %w", name, err)
	}
	return true, nil
}

// RemoveOverlay removes a network; one that is gone already is no error.
func (n *Networks) RemoveOverlay(ctx context.Context, name string) error {
	if _, err := os.Stat(n.socket); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	select {
	case <-time.After(removalDelay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.do(ctx, http.MethodDelete, "/networks/"+url.PathEscape(name), nil, http.StatusNoContent, http.StatusNotFound); err != nil {
		return fmt.Errorf("remove the overlay network %s: %w", name, err)
	}
	return nil
}

func (n *Networks) do(ctx context.Context, method, path string, body []byte, expect ...int) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, status := range expect {
		if resp.StatusCode == status {
			return nil
		}
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	return fmt.Errorf("docker answered %s: %s", resp.Status, bytes.TrimSpace(text))
}
