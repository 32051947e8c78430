package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/test/ports"
)

const (
	loadGroup  = "load"    // scaling group of the pretended agents, so that sessions of people go to the bundled one
	bundled    = "i-local" // the bundled agent
	creating   = 10 * time.Second
	firstKill  = 1 * time.Second
	betweenOf  = 3 * time.Second // two kills
	clientTime = 90 * time.Second
)

type clusterOptions struct {
	binary, agent, client string
	nodes, agents, rate   int
	serve, keep           bool
}

// demonstrate shows a cluster of nodes at work, and each of them being killed. It tells whether nothing was lost.
func demonstrate(ctx context.Context, args []string) (ok bool, err error) {
	o := clusterOptions{}
	fs := flag.NewFlagSet("cluster", flag.ExitOnError)
	fs.StringVar(&o.binary, "manager", "bin/backend.ai", "the manager")
	fs.StringVar(&o.agent, "agent", "bin/backend.ai-agent", "the bundled agent")
	fs.StringVar(&o.client, "client", ".venv/bin/backend.ai", "the official client")
	fs.IntVar(&o.nodes, "nodes", 3, "manager nodes")
	fs.IntVar(&o.agents, "agents", 10, "pretended agents, besides the bundled one")
	fs.IntVar(&o.rate, "rate", 100, "sessions a second while nodes are killed")
	fs.BoolVar(&o.serve, "serve", false, "keep serving until Ctrl-C")
	fs.BoolVar(&o.keep, "keep", false, "leave data and logs for a look")
	_ = fs.Parse(args)
	if o.nodes < 2 || o.agents < 1 || o.rate < 1 {
		return false, fmt.Errorf("it takes at least two nodes, one agent and one session a second")
	}
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	w, err := newWorld(ctx, setup{binary: o.binary, nodes: o.nodes, agents: o.agents, residents: 24, group: loadGroup, cores: max(64, 2*int(creating.Seconds())*o.rate/o.agents)}, say)
	keep := o.keep
	defer func() { w.close(keep) }()
	if err != nil {
		for _, n := range w.nodes {
			say("%s:\n%s", n.Name, n.tail(1500))
		}
		return false, err
	}
	agent, err := w.bundledAgent(ctx, o.agent)
	if err != nil {
		return false, err
	}
	defer agent.Stop(syscall.SIGTERM, 20*time.Second)
	keys := filepath.Join(w.dir, "keys.sh")
	if err := os.WriteFile(keys, []byte(strings.Join(w.environment(true), "\n")+"\n"), 0o600); err != nil {
		return false, err
	}
	if err := w.officialClient(ctx, o.client); err != nil {
		keep = true
		return false, err
	}
	w.killEach(ctx, o.rate)
	w.checkLogs()
	if keep = keep || len(w.violations) > 0; len(w.violations) == 0 {
		say("nothing was lost")
	}
	if o.serve && ctx.Err() == nil {
		w.serving.Store(true)
		w.panel(keys)
		<-ctx.Done()
		say("stopping")
	}
	return len(w.violations) == 0, nil
}

// environment of the official client; with export in front of each for a shell.
func (w *world) environment(export bool) []string {
	list := []string{"BACKEND_ENDPOINT=http://" + w.balancer.Addr, "BACKEND_ENDPOINT_TYPE=api", "BACKEND_ACCESS_KEY=" + accessKey, "BACKEND_SECRET_KEY=" + secretKey}
	for i := range list {
		if export {
			list[i] = "export " + list[i]
		}
	}
	return list
}

// addGroup adds a scaling group that everybody may use.
func (w *world) addGroup(ctx context.Context, name string) error {
	if _, err := w.pool.Exec(ctx, `INSERT INTO scaling_groups (name, description, is_active, driver, driver_opts, scheduler, scheduler_opts)
 SELECT $1, 'Pretended agents', is_active, driver, driver_opts, scheduler, scheduler_opts FROM scaling_groups WHERE name = 'default'`, name); err != nil {
		return err
	}
	_, err := w.pool.Exec(ctx, `INSERT INTO sgroups_for_domains (scaling_group, domain) VALUES ($1, 'default')`, name)
	return err
}

// bundledAgent starts the bundled agent, which runs code of this machine's interpreters.
func (w *world) bundledAgent(ctx context.Context, binary string) (*program, error) {
	list := images.Detect(ctx, true)
	if len(list) == 0 {
		return nil, fmt.Errorf("this machine has no interpreter that the bundled agent could offer as an image")
	}
	for _, im := range list {
		labels, err := json.Marshal(im.Labels)
		if err != nil {
			return nil, err
		}
		resources, err := json.Marshal(backendai.ImageLabels(im.Labels).MinResources())
		if err != nil {
			return nil, err
		}
		if _, err := w.pool.Exec(ctx, `WITH i AS (INSERT INTO images (name, image, tag, registry, architecture, config_digest, size_bytes, type, labels, resources)
 VALUES ($1, $2, $3, $4, $5, $6, 1, 'COMPUTE', $7, $8) RETURNING id) INSERT INTO image_aliases (alias, image) SELECT $9, id FROM i`,
			im.Canonical(), im.Name, im.Tag, im.Registry, im.Architecture, im.Digest, string(labels), string(resources), strings.TrimPrefix(im.Name, "stable/")); err != nil {
			return nil, err
		}
		if _, err := w.pool.Exec(ctx, `UPDATE domains SET allowed_docker_registries = array_append(allowed_docker_registries, $1) WHERE NOT $1 = ANY(allowed_docker_registries)`, im.Registry); err != nil {
			return nil, err
		}
		if _, err := w.settings.Put(ctx, shared.Join("config/docker/registry", im.Registry), "https://"+im.Registry, shared.Global); err != nil {
			return nil, err
		}
	}
	args := []string{binary, "--etcd", w.etcdAddr[0], "--namespace", namespace, "--listen", ports.Free(), "--id", bundled, "--scratch-root", filepath.Join(w.dir, "scratch"),
		"--reserved-cpu", "0", "--reserved-mem", "0", "--cpus", "8"}
	p := newProgram(w.dir, "agent", args...)
	if err := p.Start(); err != nil {
		return nil, err
	}
	err := eventually(ctx, 30*time.Second, func() error {
		var n int
		err := w.pool.QueryRow(ctx, `SELECT count(*) FROM agents WHERE id = $1 AND status = 'ALIVE'`, bundled).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("the bundled agent does not come up:\n%s", p.tail(1500))
		}
		return err
	})
	return p, err
}

// officialClient runs the official client through the balancer, against pretended agents and the bundled one.
func (w *world) officialClient(ctx context.Context, program string) error {
	run := func(want string, args ...string) error {
		ctx, cancel := context.WithTimeout(ctx, clientTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append(append(os.Environ(), w.environment(false)...), "BACKEND_SKIP_SSLCERT_VALIDATION=yes", "HOME="+w.dir, "PYTHONWARNINGS=ignore")
		began := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			return fmt.Errorf("backend.ai %s: %v; %q was expected in\n%s", strings.Join(args, " "), err, want, out)
		}
		w.say("  backend.ai %-60s %q after %s", strings.Join(args, " "), strings.TrimSpace(want), short(time.Since(began)))
		return nil
	}
	w.say("the official client, through HAProxy at http://%s:", w.balancer.Addr)
	for _, step := range []struct {
		want string
		args []string
	}{
		{"42\n", []string{"run", "--rm", "--scaling-group", "default", "-c", "print(6*7)", "python"}},
		{"is created and ready", []string{"session", "create", "-t", "by-client", "--scaling-group", loadGroup, "-r", "cpu=1", "-r", "mem=256m", image}},
		{"by-client", []string{"ps"}},
	} {
		if err := run(step.want, step.args...); err != nil {
			return err
		}
	}
	var id string
	if err := w.pool.QueryRow(ctx, `SELECT session_id::text FROM kernels WHERE session_name = 'by-client'`).Scan(&id); err != nil {
		return err
	}
	if err := run("RUNNING", "session", "info", id); err != nil {
		return err
	}
	return run("", "session", "rm", "by-client")
}

// loss is what the kill of a node did.
type loss struct {
	node    *node
	at      time.Duration
	probes  *probes
	running map[string]string // sessions that ran: names by id
	waits   []time.Duration
}

// killEach creates sessions at a steady rate while every node is killed, one after the other.
func (w *world) killEach(ctx context.Context, rate int) {
	w.say("creating %d sessions a second through HAProxy for %s; every node gets kill -9 meanwhile and is started again", rate, creating)
	var mu sync.Mutex
	running := make(map[string]string)
	var clients sync.WaitGroup
	began := w.now()
	creator := make(chan struct{})
	var killed atomic.Bool // all of them, a while ago
	go func() {
		defer close(creator)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; (w.now()-began < creating || !killed.Load()) && ctx.Err() == nil; i++ {
			clients.Go(func() {
				if s, err := w.load.create(fmt.Sprintf("mass-%05d", i)); err == nil && s.Status == "RUNNING" {
					mu.Lock()
					running[s.ID] = s.Name
					mu.Unlock()
				}
			})
			<-tick.C
		}
	}()
	var losses []*loss
	for i, n := range w.nodes {
		pause(ctx, began+firstKill+time.Duration(i)*betweenOf-w.now())
		if i > 0 {
			w.conclude(losses[i-1])
		}
		if err := eventually(ctx, wholeLimit, func() error { return w.whole(ctx) }); err != nil {
			w.violate("", "not whole before the kill of %s: %v", n.Name, err)
		}
		l := &loss{node: n, running: make(map[string]string)}
		v, err := w.view(ctx)
		if err != nil {
			w.violate("", "%v", err)
			continue
		}
		mu.Lock()
		for id, name := range running {
			l.running[id] = name
		}
		mu.Unlock()
		w.setFault(i + 1)
		l.probes = w.probe(ownedBy(v, n.Name), "", n)
		l.at = w.now()
		w.add(entry{What: "fault", Text: "kill -9 of " + n.Name})
		n.Kill()
		losses = append(losses, l)
	}
	pause(ctx, betweenOf-firstKill)
	killed.Store(true)
	<-creator
	clients.Wait()
	took := w.now() - began
	if len(losses) > 0 {
		w.conclude(losses[len(losses)-1])
	}
	if err := eventually(ctx, wholeLimit, func() error { return w.whole(ctx) }); err != nil {
		w.violate("", "not whole after the kills: %v", err)
	}
	w.say("%d sessions RUNNING, %.0f a second", len(running), float64(len(running))/took.Seconds())
	for i, l := range losses {
		until := took + began
		if i+1 < len(losses) {
			until = losses[i+1].at
		}
		w.tell(ctx, l, until)
	}
	w.rest(ctx, true)
	told := make(map[string]int)
	w.checkSins("", told)
}

// conclude ends the probes of a loss.
func (w *world) conclude(l *loss) { l.waits, _ = l.probes.end(l.at) }

// tell prints what the kill of a node did until the given time.
func (w *world) tell(ctx context.Context, l *loss, until time.Duration) {
	var requests, failed int
	var longest time.Duration
	for _, e := range w.between(l.at, until) {
		if e.What == "request" {
			requests++
			longest = max(longest, e.End-e.Start)
			if e.bad() {
				failed++
			}
		}
	}
	truth := w.fleet.kernels()
	lost := 0
	rows, err := w.rows(ctx)
	if err != nil {
		w.violate("", "%v", err)
	}
	for id, name := range l.running {
		if at, ok := truth[id]; !ok || rows[id].container != at[1] || !rows[id].live() {
			lost++
			w.violate(killNode, "%s ran when %s was killed; now: %s", name, l.node.Name, rows[id])
		}
	}
	var takeOver time.Duration
	for _, d := range l.waits {
		takeOver = max(takeOver, d)
	}
	w.say("  kill -9 of %s: its sessions answer again after %s; %d requests, %d of them 5xx or without an answer, longest wait %s; of %d sessions that ran %d are lost",
		l.node.Name, short(takeOver), requests, failed, short(longest), len(l.running), lost)
	if len(l.waits) == 0 {
		w.violate(killNode, "none of the probed sessions has answered since %s was killed: %s", l.node.Name, l.probes.fail)
	}
}

// panel tells people what they can do now.
func (w *world) panel(keys string) {
	w.say("\n  endpoint   http://%s (HAProxy)\n  keys       source %s", w.balancer.Addr, keys)
	for _, n := range w.nodes {
		version := "does not answer"
		if resp, err := quick.Get("http://" + n.API + "/"); err == nil {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				version = strings.TrimSpace(string(text))
			}
		}
		w.say("  node       %s  http://%s  %s", n.Name, n.API, version)
	}
	first := w.nodes[0]
	w.say("  look       %s mgr cluster status -f %s\n  try        kill -9 of any node: it is started again; Ctrl-C ends all", first.args[0], filepath.Join(w.dir, first.Name+".toml"))
}
