package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/redis/event"
	"github.com/alicebob/miniredis/v2"
)

// The test's program is also the agent and its hosts.
func TestMain(m *testing.M) {
	host.Dispatch(os.Args[1:])
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(run(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// cluster is what an agent lives in.
type cluster struct {
	*testing.T
	redis   *miniredis.Miniredis
	etcd    *etcdtest.Server
	dir     *shared.Client
	scratch string
	client  *callosum.Client
	flags   []string

	peer  callosum.Peer
	agent *exec.Cmd
	log   *syncBuffer
	seen  int // events looked at
}

type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	c := &cluster{T: t, redis: miniredis.RunT(t), etcd: etcdtest.New(t), scratch: t.TempDir(), flags: flags}
	for p := c.scratch; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755) // the accounts of kernels come by here
	}
	ctx := c.within(time.Minute)
	var err error
	if c.dir, err = shared.Open(ctx, shared.Config{Endpoints: []string{c.etcd.Endpoint}, Namespace: "t"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.dir.Close() })
	for key, value := range map[string]string{"config/redis/addr": c.redis.Addr(), "nodes/manager/m": "up"} {
		if _, err := c.dir.Put(ctx, key, value, shared.Global); err != nil {
			t.Fatal(err)
		}
	}
	c.client = callosum.NewClient(callosum.ClientConfig{})
	if err := c.client.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.client.Stop() })
	t.Cleanup(func() {
		c.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the agent's log:\n%s", c.log)
		}
		if left := c.processes(); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
	c.start()
	return c
}

// start starts an agent and waits for its heartbeat.
func (c *cluster) start() {
	c.Helper()
	c.log = &syncBuffer{}
	args := append([]string{"agent", "--etcd", c.etcd.Endpoint, "--namespace", "t", "--id", "i-test", "--listen", "127.0.0.1:0", "--scratch-root", c.scratch,
		"--reserved-cpu", "0", "--reserved-mem", "0", "--log-level", "debug"}, c.flags...)
	c.agent = exec.Command("/proc/self/exe", args...)
	c.agent.Stderr, c.agent.Stdout = c.log, c.log
	c.agent.Env = append(os.Environ(), "AGENTS_SECRET=1")
	if err := c.agent.Start(); err != nil {
		c.Fatal(err)
	}
	c.await("agent_started", func(e event.Event) bool { _, ok := e.(event.AgentStarted); return ok })
	for _, e := range c.events() {
		if h, ok := e.(event.AgentHeartbeat); ok {
			c.peer = callosum.Peer{AgentID: "i-test", Address: h.Info.Addr}
		}
	}
}

// stop ends the agent with a signal.
func (c *cluster) stop(s syscall.Signal) {
	if c.agent == nil {
		return
	}
	c.agent.Process.Signal(s)
	c.agent.Wait()
	c.agent = nil
}

func (c *cluster) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	c.Cleanup(cancel)
	return ctx
}

// events are all that were published.
func (c *cluster) events() (list []event.Event) {
	entries, err := c.redis.DB(4).Stream("events")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		v, err := event.Decode(e.Values[1], []byte(e.Values[5]))
		if err != nil || e.Values[3] != "i-test" {
			c.Fatal(e, err)
		}
		list = append(list, v)
	}
	return list
}

// await waits for the next event that fits; those before it are not looked at again.
func (c *cluster) await(what string, fits func(event.Event) bool) event.Event {
	c.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		all := c.events()
		for i := c.seen; i < len(all); i++ {
			if fits(all[i]) {
				c.seen = i + 1
				return all[i]
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	c.Fatalf("never: %s\n%s", what, c.log)
	return nil
}

// kernelEvents are the events of one kernel's life and runs, as text.
func (c *cluster) kernelEvents(id backendai.KernelID) string {
	var list []string
	for _, e := range c.events() {
		switch e := e.(type) {
		case event.KernelPreparing:
			if e.Kernel == id {
				list = append(list, "preparing")
			}
		case event.KernelCreating:
			if e.Kernel == id {
				list = append(list, "creating")
			}
		case event.KernelStarted:
			if e.Kernel == id {
				list = append(list, "started")
			}
		case event.KernelTerminated:
			if e.Kernel == id {
				list = append(list, "terminated("+e.Reason+")")
			}
		case event.DoSyncKernelLogs:
			if e.Kernel == id {
				list = append(list, "logs")
			}
		case event.SessionSuccess:
			if e.Session == backendai.SessionID(id) {
				list = append(list, fmt.Sprintf("success(%s,%d)", e.Reason, e.ExitCode))
			}
		case event.SessionFailure:
			if e.Session == backendai.SessionID(id) {
				list = append(list, fmt.Sprintf("failure(%s,%d)", e.Reason, e.ExitCode))
			}
		}
	}
	return strings.Join(list, " ")
}

func (c *cluster) terminated(id backendai.KernelID) {
	c.Helper()
	c.seen = 0
	c.await("kernel_terminated", func(e event.Event) bool {
		t, ok := e.(event.KernelTerminated)
		return ok && t.Kernel == id
	})
}

// processes are those that work in the scratch folder or hold a kernel.
func (c *cluster) processes() (list []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(environ, []byte("MARK="+c.scratch)) || bytes.Contains(cmdline, []byte(c.scratch)) {
			list = append(list, fmt.Sprint(pid, " ", string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))))
		}
	}
	return list
}

func imageOf(runtime string) images.Image {
	for _, i := range images.Detect(context.Background(), os.Getuid() == 0) {
		if i.Runtime == runtime {
			return i
		}
	}
	panic("these tests need " + runtime + " on the machine")
}

// creation asks for one kernel.
func (c *cluster) creation(id backendai.KernelID, runtime string, change func(*callosum.KernelCreationConfig)) callosum.CreateKernels {
	img := imageOf(runtime)
	config := callosum.KernelCreationConfig{
		Image:       callosum.ImageConfig{Canonical: img.Canonical(), Digest: img.Digest, Architecture: img.Architecture, Labels: img.Labels},
		SessionType: "interactive", ClusterRole: "main", ClusterIdx: 1, ClusterHostname: "main1", AutoPull: "digest",
		Environ:       map[string]string{"MARK": c.scratch, "USERS": "yes", "BACKENDAI_CLUSTER_HOSTS": "main1,sub1"},
		ResourceSlots: map[string]string{"cpu": "1", "mem": "268435456"}, ResourceOpts: callosum.Map{{Key: "shmem", Value: int64(1 << 20)}},
	}
	if change != nil {
		change(&config)
	}
	return callosum.CreateKernels{CreationID: string(backendai.NewCreationID()), SessionID: id.String(), KernelIDs: []string{id.String()}, Configs: []callosum.KernelCreationConfig{config},
		ClusterInfo: callosum.ClusterInfo{Mode: "single-node", Size: 1, Replicas: map[string]int{"main": 1}}}
}

func call[R any](c *cluster, q callosum.Request[R]) (R, error) {
	c.Helper()
	return callosum.InvokeContext(c.within(40*time.Second), c.client, c.peer, q, callosum.Fence{})
}

func must[R any](c *cluster, q callosum.Request[R]) R {
	c.Helper()
	r, err := call(c, q)
	if err != nil {
		c.Fatalf("%T: %v\n%s", q, err, c.log)
	}
	return r
}

func (c *cluster) create(runtime string, change func(*callosum.KernelCreationConfig)) (backendai.KernelID, callosum.KernelCreationResult) {
	c.Helper()
	id := backendai.NewKernelID()
	return id, must(c, c.creation(id, runtime, change))[0]
}

// exec executes and shows the answer.
func (c *cluster) exec(id backendai.KernelID, runID, mode, code string, opts ...callosum.Entry) string {
	c.Helper()
	flush := 10.0
	r := must(c, callosum.Execute{KernelID: id.String(), APIVersion: 3, RunID: &runID, Mode: mode, Code: code, Opts: opts, FlushTimeout: &flush})
	text := r.Status
	if r.ExitCode != nil {
		text += fmt.Sprintf(" %d", *r.ExitCode)
	}
	for _, i := range r.Console {
		text += fmt.Sprintf(" %s:%q", i[0], i[1])
	}
	return text
}

func (c *cluster) check(got, want string) {
	c.Helper()
	if got != want {
		c.Errorf(" got %s\nwant %s", got, want)
	}
}

// hosts are the process ids of the kernels' hosts.
func (c *cluster) hosts() (list []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.HasPrefix(cmdline, []byte("backend.ai-kernel\x00")) {
				for _, d := range c.kernelFolders() {
					if bytes.Contains(cmdline, []byte(d)) {
						list = append(list, pid)
					}
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

func (c *cluster) kernelFolders() (list []string) {
	entries, _ := os.ReadDir(c.scratch)
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, e.Name())
		}
	}
	return list
}

func itoa(n int) string { return strconv.Itoa(n) }
