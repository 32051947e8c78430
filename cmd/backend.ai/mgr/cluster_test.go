package mgr

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/redis/redistest"
)

// member starts a manager of the site's cluster by its command line, which ends with the test, and returns where its API is.
func member(t *testing.T, dir, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	root := console.Group("backend.ai", "", Command())
	console.Prepare(root)
	errs := &watched{wanted: "started handling API requests", seen: make(chan struct{})}
	root.SetErr(errs)
	root.SetArgs([]string{"mgr", "start-server", "-f", memberConfig(t, dir, name, addr, "")})
	ended := make(chan int, 1)
	go func() { ended <- console.Execute(ctx, root) }()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 || t.Failed() {
			t.Errorf("%s: exit code %d\n%s", name, code, errs)
		}
	})
	select {
	case <-errs.seen:
	case code := <-ended:
		ended <- code
		t.Fatalf("%s does not start", name)
	case <-time.After(time.Minute):
		t.Fatalf("%s does not get ready", name)
	}
	return addr
}

// memberConfig is the site's configuration with a node's own part.
func memberConfig(t *testing.T, dir, name, addr, actors string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "manager.toml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name+".toml")
	more := fmt.Sprintf("[manager]\nid = %q\nservice-addr = %q\n[actors]\nlease = 2\nshards = 8\n%s\n", name, addr, actors)
	if err := os.WriteFile(file, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCluster(t *testing.T) {
	dir := site(t, dbtest.Config(t), etcdtest.New(t).Endpoint)
	if code, _, errs := command(t, "", "mgr", "etcd", "put", "config/redis/addr", redistest.New(t).Addr()); code != 0 {
		t.Fatal(errs)
	}
	type node struct {
		Name, ID, Address, API, Version, State string
		StartedAt                              time.Time `json:"started_at"`
		Claimed, Owned                         int
	}
	status := func() (nodes map[string]node, unclaimed int) {
		t.Helper()
		code, out, errs := command(t, "", "mgr", "cluster", "status", "--format", "json")
		if code != 0 || errs != "" {
			t.Fatal(code, errs)
		}
		var doc struct {
			Nodes     []node
			Shards    []json.RawMessage
			Unclaimed int
		}
		if err := json.Unmarshal([]byte(out), &doc); err != nil {
			t.Fatal(err, out)
		}
		nodes = map[string]node{}
		for _, n := range doc.Nodes {
			nodes[n.Name] = n
		}
		return nodes, doc.Unclaimed
	}
	await := func(what string, ok func(map[string]node, int) bool) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
			nodes, unclaimed := status()
			if ok(nodes, unclaimed) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; %+v", what, nodes)
			}
		}
	}
	if code, out, errs := command(t, "", "mgr", "cluster", "status"); code != 0 || errs != "" || !strings.HasPrefix(out, "NODE ") {
		t.Errorf("before the first start: %d %q %q", code, out, errs)
	}
	api := map[string]string{"m1": member(t, dir, "m1"), "m2": member(t, dir, "m2")}
	await("both have shards", func(nodes map[string]node, unclaimed int) bool {
		a, b := nodes["m1"], nodes["m2"]
		return unclaimed == 0 && a.Claimed > 0 && b.Claimed > 0 && a.Claimed+b.Claimed == 8 && a.Owned == a.Claimed && b.Owned == b.Claimed
	})
	nodes, _ := status()
	for name, n := range nodes {
		if n.State != "live" || n.API != api[name] || n.Address == "" || n.Version == "" || !strings.HasPrefix(n.ID, name+"-") || time.Since(n.StartedAt) > time.Minute {
			t.Errorf("%+v", n)
		}
	}
	_, out, _ := command(t, "", "mgr", "cluster", "status")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !regexp.MustCompile(`^m1 +live +\d +\d +127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ +\S+ +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`).MatchString(lines[1]) {
		t.Errorf("on a console:\n%s", out)
	}
	silent := func(args ...string) {
		t.Helper()
		if code, out, errs := command(t, "", append([]string{"mgr", "cluster"}, args...)...); code != 0 || out+errs != "" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	silent("drain", "m1")
	await("m1 is drained", func(nodes map[string]node, unclaimed int) bool {
		return nodes["m1"].State == "drained" && nodes["m1"].Owned == 0 && nodes["m2"].Owned == 8 && unclaimed == 0
	})
	silent("undrain", "m1")
	await("m1 has shards again", func(nodes map[string]node, _ int) bool { return nodes["m1"].State == "live" && nodes["m1"].Owned > 0 })
	for what, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"an unknown node": {[]string{"mgr", "cluster", "drain", "m9"}, `"m9"`, 1},
		"no node":         {[]string{"mgr", "cluster", "drain"}, "accepts 1 arg", 2},
		"a second m1":     {[]string{"mgr", "start-server", "-f", memberConfig(t, dir, "m1", "127.0.0.1:1", "")}, "has the name of this one: give every node of a cluster a name of its own.", 1},
		"another secret": {[]string{"mgr", "start-server", "-f", memberConfig(t, dir, "m3", "127.0.0.1:1", `cluster-secret = "nobody else has this"`)},
			"Error: This node can't join the cluster: the live node", 1},
	} {
		code, out, errs := command(t, "", c.args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || strings.Contains(errs, "nobody else") {
			t.Errorf("%s: exit code %d, %q, want %d and %q", what, code, errs, c.code, c.want)
		}
	}
	if after, unclaimed := status(); unclaimed != 0 || len(after) != 2 || cmp.Diff(nodes["m2"].ID, after["m2"].ID) != "" {
		t.Errorf("after the refusals: %+v", after)
	}
}
