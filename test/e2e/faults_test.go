package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

// request sends a signed request and returns status and body; a connection that fails is status 0.
func (c *cluster) request(access, secret, method, target string, body any) (int, map[string]any) {
	var payload []byte
	if body != nil {
		payload, _ = json.Marshal(body)
	}
	host := strings.TrimPrefix(c.endpoint, "http://")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+target, bytes.NewReader(payload))
	if err != nil {
		return 0, nil
	}
	now := time.Now().UTC()
	date := now.Format("2006-01-02T15:04:05.000000+00:00")
	hash, _ := signing.ParseMethod(signing.DefaultMethod)
	signature := signing.DeriveKey(hash, backendai.SecretKey(secret), now.Format(signing.Day), host).Sign(signing.Subject{
		Method: method, Target: target, Date: date, Host: host, ContentType: "application/json", Version: "v6.20220315"})
	req.Header.Set("Date", date)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-BackendAI-Version", "v6.20220315")
	req.Header.Set("Authorization", "BackendAI signMethod=HMAC-SHA256, credential="+access+":"+signature)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	answer := map[string]any{}
	_ = json.Unmarshal(text, &answer)
	return resp.StatusCode, answer
}

func (c *cluster) create(name string, wait bool) (int, map[string]any) {
	return c.request(userKey, userSecret, "POST", "/session", map[string]any{
		"name": name, "image": "python", "enqueueOnly": !wait, "maxWaitSeconds": 60, "reuseIfExists": true,
		"config": map[string]any{"resources": map[string]string{"cpu": "1", "mem": "80m"}, "resource_opts": map[string]string{"shmem": "8m"}},
	})
}

// exec runs code in a session and returns what it printed.
func (c *cluster) exec(name, code string) (string, error) {
	run := fmt.Sprintf("run-%d", time.Now().UnixNano())
	mode := "query"
	var out strings.Builder
	for range 30 {
		status, answer := c.request(userKey, userSecret, "POST", "/session/"+name, map[string]any{"mode": mode, "code": code, "runId": run})
		result, _ := answer["result"].(map[string]any)
		if status != 200 || result == nil {
			return "", fmt.Errorf("execute in %s: %d %v", name, status, answer)
		}
		console, _ := result["console"].([]any)
		for _, item := range console {
			if pair, ok := item.([]any); ok && len(pair) == 2 {
				fmt.Fprint(&out, pair[1])
			}
		}
		if result["status"] == "finished" {
			return strings.TrimSpace(out.String()), nil
		}
		mode, code = "continue", ""
	}
	return "", fmt.Errorf("the run in %s does not end", name)
}

// parallel runs n pieces of work at once.
func parallel(n int, work func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
}

func (c *cluster) destroyAll() {
	c.Helper()
	rows, err := c.pool.Query(c.Context(), `SELECT session_name FROM kernels WHERE status NOT IN ('TERMINATED', 'CANCELLED')`)
	if err != nil {
		c.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var n string
		_ = rows.Scan(&n)
		names = append(names, n)
	}
	parallel(len(names), func(i int) {
		if status, answer := c.request(userKey, userSecret, "DELETE", "/session/"+names[i], nil); status != 200 {
			c.Errorf("destroy %s: %d %v", names[i], status, answer)
		}
	})
	c.noKernels()
}

// kill -9 of the manager with 50 live sessions and 20 in mid-creation, then of the agent.
func TestKillNine(t *testing.T) {
	c := newCluster(t)
	parallel(50, func(i int) {
		name := fmt.Sprintf("live-%02d", i)
		if status, answer := c.create(name, true); status != 201 || answer["status"] != "RUNNING" {
			t.Errorf("create %s: %d %v", name, status, answer)
		}
		if _, err := c.exec(name, fmt.Sprintf("kept = %d", i)); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	parallel(20, func(i int) {
		if status, answer := c.create(fmt.Sprintf("starting-%02d", i), false); status != 201 {
			t.Errorf("create: %d %v", status, answer)
		}
	})
	c.manager.stop(t, syscall.SIGKILL)
	begin := time.Now()
	c.startManager()
	c.startAgentAlive()
	t.Logf("the manager answers again after %v", time.Since(begin))
	c.keptState("after kill -9 of the manager")
	c.eventually("those in mid-creation run or have ended", func() bool {
		return c.text(`SELECT count(*)::text FROM kernels WHERE session_name LIKE 'starting-%' AND status NOT IN ('RUNNING', 'TERMINATED', 'CANCELLED')`) == "0"
	})
	t.Logf("of 20 in mid-creation %s are RUNNING", c.text(`SELECT count(*)::text FROM kernels WHERE session_name LIKE 'starting-%' AND status = 'RUNNING'`))

	c.agent.stop(t, syscall.SIGKILL)
	c.startAgent()
	c.keptState("after kill -9 of the agent")
	c.destroyAll()
}

func (c *cluster) startAgentAlive() {
	c.eventually("the agent is ALIVE", func() bool { return c.text(`SELECT status::text FROM agents WHERE id = 'i-local'`) == "ALIVE" })
}

// keptState asks every live session for what it was told before.
func (c *cluster) keptState(when string) {
	c.Helper()
	parallel(50, func(i int) {
		var got string
		var err error
		for range 20 { // polling with a deadline: the agent may not be linked again yet
			if got, err = c.exec(fmt.Sprintf("live-%02d", i), "print(kept)"); err == nil {
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
		if err != nil || got != fmt.Sprint(i) {
			c.Errorf("%s, session live-%02d: %q, %v", when, i, got, err)
		}
	})
}

func (c *cluster) flushRedis() {
	c.Helper()
	r, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{c.redis.Addr()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		c.Fatal(err)
	}
	defer r.Close()
	if err := r.Do(c.Context(), r.B().Flushall().Build()).Error(); err != nil {
		c.Fatal(err)
	}
}

// PostgreSQL restarted and Redis emptied while sessions come and go: requests wait or get 503, nothing is lost.
func TestStoresFailUnderLoad(t *testing.T) {
	c := newCluster(t)
	stop := make(chan struct{})
	var mu sync.Mutex
	statuses := map[int]int{}
	accepted := map[string]bool{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("load-%d-%03d", w, i)
				status, _ := c.create(name, true)
				mu.Lock()
				statuses[status]++
				if status == 201 {
					accepted[name] = true
				}
				mu.Unlock()
				if status == 201 && i%2 == 0 {
					c.request(userKey, userSecret, "DELETE", "/session/"+name, nil)
				}
			}
		})
	}
	wait := func(d time.Duration) { <-time.After(d) } // the load goes on meanwhile
	wait(2 * time.Second)
	if _, err := c.pool.Exec(c.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	wait(2 * time.Second)
	c.redis.Restart()
	wait(2 * time.Second)
	c.flushRedis()
	wait(2 * time.Second)
	close(stop)
	wg.Wait()
	t.Logf("answers by status: %v", statuses)
	for status := range statuses {
		if status != 201 && status != 503 {
			t.Errorf("%d answers of status %d", statuses[status], status)
		}
	}
	for name := range accepted {
		if n := c.text(`SELECT count(*)::text FROM kernels WHERE session_name = $1`, name); n != "1" {
			t.Errorf("accepted session %s has %s rows", name, n)
		}
	}
	c.eventually("every session runs or has ended", func() bool {
		return c.text(`SELECT count(*)::text FROM kernels WHERE status NOT IN ('RUNNING', 'TERMINATED', 'CANCELLED')`) == "0"
	})
	c.destroyAll()
}

// The actors of a running session are seen under their shard, with the agent's link and the scheduler's queue.
func TestInspection(t *testing.T) {
	c := newCluster(t)
	status, made := c.create("inspected", true)
	if status != 201 {
		t.Fatal(status, made)
	}
	id := made["sessionId"].(string)
	if status, _ := c.request(userKey, userSecret, "GET", "/inspect/actors", nil); status != 401 {
		t.Errorf("a plain user gets %d", status)
	}
	_, tree := c.request(adminKey, adminSecret, "GET", "/inspect/actors", nil)
	found := map[string]map[string]any{}
	var walk func(nodes []any, path string)
	walk = func(nodes []any, path string) {
		for _, n := range nodes {
			a := n.(map[string]any)
			at := path + "/" + a["kind"].(string)
			a["path"] = at
			if key := a["kind"].(string) + " " + a["id"].(string); true {
				found[key] = a
			}
			children, _ := a["children"].([]any)
			walk(children, at)
		}
	}
	walk(tree["actors"].([]any), "")
	check := func(key, path, state string) map[string]any {
		t.Helper()
		a := found[key]
		if a == nil {
			t.Errorf("no actor %s", key)
			return map[string]any{}
		}
		if a["path"] != path || a["state"] != state {
			t.Errorf("%s at %v in state %v, want %s, %s", key, a["path"], a["state"], path, state)
		}
		facts, _ := a["facts"].(map[string]any)
		return facts
	}
	check("session "+id, "/node/shard/session", "running")
	check("kernel "+id, "/node/shard/session/kernel", "running")
	if link, _ := check("agent i-local", "/node/shard/agent", "ALIVE")["link"].(map[string]any); link["state"] != "up" {
		t.Errorf("the agent's link: %v", link)
	}
	if facts := check("scheduler default", "/node/shard/scheduler", "idle"); facts["queue"] != 0.0 || facts["allocations"] != 1.0 {
		t.Errorf("the scheduler: %v", facts)
	}
	c.waiting()
	c.destroyAll()
}

// waiting checks that a session that waits says why, and that what would start it does.
func (c *cluster) waiting() {
	c.Helper()
	large := func(name, cpu string) (int, map[string]any) {
		return c.request(userKey, userSecret, "POST", "/session", map[string]any{"name": name, "image": "python", "enqueueOnly": true,
			"config": map[string]any{"resources": map[string]string{"cpu": cpu, "mem": "80m"}, "resource_opts": map[string]string{"shmem": "8m"}}})
	}
	for _, name := range []string{"first", "second"} {
		if status, answer := large(name, "300"); status != 201 {
			c.Fatal(status, answer)
		}
	}
	c.eventually("the first session runs", func() bool {
		return c.text(`SELECT status::text FROM kernels WHERE session_name = 'first'`) == "RUNNING"
	})
	var why map[string]any
	c.eventually("the second session has been looked at", func() bool {
		_, why = c.request(adminKey, adminSecret, "GET", "/session/second/why?owner_access_key="+userKey, nil)
		reasons, _ := why["reasons"].([]any)
		return len(reasons) > 0
	})
	changes := map[string]map[string]any{}
	for _, ch := range why["changes"].([]any) {
		change := ch.(map[string]any)
		changes[change["kind"].(string)] = change
	}
	if changes["fewer-slots"] == nil || changes["session-ends"] == nil {
		c.Errorf("why: %v", why)
	}
	_, own := c.request(userKey, userSecret, "GET", "/session/second/why", nil)
	for _, ch := range own["changes"].([]any) {
		if ch.(map[string]any)["kind"] == "session-ends" {
			c.Errorf("a plain user sees %v", ch)
		}
	}
	if status, answer := c.request(userKey, userSecret, "DELETE", "/session/first", nil); status != 200 {
		c.Error(status, answer)
	}
	c.eventually("the second session starts", func() bool {
		return c.text(`SELECT status::text FROM kernels WHERE session_name = 'second' ORDER BY created_at DESC LIMIT 1`) == "RUNNING"
	})
	if _, after := c.request(userKey, userSecret, "GET", "/session/second/why", nil); after["status"] != "RUNNING" || len(after["changes"].([]any)) != 0 {
		c.Errorf("why of a running session: %v", after)
	}
}
