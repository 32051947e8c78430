package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/redis/event"
)

func nameOf(err error) string {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return remote.Name
	}
	return "?"
}

func TestLifeOfAPythonKernel(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id, res := c.create(images.RuntimePython, func(k *callosum.KernelCreationConfig) {
		script := "echo booted; echo 1 >boot.txt"
		k.BootstrapScript = &script
		k.PreopenPorts = []int{39123}
		k.InternalData = &callosum.InternalData{
			Dotfiles:   []callosum.Dotfile{{Path: ".myrc", Perm: "600", Data: "x=1"}, {Path: "/home/work/.deep/rc", Perm: "755", Data: "y"}},
			SSHKeyPair: &callosum.SSHKeyPair{PrivateKey: "private", PublicKey: "public"},
		}
	})
	if res.ID != id.String() || len(res.ContainerID) != 64 || res.ResourceSpec.Allocations["mem"]["mem"]["root"] != "268435456" || len(res.ResourceSpec.Allocations["cpu"]["cpu"]) != 1 {
		t.Errorf("result %+v", res)
	}
	var names []string
	for _, p := range res.ServicePorts {
		names = append(names, p.Name)
		if len(p.HostPorts) != len(p.ContainerPorts) {
			t.Errorf("ports of %+v", p)
		}
	}
	c.check(strings.Join(names, " "), "39123 jupyter http-server sshd ttyd")
	c.check(c.kernelEvents(id), "preparing creating started")

	c.check(c.exec(id, "1", "query", "x = 40\nprint('hello')"), `finished 0 stdout:"hello\n"`)
	c.check(c.exec(id, "2", "query", "x + 2"), `finished 0 stdout:"42\n"`)
	c.check(c.exec(id, "3", "query", "n = input('name? '); print('hi', n)"), `waiting-input stdout:"name? "`)
	c.check(c.exec(id, "3", "input", "joe"), `finished 0 stdout:"hi joe\n"`)
	if got := c.exec(id, "4", "query", "1/0"); !strings.HasPrefix(got, `finished 0 stderr:"Traceback`) || !strings.Contains(got, "ZeroDivisionError: division by zero") {
		t.Error(got)
	}
	c.check(c.exec(id, "5", "query", "import os; print(os.environ.get('AGENTS_SECRET'), os.environ['USERS'], os.environ['HOME'] == os.getcwd(), os.getuid() != 0, sorted(os.listdir('.')))"),
		`finished 0 stdout:"None yes True True ['.deep', '.myrc', '.ssh', 'boot.txt', 'bootstrap.sh', 'id_container']\n"`)
	c.check(c.exec(id, "6", "batch", "", callosum.Entry{Key: "clean", Value: nil}, callosum.Entry{Key: "build", Value: "echo building"}, callosum.Entry{Key: "exec", Value: "echo out; echo err >&2; exit 3"}), "clean-finished 0")
	c.check(c.exec(id, "6", "continue", ""), `build-finished 0 stdout:"building\n"`)
	c.check(c.exec(id, "6", "continue", ""), `finished 3 stdout:"out\n" stderr:"err\n"`)

	if got := c.exec(id, "m", "query", "big = bytearray(600 << 20)"); !strings.Contains(got, "MemoryError") && !strings.HasPrefix(got, "finished 137") {
		t.Error("memory without limit: " + got)
	}

	run := "v1"
	v1 := must(c, callosum.Execute{KernelID: id.String(), APIVersion: 1, Mode: "query", Code: "print(1)"})
	if v1.V1 == nil || v1.V1.Stdout != "1\n" || len(v1.RunID) != 32 {
		t.Errorf("version 1: %+v", v1)
	}
	flush := 0.2
	slow := callosum.Execute{KernelID: id.String(), APIVersion: 2, RunID: &run, Mode: "query", Code: "import time; print('go'); time.sleep(1000)", FlushTimeout: &flush}
	if r := must(c, slow); r.Status != "continued" || r.ExitCode != nil {
		t.Errorf("%+v", r)
	}
	must(c, callosum.InterruptKernel{KernelID: id.String()})
	if got := c.exec(id, run, "continue", ""); !strings.Contains(got, "KeyboardInterrupt") {
		t.Error(got)
	}
	if r := must(c, callosum.GetCompletions{KernelID: id.String(), Text: "prin"}); len(r.Completions) != 1 || !strings.HasPrefix(r.Completions[0], "print") {
		t.Error(r)
	}

	files(c, id)
	logs := must(c, callosum.GetLogs{KernelID: id.String()}).Logs
	for _, want := range []string{"Kernel started at: ", "booted\n", "hello\n", "ZeroDivisionError", "err\n"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if r := must(c, callosum.StartService{KernelID: id.String(), Service: "http-server"}); r.Status != "started" {
		t.Error(r)
	}
	if r := must(c, callosum.StartService{KernelID: id.String(), Service: "nope"}); r.Status != "failed" || r.Error != "invalid service name" {
		t.Error(r)
	}
	must(c, callosum.ShutdownService{KernelID: id.String(), Service: "http-server"})

	before := res.ContainerID
	restarted := must(c, callosum.RestartKernel{CreationID: "again", SessionID: id.String(), KernelID: id.String()})
	if restarted.ContainerID == before || len(restarted.ServicePorts) != len(res.ServicePorts) {
		t.Errorf("%+v", restarted)
	}
	c.check(c.exec(id, "7", "query", "'x' in globals(), open('boot.txt').read()"), `finished 0 stdout:"(False, '1\\n')\n"`)
	c.exec(id, "8", "query", "import os; os.system('setsid sleep 1000 >/dev/null 2>&1 &');")

	must(c, callosum.DestroyKernel{KernelID: id.String(), Reason: "test-over"})
	c.check(c.kernelEvents(id), "preparing creating started started logs terminated(test-over)")
	chunks, err := c.redis.DB(4).List("containerlog." + restarted.ContainerID)
	if err != nil || !strings.Contains(strings.Join(chunks, ""), "hello\n") {
		t.Error("no log in Redis", err)
	}
	if left := c.processes(); len(left) > 0 && strings.Contains(strings.Join(left, "\n"), "sleep") {
		t.Errorf("processes are left: %v", left)
	}
	if left := c.kernelFolders(); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
	must(c, callosum.DestroyKernel{KernelID: id.String()})
	c.await("the report of an unknown kernel", func(e event.Event) bool {
		k, ok := e.(event.KernelTerminated)
		return ok && k.Kernel == id && k.Reason == "already-terminated"
	})
	if _, err := call(c, callosum.GetLogs{KernelID: id.String()}); err == nil || err.Error() != "KeyError(UUID('"+id.String()+"'))" {
		t.Error(err)
	}
	if _, err := call(c, callosum.GetLogs{KernelID: "not-a-uuid"}); err == nil || err.Error() != "ValueError('badly formed hexadecimal UUID string')" {
		t.Error(err)
	}
	if _, err := call(c, callosum.Execute{KernelID: id.String(), APIVersion: 3, Mode: "query"}); nameOf(err) != "RuntimeError" {
		t.Error(err)
	}
}

func files(c *cluster, id backendai.KernelID) {
	c.Helper()
	must(c, callosum.UploadFile{KernelID: id.String(), Filename: "src/up.txt", Data: []byte("hello\n")})
	if _, err := call(c, callosum.UploadFile{KernelID: id.String(), Filename: "../../x", Data: nil}); nameOf(err) != "PermissionError" {
		c.Error(err)
	}
	c.check(c.exec(id, "f", "query", "f = open('src/up.txt', 'a'); f.write('more\\n'); f.close()"), "finished 0")
	raw := must(c, callosum.DownloadFile{KernelID: id.String(), Path: "src/up.txt"})
	r := tar.NewReader(bytes.NewReader(raw))
	head, err := r.Next()
	if err != nil || head.Name != "up.txt" {
		c.Error(head, err)
	}
	if text, _ := io.ReadAll(r); string(text) != "hello\nmore\n" {
		c.Errorf("%q", text)
	}
	if list := must(c, callosum.ListFiles{KernelID: id.String(), Path: "src"}); !strings.Contains(list.Files, `"size": 11`) || list.Errors != "" {
		c.Error(list)
	}
	if _, err := call(c, callosum.ListFiles{KernelID: id.String(), Path: "/etc"}); err == nil || err.Error() != "PermissionError('You cannot list files outside /home/work')" {
		c.Error(err)
	}
}

func TestShellAndFolders(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	folder := filepath.Join(t.TempDir(), "folder")
	os.Mkdir(folder, 0o755)
	for p := folder; p != "/tmp"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	os.Chmod(folder, 0o777)
	os.WriteFile(filepath.Join(folder, "data"), []byte("d\n"), 0o644)
	id, res := c.create(images.RuntimeShell, func(k *callosum.KernelCreationConfig) {
		k.Mounts = []callosum.Mount{{Name: "v", HostPath: folder, KernelPath: "/home/work/v", Perm: "rw"}}
	})
	if len(res.ResourceSpec.Mounts) != 1 || res.ResourceSpec.Mounts[0] != folder+":/home/work/v:rw" {
		t.Error(res.ResourceSpec.Mounts)
	}
	c.check(c.exec(id, "1", "query", "x=1; cat v/data; echo w >v/new; ls ~"), `finished 0 stdout:"d\nv\n"`)
	c.check(c.exec(id, "2", "query", "echo $x; false"), `finished 1 stdout:"1\n"`)
	if text, err := os.ReadFile(filepath.Join(folder, "new")); string(text) != "w\n" {
		t.Error("the folder was not written to", err)
	}
	if list := must(c, callosum.ListFiles{KernelID: id.String(), Path: "v"}); !strings.Contains(list.Files, `"data"`) {
		t.Error(list)
	}
	must(c, callosum.DestroyKernel{KernelID: id.String()})
	if _, err := os.Stat(filepath.Join(folder, "data")); err != nil {
		t.Error("the folder's content is gone with the kernel")
	}
}

func TestKilledAgentFindsItsKernels(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id, res := c.create(images.RuntimePython, func(k *callosum.KernelCreationConfig) { k.ResourceSlots["mem"] = "100000000" })
	c.exec(id, "1", "query", "x = 'kept'")
	flush := 0.1
	run := "2"
	must(c, callosum.Execute{KernelID: id.String(), APIVersion: 3, RunID: &run, Mode: "query", Code: "a = input('? ')\nprint(x, a)", FlushTimeout: &flush})
	dead, _ := c.create(images.RuntimeShell, func(k *callosum.KernelCreationConfig) { k.ResourceSlots["cpu"] = "0" })
	hosts := c.hosts()
	if len(hosts) != 2 {
		t.Fatal(hosts)
	}
	c.stop(syscall.SIGKILL)
	for _, pid := range hosts {
		if raw, _ := os.ReadFile("/proc/" + itoa(pid) + "/cmdline"); bytes.Contains(raw, []byte(dead.String())) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	c.start()
	c.check(c.exec(id, "2", "input", "later"), `finished 0 stdout:"kept later\n"`)
	c.terminated(dead)
	if got := c.kernelEvents(dead); !strings.HasSuffix(got, "logs terminated(self-terminated)") {
		t.Error(got)
	}
	again := must(c, c.creation(id, images.RuntimePython, nil))[0] // joins
	if again.ContainerID != res.ContainerID || len(again.ServicePorts) != len(res.ServicePorts) || again.ServicePorts[0].HostPorts[0] != res.ServicePorts[0].HostPorts[0] {
		t.Errorf("%+v\n%+v", res, again)
	}
	c.check(c.kernelEvents(id), "preparing creating started")

	// What the kernel holds is still held.
	other := backendai.NewKernelID()
	if _, err := call(c, c.creation(other, images.RuntimePython, func(k *callosum.KernelCreationConfig) { k.ResourceSlots["mem"] = "9000000000000000" })); nameOf(err) != "InsufficientResource" {
		t.Error(err)
	}

	// An interrupt leaves kernels as well; a kernel that dies under the new agent's eyes is reported.
	c.stop(syscall.SIGINT)
	c.start()
	hosts = c.hosts()
	if len(hosts) != 1 {
		t.Fatal(hosts)
	}
	syscall.Kill(hosts[0], syscall.SIGKILL)
	c.terminated(id)
	c.check(c.kernelEvents(id), "preparing creating started logs terminated(self-terminated)")
}

func TestBatchSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	batch := func(command string) backendai.KernelID {
		id, _ := c.create(images.RuntimePython, func(k *callosum.KernelCreationConfig) {
			k.SessionType, k.StartupCommand, k.ResourceSlots = "batch", &command, map[string]string{"cpu": "0", "mem": "100000000"}
		})
		return id
	}
	outcome := func(id backendai.KernelID) string {
		c.Helper()
		c.seen = 0
		c.await("the end of a batch session", func(e event.Event) bool {
			switch e := e.(type) {
			case event.SessionSuccess:
				return e.Session == backendai.SessionID(id)
			case event.SessionFailure:
				return e.Session == backendai.SessionID(id)
			}
			return false
		})
		text := c.kernelEvents(id)
		return text[strings.LastIndexByte(text, ' ')+1:]
	}
	c.check(outcome(batch("echo works")), "success(task-done,0)")
	c.check(outcome(batch("exit 7")), "failure(task-failed,7)")

	// The agent dies while the command runs, and the next one reports its end.
	id := batch("while [ ! -f done ]; do sleep 0.05; done; exit 4")
	c.stop(syscall.SIGKILL)
	c.start()
	must(c, callosum.UploadFile{KernelID: id.String(), Filename: "done"})
	c.check(outcome(id), "failure(task-failed,4)")
}

func TestCreationIsIdempotentAndFenced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id := backendai.NewKernelID()
	q := c.creation(id, images.RuntimePython, nil)
	fence := callosum.Fence{Shard: 3, Epoch: 5}
	var wait sync.WaitGroup
	results := make([]string, 5)
	for i := range results {
		wait.Go(func() {
			r, err := callosum.InvokeContext(c.within(30*time.Second), c.client, c.peer, q, fence)
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = r[0].ContainerID
		})
	}
	wait.Wait()
	for _, r := range results {
		if r != results[0] {
			t.Error(results)
		}
	}
	if hosts := c.hosts(); len(hosts) != 1 {
		t.Error(hosts)
	}
	c.check(c.kernelEvents(id), "preparing creating started")
	stale := func() {
		t.Helper()
		_, err := callosum.InvokeContext(c.within(30*time.Second), c.client, c.peer, callosum.DestroyKernel{KernelID: id.String()}, callosum.Fence{Shard: 3, Epoch: 4})
		if nameOf(err) != "StaleEpoch" {
			t.Error(err)
		}
		other := c.creation(backendai.NewKernelID(), images.RuntimePython, nil)
		other.Configs[0].InternalData = &callosum.InternalData{Fence: callosum.Fence{Shard: 3, Epoch: 4}}
		if _, err := call(c, other); nameOf(err) != "StaleEpoch" {
			t.Error(err)
		}
	}
	stale()
	c.stop(syscall.SIGINT)
	c.start()
	stale()

	// Destroyed while it is being created, by two at once: one end, and nothing left.
	id = backendai.NewKernelID()
	script := "sleep 1000"
	created := make(chan error)
	go func() {
		_, err := call(c, c.creation(id, images.RuntimeShell, func(k *callosum.KernelCreationConfig) { k.BootstrapScript, k.ResourceSlots["cpu"] = &script, "0" }))
		created <- err
	}()
	c.await("kernel_creating", func(e event.Event) bool { k, ok := e.(event.KernelCreating); return ok && k.Kernel == id })
	for range 2 {
		wait.Go(func() { must(c, callosum.DestroyKernel{KernelID: id.String(), Reason: "changed-mind"}) })
	}
	wait.Wait()
	if err := <-created; err == nil {
		t.Error("created all the same")
	}
	c.await("kernel_terminated", func(e event.Event) bool {
		k, ok := e.(event.KernelTerminated)
		return ok && k.Kernel == id && k.Reason == "changed-mind"
	})
	c.check(strings.ReplaceAll(c.kernelEvents(id), " terminated(already-terminated)", ""), "preparing creating terminated(changed-mind)")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for want, change := range map[string]func(*callosum.KernelCreationConfig){
		"ImageNotAvailable":    func(k *callosum.KernelCreationConfig) { k.Image.Canonical = "cr.backend.ai/stable/nope:1" },
		"AgentError":           func(k *callosum.KernelCreationConfig) { k.Image.Architecture = "riscv64" },
		"UnsupportedResource":  func(k *callosum.KernelCreationConfig) { k.ResourceSlots["cuda.shares"] = "1" },
		"InsufficientResource": func(k *callosum.KernelCreationConfig) { k.ResourceSlots["cpu"] = "5000" },
		"KeyError":             func(k *callosum.KernelCreationConfig) { k.Image.Labels = map[string]string{} },
		"RuntimeError": func(k *callosum.KernelCreationConfig) {
			k.Mounts = []callosum.Mount{{Name: "v", HostPath: "/nonexistent", KernelPath: "/home/work/v"}}
		},
	} {
		id := backendai.NewKernelID()
		_, err := call(c, c.creation(id, images.RuntimePython, change))
		if want == "RuntimeError" && err == nil { // links to nowhere, where there are no mounts
			must(c, callosum.DestroyKernel{KernelID: id.String()})
			continue
		}
		if nameOf(err) != want {
			t.Errorf("%s: %v", want, err)
		}
		if got := c.kernelEvents(id); strings.Contains(got, "terminated") {
			t.Error(got)
		}
	}
	if _, err := call(c, callosum.NetworkCall{Verb: callosum.DestroyLocalNetwork, Name: "x"}); err == nil || err.Error() != "DockerError(404, 'network x not found')" {
		t.Error(err)
	}
	must(c, callosum.NetworkCall{Verb: callosum.CreateLocalNetwork, Name: "x"})
	must(c, callosum.NetworkCall{Verb: callosum.DestroyLocalNetwork, Name: "x"})
	c.await("agent_error", func(e event.Event) bool {
		a, ok := e.(event.AgentError)
		return ok && strings.HasPrefix(a.Message, "DockerError: ")
	})
}

func TestAnnouncementsAndStatistics(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ctx := c.within(time.Minute)
	for key, want := range map[string]string{"nodes/agents/i-test/ip": "127.0.0.1"} {
		if v, ok, err := c.dir.Get(ctx, key, shared.Global); v != want || !ok || err != nil {
			t.Error(key, v, err)
		}
	}
	must(c, callosum.UpdateScalingGroup{ScalingGroup: "moved"})
	e := c.await("a heartbeat of the new group", func(e event.Event) bool {
		h, ok := e.(event.AgentHeartbeat)
		return ok && h.Info.ScalingGroup == "moved"
	}).(event.AgentHeartbeat)
	if e.Info.Version != Version || len(e.Info.Images) == 0 || len(e.Info.Slots) != 2 || e.Info.Architecture != images.Architecture() || e.Info.ComputePlugins.Text("x") != "" {
		t.Errorf("%+v", e)
	}
	id, _ := c.create(images.RuntimePython, nil)
	c.await("statistics", func(e event.Event) bool { _, ok := e.(event.DoSyncKernelStats); return ok })
	for _, key := range []string{id.String(), "i-test"} {
		raw, err := c.redis.DB(0).Get(key)
		if err != nil {
			t.Fatal(key, err)
		}
		v, err := callosum.DecodeValue([]byte(raw))
		if m, ok := v.(callosum.Map); err != nil || !ok || len(m) == 0 {
			t.Error(key, v, err)
		}
	}
	c.stop(syscall.SIGTERM)
	c.check(c.kernelEvents(id), "preparing creating started logs terminated(agent-termination)")
	all := c.events()
	if last, ok := all[len(all)-1].(event.AgentTerminated); !ok || last.Reason != "shutdown" {
		t.Errorf("last event %+v", all[len(all)-1])
	}
}

// The other degrees of isolation, which machines with fewer permissions fall back to.
func TestWeakerIsolation(t *testing.T) {
	t.Parallel()
	for _, degree := range []string{"mounts", "process"} {
		t.Run(degree, func(t *testing.T) {
			c := newCluster(t, "--isolation", degree)
			folder := t.TempDir()
			for p := folder; p != "/tmp"; p = filepath.Dir(p) {
				os.Chmod(p, 0o755)
			}
			os.WriteFile(filepath.Join(folder, "data"), []byte("d"), 0o644)
			id, _ := c.create(images.RuntimePython, func(k *callosum.KernelCreationConfig) {
				k.Mounts = []callosum.Mount{{Name: "v", HostPath: folder, KernelPath: "/home/work/v", Perm: "ro"}}
			})
			c.check(c.exec(id, "1", "query", "import os; print(open('v/data').read(), os.getcwd() == os.environ['HOME'], os.getuid() != 0, os.environ.get('AGENTS_SECRET'))"), `finished 0 stdout:"d True True None\n"`)
			c.exec(id, "2", "query", "os.system('setsid sh -c \"sleep 1000 & sleep 1000\" &');")
			c.stop(syscall.SIGKILL)
			c.start()
			c.check(c.exec(id, "3", "query", "id"), `finished 0 stdout:"<built-in function id>\n"`)
			must(c, callosum.DestroyKernel{KernelID: id.String()})
			if left := c.hosts(); len(left) > 0 {
				t.Error(left)
			}
		})
	}
}
