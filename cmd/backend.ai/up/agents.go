package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/pelletier/go-toml/v2"
)

const (
	firstKernelPort = 30000
	kernelPorts     = 20000 // for all agents together
	logSize         = 10 << 20
	// steadyAfter is how long an agent must have run for its end to count as a first one.
	steadyAfter = time.Minute
)

// agents are the children that run kernels. start ── running (restarted when they end by themselves) ── stop.
type agents struct {
	program string
	dir     *directory
	log     *slog.Logger
	args    []string // for all
	env     []string

	mu       sync.Mutex
	stopping bool
	running  []*agent
	wait     sync.WaitGroup
	quit     chan struct{}
}

// agent is one of them.
type agent struct {
	id     string
	addr   string // of its RPC, tcp://…
	config string
	logs   string

	mu      sync.Mutex
	process *child
	since   time.Time
}

// present is the agent's process and when it was started.
func (a *agent) present() (*child, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process, a.since
}

// agentFile is a first agent.toml; it belongs to its administrator afterwards.
type agentFile struct {
	Etcd struct {
		User string `toml:"user,omitempty"`
	} `toml:"etcd"`
	Agent struct {
		ScalingGroup string `toml:"scaling-group"`
	} `toml:"agent"`
	Resource struct {
		ReservedCPU int    `toml:"reserved-cpu"`
		ReservedMem string `toml:"reserved-mem"`
	} `toml:"resource"`
}

// prepare gives agent number n of count its directory, file and ports, and ends what is left of it from an earlier run.
func (s *agents) prepare(n, count int, group, etcdUser string) (*agent, error) {
	name := fmt.Sprint(n)
	dir, err := s.dir.mkdirOpen("agents", name)
	if err != nil {
		return nil, err
	}
	a := &agent{id: fmt.Sprintf("i-%s-%d", s.dir.state.Name, n), config: filepath.Join(dir, "agent.toml"), logs: s.dir.file("logs", "agent-"+name+".log")}
	evict(func() []int { return withArgument(filepath.Base(s.program), a.config) }, syscall.SIGINT, 10*time.Second)
	if _, err := os.Stat(a.config); errors.Is(err, fs.ErrNotExist) {
		var f agentFile
		f.Etcd.User, f.Agent.ScalingGroup, f.Resource.ReservedMem = etcdUser, group, "512m"
		text, err := toml.Marshal(f)
		if err != nil {
			return nil, err
		}
		head := "# Agent " + a.id + ". Made once and yours to change; addresses and names are given by backend.ai up.\n\n"
		if err := s.dir.write(filepath.Join("agents", name, "agent.toml"), head+string(text), true); err != nil {
			return nil, err
		}
	}
	port, err := s.dir.port("agent-" + name)
	if err != nil {
		return nil, err
	}
	a.addr = fmt.Sprintf("tcp://127.0.0.1:%d", port)
	share := kernelPorts / max(count, 8)
	low := firstKernelPort + (n-1)*share
	args := []string{
		"--config", a.config, "--id", a.id, "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--port-range", fmt.Sprintf("%d-%d", low, low+share-1),
		"--scratch-root", filepath.Join(dir, "scratch"), "--skip-manager-detection",
	}
	return a, s.supervise(a, append(args, s.args...))
}

// supervise starts an agent and again whenever it ends.
func (s *agents) supervise(a *agent, args []string) error {
	if err := s.launch(a, args); err != nil {
		return err
	}
	s.mu.Lock()
	s.running = append(s.running, a)
	s.mu.Unlock()
	s.wait.Go(func() {
		again := &backoff.ExponentialBackOff{InitialInterval: time.Second, MaxInterval: 30 * time.Second, Multiplier: 2, RandomizationFactor: 0.1}
		again.Reset()
		for {
			process, since := a.present()
			<-process.done
			if s.isStopping() {
				return
			}
			if time.Since(since) > steadyAfter {
				again.Reset()
			}
			pause := again.NextBackOff()
			s.log.Error("an agent ended by itself; it is started again", "agent", a.id, "error", process.err, "in", pause, "log", a.logs)
			select {
			case <-time.After(pause):
			case <-s.quit:
				return
			}
			if err := s.launch(a, args); err != nil {
				s.log.Error("an agent can't be started", "agent", a.id, "error", err)
			}
		}
	})
	return nil
}

func (s *agents) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *agents) launch(a *agent, args []string) error {
	out, err := openLog(a.logs)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	cmd := exec.Command(s.program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(a.config), out, out
	cmd.Env = s.env
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return context.Canceled
	}
	// Orphaned, it ends and leaves its kernels running for the next start.
	process, err := spawn(cmd, syscall.SIGINT)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.process, a.since = process, time.Now()
	a.mu.Unlock()
	return nil
}

// openLog appends to a log; one that has grown large becomes FILE.1.
func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > logSize {
		_ = os.Rename(path, path+".1")
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// stop ends all agents, and their kernels too unless they are to be kept; what has not ended with ctx is killed.
func (s *agents) stop(ctx context.Context, keep bool) {
	sig := syscall.SIGTERM
	if keep {
		sig = syscall.SIGINT
	}
	s.mu.Lock()
	s.stopping = true
	close(s.quit)
	list := s.running
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, a := range list {
		p, _ := a.present()
		all.Go(func() { p.stop(sig, ctx.Done()) })
	}
	all.Wait()
	s.wait.Wait()
}

// ended tells of an agent whose process is not there at the moment.
func (a *agent) ended() error {
	p, _ := a.present()
	select {
	case <-p.done:
		return fmt.Errorf("the agent %s ended (%v): %s", a.id, p.err, tail(a.logs))
	default:
		return nil
	}
}

// tail is the end of a log.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw[max(0, len(raw)-4096):])), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// environment is what agents get of ours: nothing that would steer them.
func agentEnvironment(etcdPassword string) []string {
	env := []string{}
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if etcdPassword != "" {
		env = append(env, "BACKEND_ETCD_PASSWORD="+etcdPassword)
	}
	return env
}
