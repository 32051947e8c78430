package node

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/agent/resources"
	"backend.ai/manager/cmd/agent/sandbox"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func nameOf(err error) string {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return remote.Name
	}
	return ""
}

// Whatever comes in whatever order: once an epoch was admitted no lower one is, also after a restart.
func TestEpochsOnlyRise(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "epochs.json")
		os.Remove(path)
		e, err := openEpochs(path)
		if err != nil {
			t.Fatal(err)
		}
		high := map[uint32]uint64{}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				f := callosum.Fence{Shard: rapid.Uint32Range(0, 3).Draw(t, "shard"), Epoch: rapid.Uint64Range(0, 9).Draw(t, "epoch")}
				err := e.admit(f)
				if stale := f.Epoch < high[f.Shard] && !f.IsZero(); stale != (nameOf(err) == "StaleEpoch") || !stale && err != nil {
					t.Fatalf("%+v after %d: %v", f, high[f.Shard], err)
				}
				high[f.Shard] = max(high[f.Shard], f.Epoch)
			},
			"restart": func(t *rapid.T) {
				if e, err = openEpochs(path); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func TestShape(t *testing.T) {
	code := 0
	r := host.Result{RunID: "r", Status: host.StatusFinished, ExitCode: &code, Console: []host.Item{
		{Type: "stdout", Text: "o"}, {Type: "stderr", Text: "e"}, {Type: "html", Data: json.RawMessage(`"<b>"`)}, {Type: "media", Data: json.RawMessage(`["image/png","x"]`)}, {Type: "stdout", Text: "p"},
	}}
	two := shape(r, 2)
	want := [][]any{{"stdout", "o"}, {"stderr", "e"}, {"html", "<b>"}, {"media", []any{"image/png", "x"}}, {"stdout", "p"}}
	if diff := cmp.Diff(want, two.Console); diff != "" || two.V1 != nil || two.Options != nil {
		t.Error(diff)
	}
	one := shape(r, 1)
	if one.V1 == nil || one.V1.Stdout != "op" || one.V1.Stderr != "e" || len(one.V1.HTML) != 1 || len(one.V1.Media) != 1 || one.Console != nil {
		t.Errorf("%+v", one)
	}
	waiting := shape(host.Result{Status: host.StatusWaitingInput, IsPassword: true}, 3)
	if v, _ := waiting.Options.Get("is_password"); v != true || waiting.ExitCode != nil || waiting.Console == nil {
		t.Errorf("%+v", waiting)
	}
}

func testNode(t *testing.T) *Node {
	n, err := New(Config{
		ID: "i", ScratchRoot: t.TempDir(), BindHost: "127.0.0.1", PortLow: 38000, PortHigh: 38100, Pool: resources.NewPool([]int{0}, 1<<30), Logger: slog.New(slog.DiscardHandler),
		Account: sandbox.Account{UID: os.Getuid(), GID: os.Getgid()}, Isolation: sandbox.Process,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.lock.Close() })
	return n
}

func TestOneAgentPerScratchRoot(t *testing.T) {
	n := testNode(t)
	if _, err := New(n.config); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
}

func TestServicePorts(t *testing.T) {
	n := testNode(t)
	r := &record{KernelID: "k", Config: callosum.KernelCreationConfig{ClusterRole: "main", PreopenPorts: []int{38999},
		Image: callosum.ImageConfig{Labels: map[string]string{backendai.LabelServicePorts: "a:http:8081,b:tcp:[8090,8091]"}}}}
	if err := n.servicePorts(r); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.ServicePorts {
		got = append(got, p.Name+":"+p.Protocol)
		if len(p.HostPorts) != len(p.ContainerPorts) {
			t.Errorf("%+v", p)
		}
	}
	if want := []string{"38999:preopen", "a:http", "b:tcp", "sshd:tcp", "ttyd:http"}; !slices.Equal(got, want) {
		t.Error(got)
	}
	if r.ServicePorts[0].HostPorts[0] != 38999 {
		t.Error("a free pre-opened port has another number")
	}
	r.Config.ClusterRole = "sub"
	if err := n.servicePorts(r); err != nil || len(r.ServicePorts) != 0 {
		t.Error(r.ServicePorts, err)
	}
	r.Config.ClusterRole, r.Config.Image.Labels = "main", nil
	if err := n.servicePorts(r); nameOf(err) != "KeyError" {
		t.Error(err)
	}
}

func TestEnvironmentHasNothingOfTheAgents(t *testing.T) {
	t.Setenv("AGENTS_SECRET", "1")
	n := testNode(t)
	r := &record{KernelID: "k", Isolation: sandbox.Namespaces, Allocation: resources.Allocation{CPUs: []int{0, 1}}, Config: callosum.KernelCreationConfig{
		Environ: map[string]string{"A": "b=c", "BAD\x00": "x", "HOME2": "y", "TERM": "own"},
		Image:   callosum.ImageConfig{Labels: map[string]string{backendai.LabelCoreCountEnvs: "OMP_NUM_THREADS"}},
	}}
	env := n.environ(r, images.Image{Path: "/opt/py/bin/python3", Runtime: images.RuntimePython}, "/home/work", "/home/config")
	for _, want := range []string{"A=b=c", "HOME=/home/work", "OMP_NUM_THREADS=2", "TERM=own", "PATH=/home/config/bin:/opt/py/bin:" + sandbox.Path, "USER=work"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %v", want, env)
		}
	}
	for _, e := range env {
		if strings.Contains(e, "AGENTS_SECRET") || strings.Contains(e, "\x00") {
			t.Errorf("%q", e)
		}
	}
}

func TestRecordsSurvive(t *testing.T) {
	command := "run"
	r := &record{KernelID: "k", SessionID: "s", Config: callosum.KernelCreationConfig{StartupCommand: &command, ResourceOpts: callosum.Map{{Key: "shmem", Value: int64(5)}},
		InternalData: &callosum.InternalData{BlockServicePorts: true}}, Allocation: resources.Allocation{CPUs: []int{1}, MemBytes: 7},
		ServicePorts: []callosum.ServicePort{{Name: "a", ContainerPorts: []int{1}, HostPorts: []int{2}}}, PID: 5, Birth: 1 << 60}
	l := layout{filepath.Join(t.TempDir(), "k")}
	if err := l.make(sandbox.Account{UID: os.Getuid(), GID: os.Getgid()}); err != nil {
		t.Fatal(err)
	}
	if err := l.save(r); err != nil {
		t.Fatal(err)
	}
	got, err := l.load()
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	deep := filepath.Join(l.work(), "locked")
	os.Mkdir(deep, 0o755)
	os.WriteFile(filepath.Join(deep, "f"), nil, 0o600)
	os.Chmod(deep, 0)
	if err := l.remove(); err != nil {
		t.Error(err)
	}
}

func TestMergedConfig(t *testing.T) {
	c := callosum.KernelCreationConfig{ClusterRole: "main", Environ: map[string]string{"A": "1"}}
	got, err := merged(c, callosum.Map{{Key: "session_type", Value: "batch"}, {Key: "environ", Value: callosum.Map{{Key: "B", Value: "2"}}}})
	if err != nil || got.ClusterRole != "main" || got.SessionType != "batch" || got.Environ["B"] != "2" {
		t.Errorf("%+v %v", got, err)
	}
}
