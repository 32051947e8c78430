package shared

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
	"backend.ai/manager/config/shared/etcdtest"
)

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{"myhost:5000": "myhost%3A5000", "a/b c": "a%2Fb%20c", "index.docker.io": "index.docker.io", "~é": "~%C3%A9"} {
		if got := Quote(text); got != want || Unquote(got) != text {
			t.Error(text, got, Unquote(got))
		}
	}
	if Unquote("100%") != "100%" || Unquote("%zz%3a") != "%zz:" {
		t.Error(Unquote("100%"), Unquote("%zz%3a"))
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if Unquote(Quote(s)) != strings.ToValidUTF8(s, "\uFFFD") {
			t.Fatal(s)
		}
	})
}

// prefixRead is a model of etcd's own answer to a prefix read.
func prefixRead(keys map[string]string, prefix string) (pairs []Pair) {
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if strings.HasPrefix(k, prefix) {
			pairs = append(pairs, Pair{k, keys[k]})
		}
	}
	return pairs
}

func TestTree(t *testing.T) {
	keys := map[string]string{
		"config/docker/registry/cr.example": "https://cr.example", "config/docker/registry/cr.example/type": "harbor2",
		"config/redis/addr": "a", "config/redisfoo/x": "y", "config/redis": "own", "n/a%3A1/": "running", "c/foo/x": "1", "cfoo": "2",
	}
	for prefix, want := range map[string]string{
		"config/docker": `{"registry":{"cr.example":{"":"https://cr.example","type":"harbor2"}}}`,
		"config/redis":  `{"":"own","addr":"a","foo":{"x":"y"}}`,
		"n":             `{"a:1":{"":"running"}}`,
		"c/":            `{"foo":{"x":"1"}}`,
		"cf":            `{"oo":"2"}`,
		"nothing":       `{}`,
		"config/redis/": `{"addr":"a"}`,
	} {
		got, err := json.Marshal(NewTree(prefix, prefixRead(keys, prefix)))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v", prefix, got, err)
		}
	}
	// A child before its parent's value can only come from a partial prefix.
	if got, _ := json.Marshal(NewTree("c", []Pair{{"c/foo/x", "1"}, {"cfoo", "2"}})); string(got) != `{"foo":{"x":"1","":"2"}}` {
		t.Error(string(got))
	}
	tree := NewTree("config", prefixRead(keys, "config"))
	if v := tree.Text("none", "docker", "registry", "cr.example"); v != "https://cr.example" || tree.Text("none", "x", "y") != "none" || tree.Empty() {
		t.Error(v)
	}
}

func TestFlatten(t *testing.T) {
	var v any
	if err := json.Unmarshal([]byte(`{"a": {"": "own", "b:1": true, "n": 1.5, "i": 3, "l": ["x", 2]}}`), &v); err != nil {
		t.Fatal(err)
	}
	got, err := Flatten("config", v)
	want := []Pair{{"config/a", "own"}, {"config/a/b%3A1", "true"}, {"config/a/i", "3"}, {"config/a/l", "x,2"}, {"config/a/n", "1.5"}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(d, err)
	}
	if got, err := Flatten("", v); err != nil || got[0].Key != "a" {
		t.Error(got, err)
	}
	for _, bad := range []any{map[string]any{"a": nil}, map[string]any{"a": []any{map[string]any{}}}, map[string]any{"": "x"}} {
		if _, err := Flatten("", bad); backendai.CodeOf(err) != backendai.InvalidArgument {
			t.Error(bad, err)
		}
	}
}

// goldenTree is what the original managers and agents had in etcd.
func goldenTree(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/etcd-tree.json")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestGoldenView(t *testing.T) {
	keys := map[string]string{}
	for k, v := range goldenTree(t) {
		keys[strings.TrimPrefix(k, "/sorna/local/")] = v
	}
	s, fatal := view(keys, 1)
	if len(fatal)+len(s.Warnings) != 0 {
		t.Error(fatal, s.Warnings)
	}
	slot, ok := s.Slots.Type("cuda.shares")
	got := fmt.Sprintln(s.AutoPull, s.Registries["127.0.0.1:5000"], s.Redis.Addr, s.Idle.Enabled, s.Idle.Timeout.Exact, slot, ok, s.Network.AgentSubnet, s.Status, s.Volumes)
	want := "tag {http://127.0.0.1:5000 docker   [] false} 127.0.0.1:8310 [timeout] 1h0m0s count true 127.0.0.0/8 running " +
		"{local:volume1 map[local:{http://127.0.0.1:6021 http://127.0.0.1:6022 *** false}] true true  local /}\n"
	if got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func TestViewProblems(t *testing.T) {
	s, fatal := view(map[string]string{
		"config/redis/addr": "nowhere", "config/system/timezone": "Mars/Olympus", "config/docker/image/auto_pull": "sometimes", "config/docker/registry/x/type": "docker",
		"config/docker/registry/bare": "https://bare", "config/network/subnet/agent": "10.1.2.3/8", "config/network/overlay/mtu": "0", "config/resource_slots/odd": "litres",
		"config/idle/enabled": "timeout, coffee", "volumes/proxies/p/secret": "s3cr3t", "config/redis/password": "", "config/plugins/scheduler/fifo": "bare",
	}, 1)
	if got := config.Invalid("etcd", fatal); backendai.ExitCode(got) == 0 || got.Error() != `invalid-config: etcd: config/redis/addr = "nowhere" must be an address "host:port" with a port from 1 to 65535` {
		t.Error(got)
	}
	var named []string
	for _, p := range s.Warnings {
		named = append(named, p.Key)
		if strings.Contains(p.String(), "s3cr3t") {
			t.Error(p)
		}
	}
	if d := cmp.Diff([]string{"config/system/timezone", "config/docker/image/auto_pull", "config/docker/registry/x", "config/idle/enabled", "config/resource_slots/odd",
		"config/network/overlay/mtu", "volumes/proxies/p"}, named); d != "" {
		t.Error(d)
	}
	if s.Registries["bare"].URL != "https://bare" || s.Network.AgentSubnet.String() != "10.0.0.0/8" || s.Timezone != time.UTC || s.AutoPull != backendai.PullByDigest || !s.Redis.Password.IsZero() ||
		s.Plugin("scheduler", "fifo").Text("") != "bare" || !s.Tree("config/red").Empty() {
		t.Errorf("%+v", s)
	}
	_, fatal = view(map[string]string{"config/redis/sentinel": "a:1,b:2"}, 1)
	if len(fatal) != 1 || fatal[0].String() != "config/redis/service_name is required when config/redis/sentinel is set" {
		t.Error(fatal)
	}
}

func newClient(t *testing.T, s *etcdtest.Server, ns string) *Client {
	return New(s.Client(), Config{Namespace: ns, ScalingGroup: "gpu", Agent: "i-1", Timeout: 20 * time.Second})
}

func TestClient(t *testing.T) {
	server, ctx := etcdtest.New(t), t.Context()
	c := newClient(t, server, "local")
	for key, value := range goldenTree(t) {
		if _, err := c.etcd.Put(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := c.GetPrefix(ctx, "config/docker", Global)
	got, _ := json.Marshal(tree)
	if want := `{"image":{"auto_pull":"tag"},"registry":{"127.0.0.1:5000":{"":"http://127.0.0.1:5000","ssl-verify":"false","type":"docker"}}}`; err != nil || string(got) != want {
		t.Error(string(got), err)
	}
	put := func(key, value string, scope Scope) {
		t.Helper()
		if _, err := c.Put(ctx, key, value, scope); err != nil {
			t.Fatal(err)
		}
	}
	get := func(key string, scope Scope) string {
		t.Helper()
		v, ok, err := c.Get(ctx, key, scope)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(v, ok)
	}
	put("s/a", "global", Global)
	put("/s/m/x", "global", Global)
	put("s/m/y", "global", Global)
	put("s/a", "group", ScalingGroup)
	put("s/m/x", "node", Node)
	put("s/e", "", Node)
	if a, b, e, raw := get("s/a", Merged), get("s/a", Global), get("s/e", Merged), get("sgroup/gpu/s/a", Global); a != "grouptrue" || b != "globaltrue" || e != "true" || raw != "grouptrue" {
		t.Error(a, b, e, raw)
	}
	tree, err = c.GetPrefix(ctx, "s/", Merged) // "s" would also match "sgroup/…"
	if got, _ := json.Marshal(tree); err != nil || string(got) != `{"a":"group","m":{"x":"node"},"e":""}` {
		t.Error(string(got), err)
	}
	if _, err := c.Put(ctx, "x", "y", Merged); backendai.CodeOf(err) != backendai.InvalidArgument {
		t.Error(err)
	}
	many := map[string]any{}
	for i := range 300 {
		many[fmt.Sprintf("k:%d", i)] = i
	}
	if _, err := c.PutPrefix(ctx, "a/redis", many, Global); err != nil {
		t.Fatal(err)
	}
	put("a/redis0", "neighbour", Global)
	if _, err := c.DeletePrefix(ctx, "a/redis/", Global); err != nil || get("a/redis/k%3A7", Global) != "false" || get("a/redis0", Global) != "neighbourtrue" {
		t.Error(err)
	}
	if done, err := c.Replace(ctx, "s/a", "global", "new", Global); !done || err != nil {
		t.Error(done, err)
	}
	if done, err := c.Replace(ctx, "s/a", "global", "newer", Global); done || err != nil || get("s/a", Global) != "newtrue" {
		t.Error(done, err)
	}
	if err := c.MoveSubtree(ctx, "s", "moved", Global); err != nil || get("s/a", Global) != "false" || get("moved/m/y", Global) != "globaltrue" {
		t.Error(err)
	}
	if err := c.MoveSubtree(ctx, "moved", "moved/in", Global); backendai.CodeOf(err) != backendai.InvalidArgument {
		t.Error(err)
	}
	if _, err := c.Delete(ctx, "moved/a", Global); err != nil || get("moved/a", Global) != "false" {
		t.Error(err)
	}
	server.Stop()
	_, err = Open(ctx, Config{Endpoints: []string{server.Endpoint}, Namespace: "local", Timeout: 200 * time.Millisecond})
	if backendai.CodeOf(err) != backendai.ServiceUnavailable || !strings.Contains(err.Error(), "etcd.addr = "+server.Endpoint+" does not answer") {
		t.Error(err)
	}
}

func TestSettingsFollow(t *testing.T) {
	server, ctx := etcdtest.New(t), t.Context()
	c := newClient(t, server, "follow")
	if _, err := c.Put(ctx, "config/redis/addr", "bad", Global); err != nil {
		t.Fatal(err)
	}
	if err := NewSettings(c, nil).Start(ctx); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "config/redis/addr", "r:1", Global); err != nil {
		t.Fatal(err)
	}
	s := NewSettings(c, nil)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	redis, status := s.Subscribe("config/redis"), s.Subscribe("manager/status")
	defer redis.Cancel()
	if err := s.Put(ctx, "manager/status", "frozen"); err != nil || s.Current().Status != Frozen {
		t.Fatal(err, s.Current().Status)
	}
	<-status.C
	select {
	case <-redis.C:
		t.Error("nothing below config/redis changed")
	default:
	}
	// A bad value leaves the good one; a mended one counts.
	if err := s.Put(ctx, "config/redis/addr", "worse"); err != nil || s.Current().Redis.Addr.Host != "r" || len(s.Current().Warnings) != 1 {
		t.Error(err, s.Current().Redis, s.Current().Warnings)
	}
	<-redis.C
	if err := s.Put(ctx, "config/redis/addr", "r2:1"); err != nil || s.Current().Redis.Addr.Host != "r2" || len(s.Current().Warnings) != 0 {
		t.Error(err, s.Current().Redis)
	}
	rev, err := c.DeletePrefix(ctx, "config/redis", Global)
	if err == nil {
		err = s.Wait(ctx, rev)
	}
	if err != nil || s.Current().Redis.Addr.Port != 6379 {
		t.Error(err, s.Current().Redis)
	}
	// etcd goes away: the last values stay, and what was changed by others meanwhile is seen afterwards.
	server.Stop()
	if s.Current().Status != Frozen {
		t.Error(s.Current().Status)
	}
	server.Start()
	if err := s.Put(ctx, "manager/status", "running"); err != nil || s.Current().Status != Running {
		t.Error(err, s.Current().Status)
	}
}

func TestSettingsSurviveCompaction(t *testing.T) {
	server, ctx := etcdtest.New(t), t.Context()
	c := newClient(t, server, "compact")
	s := NewSettings(c, nil)
	keys, old, err := s.list(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for i := range 5 {
		if last, err = c.Put(ctx, "config/idle/enabled", []string{"timeout", "utilization"}[i%2], Global); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.etcd.Compact(ctx, last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	// As after a long absence: the mirror is at a revision that etcd has thrown away.
	shared, _ := view(keys, old)
	s.raw, s.good = keys, keys
	s.current.Store(shared)
	sub := s.Subscribe("config/idle")
	var run context.Context
	run, s.cancel = context.WithCancel(ctx)
	go s.follow(run, old)
	defer s.Stop()
	if err := s.Wait(ctx, last); err != nil || !slices.Equal(s.Current().Idle.Enabled, []string{"timeout"}) {
		t.Error(err, s.Current().Idle)
	}
	<-sub.C
	if err := s.Put(ctx, "config/idle/enabled", "utilization"); err != nil || !slices.Equal(s.Current().Idle.Enabled, []string{"utilization"}) {
		t.Error(err, s.Current().Idle)
	}
}
