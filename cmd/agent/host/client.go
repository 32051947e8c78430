package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"backend.ai/manager/cmd/agent/sandbox"
)

// Files of a host in the folder given to Start.
const (
	socketFile = "host.sock"
	specFile   = "host.json"
	// LogFile is what the kernel wrote.
	LogFile = "kernel.log"
)

// Client speaks with one host. Its methods may be called from any goroutine.
type Client struct{ dir string }

// Find returns the client of the host that was started in a folder, whether it lives or not.
func Find(dir string) *Client { return &Client{dir} }

// ErrGone says that the host does not answer: it has ended, or is about to.
var ErrGone = errors.New("the kernel's process has gone")

// Start starts a host whose files are in dir, a folder nobody else may read, and returns its process. The host outlives the one who
// started it; Wait for it all the same while you live.
func Start(dir string, s Spec, c *sandbox.Cgroup) (*Client, *exec.Cmd, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, specFile), raw, 0o600); err != nil {
		return nil, nil, err
	}
	spec, err := os.Open(filepath.Join(dir, specFile))
	if err != nil {
		return nil, nil, err
	}
	defer spec.Close()
	log, err := os.OpenFile(filepath.Join(dir, LogFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	socket, err := listen(dir)
	if err != nil {
		return nil, nil, err
	}
	defer socket.Close()
	errs, err := os.OpenFile(filepath.Join(dir, "host.err"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer errs.Close()
	cmd := exec.Command("/proc/self/exe", Command, s.KernelID)
	cmd.Args[0] = "backend.ai-kernel"
	cmd.Env = []string{"PATH=" + sandbox.Path}
	cmd.Dir = "/"
	cmd.Stderr = errs
	cmd.ExtraFiles = []*os.File{socket, log, spec}
	cmd.SysProcAttr = sandbox.Attributes(s.Sandbox.Isolation, c)
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the kernel's process: %w", err)
	}
	return Find(dir), cmd, nil
}

// Complaint is what a host that did not come up said.
func (c *Client) Complaint() string {
	raw, _ := os.ReadFile(filepath.Join(c.dir, "host.err"))
	if len(raw) > 2000 {
		raw = raw[:2000]
	}
	return string(raw)
}

// within calls f with a name for the socket that is short, however long the folder's is: the limit is 108 bytes.
func within(dir string, f func(path string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketFile)
}

func listen(dir string) (file *os.File, err error) {
	err = within(dir, func(path string) error {
		os.Remove(path)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		defer l.Close()
		file, err = l.File()
		return err
	})
	return file, err
}

func (c *Client) ask(ctx context.Context, q Request) (res Response, err error) {
	err = within(c.dir, func(path string) error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		if err := json.NewEncoder(conn).Encode(q); err != nil {
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
		if err := json.NewDecoder(conn).Decode(&res); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
		return nil
	})
	if err == nil && res.Error != "" {
		err = errors.New(res.Error)
	}
	return res, err
}

// Ready returns when the bootstrap script has ended and the interpreter is ready.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.ask(ctx, Request{Op: opStatus})
	return err
}

// Execute see Runs.
func (c *Client) Execute(ctx context.Context, q Request) (Result, error) {
	q.Op = opExecute
	res, err := c.ask(ctx, q)
	if err != nil {
		return Result{}, err
	}
	if res.Result == nil {
		return Result{}, ErrGone
	}
	return *res.Result, nil
}

// Interrupt stops what runs.
func (c *Client) Interrupt(ctx context.Context) error {
	_, err := c.ask(ctx, Request{Op: opInterrupt})
	return err
}

// Complete gives completions of the last word of code.
func (c *Client) Complete(ctx context.Context, code string) ([]string, error) {
	res, err := c.ask(ctx, Request{Op: opComplete, Code: code})
	return res.Completions, err
}

// StartService starts a service.
func (c *Client) StartService(ctx context.Context, s Service) (ServiceStatus, error) {
	res, err := c.ask(ctx, Request{Op: opStartService, Service: s})
	if err != nil {
		return ServiceStatus{}, err
	}
	if res.Service == nil {
		return ServiceStatus{}, ErrGone
	}
	return *res.Service, nil
}

// StopService ends a service.
func (c *Client) StopService(ctx context.Context, name string) error {
	_, err := c.ask(ctx, Request{Op: opShutdownService, Service: Service{Name: name}})
	return err
}

// Shutdown asks all processes of the kernel to end within a time, after which they are killed, and the host with them.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	_, err := c.ask(ctx, Request{Op: opShutdown, GraceSeconds: grace.Seconds()})
	return err
}
