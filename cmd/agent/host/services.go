package host

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"backend.ai/manager/cmd/agent/runner"
)

// serviceTimeout is how long a service has to open its port (spec/agent-protocol §5.13).
const serviceTimeout = 10 * time.Second

// program is how to start a service: the first of the commands whose program is there.
func program(s Service, bind, python string) [][]string {
	port := strconv.Itoa(s.Port)
	jupyter := func(kind string) []string {
		return []string{python, "-m", "jupyter", kind, "--no-browser", "--ip=" + bind, "--port=" + port, "--IdentityProvider.token=", "--ServerApp.token=", "--ServerApp.allow_origin=*", "--ServerApp.base_url=/"}
	}
	switch s.Name {
	case "jupyter":
		return [][]string{jupyter("notebook"), jupyter("lab")}
	case "jupyterlab":
		return [][]string{jupyter("lab")}
	case "ttyd":
		return [][]string{{"ttyd", "-i", bind, "-p", port, "-W", "bash"}}
	case "sshd":
		return [][]string{
			{"dropbear", "-F", "-E", "-R", "-s", "-p", bind + ":" + port, "-r", "/home/work/.dropbear_host_key"},
			{"/usr/sbin/sshd", "-D", "-e", "-o", "ListenAddress=" + bind + ":" + port, "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "HostKey=/home/work/.ssh/id_container", "-o", "AuthorizedKeysFile=/home/work/.ssh/authorized_keys", "-o", "PidFile=none", "-f", "/dev/null"},
		}
	case "http-server":
		return [][]string{{python, "-m", "http.server", "--bind", bind, port}}
	}
	return nil
}

// services are those that run.
type services struct {
	bind   string
	config runner.Config
	reaper *runner.Reaper
	log    *Log

	mu      sync.Mutex
	running map[string]*service
}

type service struct {
	cmd    *exec.Cmd
	exited chan struct{}
	exit   int
	log    *Log
}

func (s *service) Output(_, text string) { s.log.WriteString(text) }
func (s *service) Event(runner.Event)    {}
func (s *service) Exited(exit int)       { s.exit = exit; close(s.exited) }

func (s *services) start(ctx context.Context, want Service) ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.running[want.Name]; now != nil {
		select {
		case <-now.exited:
		default:
			return ServiceStatus{Status: "running"}
		}
	}
	commands := program(want, s.bind, s.config.Path)
	if commands == nil { // the user starts it, or has
		if listening(ctx, s.bind, want.Port) {
			return ServiceStatus{Status: "running"}
		}
		return ServiceStatus{"failed", "nothing listens on the service's port " + strconv.Itoa(want.Port)}
	}
	argv := s.choose(commands)
	if argv == nil {
		return ServiceStatus{"failed", "the program " + filepath.Base(commands[0][0]) + " is not installed"}
	}
	one := &service{exited: make(chan struct{}), log: s.log}
	one.cmd = &exec.Cmd{Path: argv[0], Args: argv, Dir: s.config.Dir, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, Env: append([]string(nil), s.config.Env...)}
	for k, v := range want.Envs {
		one.cmd.Env = append(one.cmd.Env, k+"="+v)
	}
	if err := runner.Run(s.reaper, one.cmd, one); err != nil {
		return ServiceStatus{"failed", err.Error()}
	}
	s.running[want.Name] = one
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	for !listening(ctx, s.bind, want.Port) {
		select {
		case <-one.exited:
			return ServiceStatus{"failed", "the service has ended with exit code " + strconv.Itoa(one.exit)}
		case <-ctx.Done():
			one.end()
			return ServiceStatus{"failed", "timeout"}
		case <-time.After(20 * time.Millisecond):
		}
	}
	return ServiceStatus{Status: "started"}
}

// choose takes the first command that can be run, with its program resolved.
func (s *services) choose(commands [][]string) []string {
	for _, argv := range commands {
		path := argv[0]
		if !filepath.IsAbs(path) {
			path = lookPath(path, s.config.Env)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		if len(argv) > 2 && argv[1] == "-m" && argv[2] == "jupyter" {
			check := exec.Command(path, "-c", "import jupyter_core, "+map[string]string{"lab": "jupyterlab", "notebook": "notebook"}[argv[3]])
			check.Env = s.config.Env
			done := make(chan int, 1)
			if s.reaper.Start(check, func(exit int) { done <- exit }) != nil || <-done != 0 {
				continue
			}
		}
		return append([]string{path}, argv[1:]...)
	}
	return nil
}

func lookPath(name string, env []string) string {
	for _, e := range env {
		if len(e) > 5 && e[:5] == "PATH=" {
			for _, dir := range filepath.SplitList(e[5:]) {
				if p := filepath.Join(dir, name); exec.Command(p).Err == nil {
					if info, err := os.Stat(p); err == nil && info.Mode()&0o111 != 0 {
						return p
					}
				}
			}
		}
	}
	return ""
}

func listening(ctx context.Context, host string, port int) bool {
	if host == "" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (s *services) stop(name string) {
	s.mu.Lock()
	one := s.running[name]
	delete(s.running, name)
	s.mu.Unlock()
	if one != nil {
		one.end()
	}
}

// end asks the service to end, and makes it.
func (s *service) end() {
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	go func() {
		select {
		case <-s.exited:
		case <-time.After(3 * time.Second):
		}
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	}()
}
