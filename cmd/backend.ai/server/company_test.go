package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/cluster/membership"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
	"backend.ai/manager/test/ports"
)

const apiVersion = "v6.20220615"

// call makes a request that is signed by one of the capture's keys, or by nobody.
func (w *world) call(url, as, method, target, body string) (int, http.Header, string) {
	w.Helper()
	return w.send(w.signed(url, as, method, target, body))
}

func (w *world) signed(url, as, method, target, body string) *http.Request {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, url+target, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("X-BackendAI-Version", apiVersion)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if as != "" {
		m, err := signing.ParseMethod(signing.DefaultMethod)
		if err != nil {
			w.Fatal(err)
		}
		now := time.Now().UTC()
		date := now.Format("2006-01-02T15:04:05.000000+00:00")
		req.Header.Set("Date", date)
		req.Header.Set("Content-Type", "application/json")
		signature := signing.DeriveKey(m, golden.Keys[as].Secret, now.Format(signing.Day), req.URL.Host).Sign(
			signing.Subject{Method: method, Target: target, Date: date, Host: req.URL.Host, ContentType: "application/json", Version: apiVersion})
		req.Header.Set("Authorization", fmt.Sprintf("BackendAI signMethod=HMAC-SHA256, credential=%s:%s", golden.Keys[as].Access, signature))
	}
	return req
}

func (w *world) send(req *http.Request) (int, http.Header, string) {
	w.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func (w *world) json(url, as, target string) (doc map[string]any) {
	w.Helper()
	status, _, text := w.call(url, as, "GET", target, "")
	if status != http.StatusOK {
		w.Fatalf("GET %s: %d %s", target, status, text)
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		w.Fatalf("GET %s: %v in %s", target, err, text)
	}
	return doc
}

// eventually polls until the condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatal("does not come true: " + what)
		}
	}
}

// second is the configuration of one of several managers.
func (w *world) second(name string, lines ...string) *config.Manager {
	w.Helper()
	cfg := w.config(strings.Join(append([]string{fmt.Sprintf("node-name = %q\nlease = 2", name)}, lines...), "\n"))
	cfg.Service.ID = name
	_, port, _ := net.SplitHostPort(ports.Free())
	cfg.Service.Addr.Port, _ = strconv.Atoi(port)
	return cfg
}

// Two managers on one set of stores: each tells of both.
func TestTwoManagers(t *testing.T) {
	w := newStores(t)
	servers, urls := make([]*server.Server, 2), make([]string, 2)
	var starting sync.WaitGroup
	for i, name := range []string{"m1", "m2"} {
		cfg := w.second(name, "shards = 8")
		urls[i] = "http://" + cfg.Service.Addr.String()
		starting.Go(func() {
			var err error
			if servers[i], err = w.serve(cfg); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	w.startAgent(w.cache)
	w.eventually("both own shards", func() bool {
		v := servers[0].Node().View()
		return len(v.Members) == 2 && len(v.Claims) == 8 && len(v.Claimed(v.Members[0].ID)) > 0 && len(v.Claimed(v.Members[1].ID)) > 0
	})
	func() { // status
		node := func(i int) map[string]any {
			return map[string]any{"id": fmt.Sprintf("m%d", i+1), "num_proc": 1.0, "service_addr": strings.TrimPrefix(urls[i], "http://"), "heartbeat_timeout": 40.0, "ssl_enabled": false,
				"active_sessions": 0.0, "status": "running", "version": api.Release, "api_version": []any{6.0, "20220615"}}
		}
		want := map[string]any{"nodes": []any{node(0), node(1)}, "status": "running", "active_sessions": 0.0}
		for _, url := range urls {
			got := w.json(url, "user", "/manager/status")
			for _, n := range got["nodes"].([]any) { // these come from the machine and the file
				n := n.(map[string]any)
				if _, ok := n["num_proc"].(float64); !ok {
					t.Errorf("num_proc %v", n["num_proc"])
				}
				if _, ok := n["heartbeat_timeout"].(float64); !ok {
					t.Errorf("heartbeat_timeout %v", n["heartbeat_timeout"])
				}
				n["num_proc"], n["heartbeat_timeout"] = 1.0, 40.0
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		}
		if status, _, text := w.call(urls[0], "", "GET", "/manager/status", ""); status != http.StatusOK {
			t.Errorf("without a signature: %d %s", status, text)
		}
	}()
	func() { // announcement
		say := func(as, body string, want int) {
			t.Helper()
			if status, _, text := w.call(urls[0], as, "POST", "/manager/announcement", body); status != want {
				t.Errorf("%s says %s: %d %s", as, body, status, text)
			}
		}
		heard := func(enabled bool, message string) {
			t.Helper()
			if d := cmp.Diff(map[string]any{"enabled": enabled, "message": message}, w.json(urls[1], "", "/manager/announcement")); d != "" {
				t.Error(d)
			}
		}
		heard(false, "")
		say("user", `{"enabled": true, "message": "no"}`, http.StatusUnauthorized)
		say("admin", `{"enabled": true}`, http.StatusBadRequest)
		say("admin", `{"enabled": true, "message": ""}`, http.StatusBadRequest)
		heard(false, "")
		say("admin", `{"enabled": true, "message": "*down* at noon"}`, http.StatusNoContent)
		heard(true, "*down* at noon")
		say("admin", `{"enabled": false}`, http.StatusNoContent)
		heard(false, "")
	}()
	func() { // freeze
		set := func(as, body string, want int) {
			t.Helper()
			if status, _, text := w.call(urls[1], as, "PUT", "/manager/status", body); status != want {
				t.Errorf("%s says %s: %d %s", as, body, status, text)
			}
		}
		everywhere := func(want string) {
			t.Helper()
			for _, url := range urls {
				w.eventually("all are "+want, func() bool { return w.json(url, "", "/manager/status")["status"] == want })
			}
		}
		set("user", `{"status": "frozen"}`, http.StatusUnauthorized)
		set("admin", `{"status": "terminated"}`, http.StatusBadRequest)
		set("admin", `{"status": "frozen"}`, http.StatusNoContent)
		everywhere("frozen")
		set("admin", `{"status": "RUNNING", "force_kill": false}`, http.StatusNoContent)
		everywhere("running")
	}()
	func() { // cluster
		claims := map[string]float64{}
		acting := 0
		for i, url := range urls {
			doc := w.json(url, "admin", "/inspect/cluster")
			members := doc["members"].([]any)
			if doc["node"] != fmt.Sprintf("m%d", i+1) || doc["healthy"] != true || len(members) != 2 || len(doc["claims"].(map[string]any)) != 8 || len(doc["peers"].([]any)) != 1 {
				t.Errorf("%v", doc)
			}
			acting += len(doc["acting"].(map[string]any))
			for _, m := range members {
				m := m.(map[string]any)
				name := m["name"].(string)
				if before, ok := claims[name]; ok && before != m["claims"] || (m["self"] == true) != (name == doc["node"]) {
					t.Errorf("member %v, elsewhere with %v claims", m, before)
				}
				claims[name] = m["claims"].(float64)
			}
		}
		if acting != 8 || claims["m1"]+claims["m2"] != 8 {
			t.Errorf("%d shards are acted for, claims %v", acting, claims)
		}
		if status, _, _ := w.call(urls[0], "user", "GET", "/inspect/cluster", ""); status != http.StatusUnauthorized {
			t.Errorf("a user: %d", status)
		}
	}()
	func() { // actors
		for _, url := range urls {
			doc := w.json(url, "admin", "/inspect/actors?view=flat")
			if _, missing := doc["missing"]; missing {
				t.Errorf("missing %v", doc["missing"])
			}
			byNode, shards, agents := map[string]int{}, map[string]int{}, 0
			for _, a := range doc["actors"].([]any) {
				a := a.(map[string]any)
				node := a["node"].(string)
				byNode[node]++
				switch a["kind"] {
				case "shard":
					shards[node]++
				case "agent":
					agents++
				}
			}
			if len(byNode) != 2 || shards["m1"]+shards["m2"] != 8 || shards["m1"] == 0 || shards["m2"] == 0 || agents != 1 {
				t.Errorf("actors of %v, shards %v, %d agents", byNode, shards, agents)
			}
			if one := w.json(url, "admin", "/inspect/actors?kind=agent"); one["total"] != 1.0 {
				t.Errorf("%v agents", one["total"])
			}
		}
	}()
	func() { // drain
		ready := func(i int, status int, word string) bool {
			got, header, text := w.call(urls[i], "", "GET", "/health/ready", "")
			return got == status && text == fmt.Sprintf(`{"status": %q}`, word) && (status == http.StatusOK) == (header.Get("Retry-After") == "")
		}
		if !ready(0, 200, "ready") || !ready(1, 200, "ready") {
			t.Error("they are not ready")
		}
		if err := servers[0].Node().Draining(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		w.eventually("it says that it drains", func() bool { return ready(0, 503, "draining") })
		w.eventually("it has no shards", func() bool {
			o, err := servers[0].Node().Ownership(t.Context())
			return err == nil && len(o.Epochs) == 0
		})
		if !ready(1, 200, "ready") {
			t.Error("the other is not ready")
		}
		if status, _, text := w.call(urls[0], "", "GET", "/health/live", ""); status != 200 || text != `{"status": "live"}` {
			t.Errorf("live: %d %s", status, text)
		}
		w.eventually("it sees the other's shards", func() bool {
			return w.json(urls[0], "admin", "/inspect/actors?view=flat&kind=shard")["total"] == 8.0
		})
		if err := servers[0].Node().Draining(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		w.eventually("it is ready again", func() bool { return ready(0, 200, "ready") })
	}()
}

// Set-ups that can't work are refused with a sentence, and leave what runs alone.
func TestBadSetUps(t *testing.T) {
	w := newStores(t)
	running, err := w.serve(w.second("m1", "shards = 8"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := running.Node().Ownership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := dbtest.Config(t)
	pool, err := postgres.Connect(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	golden.Cluster(t, pool)
	var all sync.WaitGroup
	for want, change := range map[string]func() *config.Manager{
		"actors.shards = 16, but this cluster has 8 shards since its first start": func() *config.Manager { return w.second("m2", "shards = 16") },
		"has another cluster secret": func() *config.Manager { return w.second("m3", `cluster-secret = "not the secret of the others"`) },
		"has the name of this one":   func() *config.Manager { return w.second("m1") },
		"works on another database": func() *config.Manager {
			cfg := w.second("m4", "shards = 8")
			cfg.DB.Name = other.Name
			return cfg
		},
		"the cluster secret is too short": func() *config.Manager { return w.second("m5", `cluster-secret = "short"`) },
	} {
		cfg := change()
		all.Go(func() {
			begin := time.Now()
			s, err := w.serve(cfg)
			if s != nil {
				t.Errorf("%s: it has started", want)
				return
			}
			if backendai.CodeOf(err) != backendai.InvalidConfig || backendai.ExitCode(err) != 1 || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "not the secret") {
				t.Errorf("want %q, got %v (exit code %d)", want, err, backendai.ExitCode(err))
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("%s: that took %v", want, took)
			}
		})
	}
	all.Wait()
	client := w.etcd.Client()
	left, err := client.Get(t.Context(), server.ClusterPrefix("local")+"nodes/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || left.Count != 1 {
		t.Errorf("the refused have left keys: %v %v", left.Kvs, err)
	}
	announced, err := client.Get(t.Context(), "/sorna/local/nodes/manager/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || announced.Count != 1 {
		t.Errorf("the refused have announced themselves: %v %v", announced.Kvs, err)
	}
	after, err := running.Node().Ownership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before.Epochs, after.Epochs); d != "" || !running.Node().Healthy() {
		t.Errorf("the one that runs was disturbed: %s", d)
	}

	// A namespace that begins like another is another; a node of the next generation is not let in, nor lets one in.
	cfg := w.second("m1", "shards = 8")
	cfg.Etcd.Namespace = "local2"
	cfg.DB.Name = other.Name
	settings := w.etcd.Client()
	if _, err := settings.Put(t.Context(), "/sorna/local2/config/redis/addr", w.cache); err != nil {
		t.Fatal(err)
	}
	apart, err := w.serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Its claims come back to it by its watch, when it already serves.
	w.eventually("it owns all of its own shards", func() bool { return len(apart.Node().View().Claims) == 8 })
	if a, b := running.Node().View(), apart.Node().View(); len(a.Members) != 1 || len(b.Members) != 1 {
		t.Errorf("clusters are mixed: %v %v", a.Members, b.Members)
	}
	next := membership.New(membership.Config{Client: client, Prefix: "/backend.ai/actors/next/",
		Self: membership.Member{Name: "next", Address: "127.0.0.1:1", Version: "22.09.0", Namespace: "next", Shards: 8}})
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Stop(context.Background()) }()
	fresh := dbtest.Config(t)
	cfg = w.second("m1", "shards = 8")
	cfg.Etcd.Namespace, cfg.DB.Name = "next", fresh.Name
	if _, err := settings.Put(t.Context(), "/sorna/next/config/redis/addr", w.cache); err != nil {
		t.Fatal(err)
	}
	if _, err := w.serve(cfg); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Errorf("beside a node of 22.09: %v", err)
	}
}

// An etcd that takes connections and does not answer, as one without a quorum: a sentence within the patience, and nothing is left.
func TestEtcdWithoutQuorum(t *testing.T) {
	w := newStores(t)
	cfg := w.second("m1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg.Etcd.Addrs[0].Port = l.Addr().(*net.TCPAddr).Port
	begin := time.Now()
	_, err = w.serve(cfg)
	if backendai.CodeOf(err) != backendai.ServiceUnavailable || backendai.ExitCode(err) != 1 || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
}
