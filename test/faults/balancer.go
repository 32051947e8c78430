package main

import (
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"backend.ai/manager/test/ports"
)

// balancer is HAProxy with docs/haproxy.cfg, in which only the addresses are changed.
type balancer struct {
	*program
	Addr   string
	socket string
}

func newBalancer(dir string, nodes []*node) (*balancer, error) {
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		if binary = "/usr/sbin/haproxy"; !executable(binary) {
			return nil, fmt.Errorf("haproxy is not installed (make faults installs it)")
		}
	}
	example, err := os.ReadFile("docs/haproxy.cfg")
	if err != nil {
		return nil, fmt.Errorf("%w (run this at the top of the project)", err)
	}
	b := &balancer{Addr: ports.Free(), socket: filepath.Join(dir, "haproxy.sock")}
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(b.adapt(string(example), nodes)), 0o644); err != nil {
		return nil, err
	}
	b.program = newProgram(dir, "haproxy", binary, "-db", "-f", path)
	if err := b.Start(); err != nil {
		return nil, err
	}
	return b, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&0o111 != 0
}

// adapt puts addresses of this machine into the example.
func (b *balancer) adapt(example string, nodes []*node) string {
	var out []string
	placed := false
	for line := range strings.Lines(example) {
		line = strings.TrimRight(line, "\n")
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "bind":
			out = append(out, "    bind "+b.Addr)
		case len(fields) > 2 && fields[0] == "server":
			if !placed {
				for _, n := range nodes {
					out = append(out, fmt.Sprintf("    server %s %s %s", n.Name, n.API, strings.Join(fields[3:], " ")))
				}
			}
			placed = true
		case len(fields) == 2 && fields[0] == "backend":
			placed = false
			out = append(out, line)
		case len(fields) == 1 && fields[0] == "global":
			out = append(out, line, "    stats socket "+b.socket+" mode 600 level admin")
		default:
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n") + "\n"
}

// up lists the nodes that get requests.
func (b *balancer) up() ([]string, error) {
	c, err := net.DialTimeout("unix", b.socket, time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintln(c, "show stat"); err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(c).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("haproxy's statistics: %v", err)
	}
	backend, name, state := slices.Index(rows[0], "# pxname"), slices.Index(rows[0], "svname"), slices.Index(rows[0], "status")
	var list []string
	for _, r := range rows[1:] {
		if min(backend, name, state) >= 0 && r[backend] == "managers" && strings.HasPrefix(r[state], "UP") && r[name] != "BACKEND" {
			list = append(list, r[name])
		}
	}
	return list, nil
}
