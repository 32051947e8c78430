package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/cmd/backend.ai/client"
	"backend.ai/manager/test/golden"
)

// planning is a world whose scheduler keeps a record, and the client of its user and of its superadmin.
type planning struct {
	*world
	user, admin *client.Client
}

func newPlanning(t *testing.T) *planning {
	w := newStores(t)
	cfg := w.config("shards = 8\nscheduler-record = 500")
	cfg.Service.Addr.Port = 0
	s, err := w.serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + s.Addr().String()
	w.startAgent(w.cache)
	p := &planning{world: w}
	for name, into := range map[string]**client.Client{"user": &p.user, "admin": &p.admin} {
		c, err := client.New(client.Config{Endpoint: w.url, AccessKey: golden.Keys[name].Access, SecretKey: golden.Keys[name].Secret})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		*into = c
	}
	return p
}

func body(name string, cpu, cluster int) string {
	return fmt.Sprintf(`{"name": %q, "image": %q, "enqueueOnly": true, "cluster_size": %d, "config": {"resources": {"cpu": "%d", "mem": "256m"}, "scaling_group": "default"}}`, name, recordedImage, cluster, cpu)
}

// plan asks for a plan; what comes of the same request then is told by enqueue.
func (p *planning) plan(as, body string) (doc map[string]any) {
	p.Helper()
	status, _, text := p.call(p.url, as, "POST", "/session/_/plan", body)
	if status != http.StatusOK {
		p.Fatalf("plan: %d %s", status, text)
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		p.Fatal(err)
	}
	return doc
}

// enqueue asks for the session and waits until it runs, or until the scheduler has looked at it.
func (p *planning) enqueue(name, body string) (id string, runs bool) {
	p.Helper()
	status, _, text := p.call(p.url, "user", "POST", "/session", body)
	if status != http.StatusCreated {
		p.Fatalf("create: %d %s", status, text)
	}
	p.until("the session "+name+" runs or waits", `SELECT bool_or(status = 'RUNNING' OR status = 'PENDING' AND status_info IS NOT NULL) FROM kernels WHERE session_name = $1 AND cluster_role = 'main'`, name)
	if err := p.pool.QueryRow(p.Context(), `SELECT session_id::text, status = 'RUNNING' FROM kernels WHERE session_name = $1 AND cluster_role = 'main'`, name).Scan(&id, &runs); err != nil {
		p.Fatal(err)
	}
	return id, runs
}

func kinds(of map[string]any, list string) (k []string) {
	items, _ := of[list].([]any)
	for _, r := range items {
		k = append(k, r.(map[string]any)["kind"].(string))
	}
	return k
}

// Plans are what then happens, in the words of why; refused is what would be refused, and nothing comes of asking.
func TestPlans(t *testing.T) {
	p := newPlanning(t)
	t.Run("refusals are the same", func(t *testing.T) {
		n := 0
		for _, e := range golden.Load(t, "testdata/session.json") {
			if e.Request.Path != "/session" || e.Request.Method != "POST" || e.Response.Status < 400 || e.Name == "create, anonymous" || e.Name == "create, old api version" || e.Name == "create, unknown config key" {
				continue
			}
			n++
			status, _, want := p.call(p.url, "user", "POST", "/session", string(e.Request.Body))
			gotStatus, _, got := p.call(p.url, "user", "POST", "/session/_/plan", string(e.Request.Body))
			if status < 400 { // as the capture's names are not taken here
				p.call(p.url, "user", "DELETE", "/session/gs-ea5f?forced=true", "")
				continue
			}
			if gotStatus != status || got != want {
				t.Errorf("%s: the plan is answered with %d %s, the request with %d %s", e.Name, gotStatus, got, status, want)
			}
		}
		if n < 8 {
			t.Errorf("only %d requests", n)
		}
		p.until("all have ended", `SELECT count(*) = 0 FROM kernels WHERE status NOT IN ('TERMINATED', 'CANCELLED')`)
	})
	rows := func() (n int) {
		if err := p.pool.QueryRow(t.Context(), `SELECT count(*) FROM kernels`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := rows()
	for i, c := range []struct {
		cpu, cluster int
		reasons      string // of the plan
	}{
		{30, 1, ""}, {15, 2, ""}, {1, 1, ""}, {64, 1, "no-agent"}, {1, 1, "behind-others"}, {100, 1, "no-agent behind-others"},
	} {
		name := fmt.Sprintf("plan-%d", i)
		if n := rows(); n != before {
			t.Fatalf("%d rows, there were %d", n, before)
		}
		plan := p.plan("user", body(name, c.cpu, c.cluster))
		if n := rows(); n != before {
			t.Fatalf("planning has written %d rows", n-before)
		}
		if got := strings.Join(kinds(plan, "reasons"), " "); got != c.reasons || plan["scaling_group"] != "default" {
			t.Errorf("%s: reasons %q, want %q: %v", name, got, c.reasons, plan)
		}
		if placements := plan["placements"].([]any); plan["starts"] == true {
			if k := placements[0].(map[string]any); len(placements) != c.cluster || k["agent"] != nil || k["cluster_role"] != "main" {
				t.Errorf("%s: placements %v", name, placements)
			}
		}
		if p.plan("admin", strings.Replace(body(name, c.cpu, c.cluster), `{`, fmt.Sprintf(`{"owner_access_key": %q, `, golden.Keys["user"].Access), 1))["starts"] != plan["starts"] {
			t.Errorf("%s: an administrator's plan for the user is another", name)
		}
		id, runs := "", false
		if c.reasons == "" || c.reasons == "no-agent" {
			if id, runs = p.enqueue(name, body(name, c.cpu, c.cluster)); runs != plan["starts"] {
				t.Errorf("%s: it runs: %v; the plan was %v", name, runs, plan)
			}
			before += c.cluster
			if !runs { // why says now what the plan has said
				if why := p.json(p.url, "user", "/session/"+id+"/why"); fmt.Sprint(why["sentences"]) != fmt.Sprint(plan["sentences"]) {
					t.Errorf("%s: why says %v, the plan had said %v", name, why["sentences"], plan["sentences"])
				}
			}
		}
	}
	t.Run("a name that is taken", func(t *testing.T) {
		there := p.plan("user", body("plan-0", 1, 1))["existing"].(map[string]any)
		if there["sessionName"] != "plan-0" || there["status"] != "RUNNING" {
			t.Errorf("%v", there)
		}
		refused := strings.Replace(body("plan-0", 1, 1), `{`, `{"reuseIfExists": false, `, 1)
		status, _, want := p.call(p.url, "user", "POST", "/session", refused)
		if got, _, text := p.call(p.url, "user", "POST", "/session/_/plan", refused); got != status || text != want || got != http.StatusBadRequest {
			t.Errorf("%d %s; the request: %d %s", got, text, status, want)
		}
	})
	t.Run("what if", p.whatIf)
	t.Run("graphql", p.graphQL)
	t.Run("followed", p.followed)
	t.Run("never", p.never)
	t.Run("recorded", p.recorded)
}

func (p *planning) whatIf(t *testing.T) {
	ask := func(as, changes string) (int, map[string]any) {
		var doc map[string]any
		status, _, text := p.call(p.url, as, "POST", "/session/_/what-if", `{"scaling_group": "default", "changes": `+changes+`}`)
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%d %s", status, text)
		}
		return status, doc
	}
	running := p.json(p.url, "user", "/session/plan-0/why")["session_id"].(string)
	waiting := p.json(p.url, "user", "/session/plan-3/why")["session_id"].(string)
	status, doc := ask("admin", `[{"kind": "session-ends", "sessions": ["`+running+`"]}]`)
	if status != http.StatusOK || len(doc["starts_more"].([]any)) != 0 { // 30 of 64 are not enough
		t.Errorf("%d %v", status, doc)
	}
	all := []string{running}
	for _, n := range []string{"plan-1", "plan-2"} {
		all = append(all, p.json(p.url, "user", "/session/"+n+"/why")["session_id"].(string))
	}
	_, doc = ask("admin", `[{"kind": "session-ends", "sessions": ["`+strings.Join(all, `", "`)+`"]}]`)
	if more := doc["starts_more"].([]any); len(more) != 1 || more[0] != waiting || doc["waiting"] != 0.0 || doc["starts"].([]any)[0].(map[string]any)["name"] != "plan-3" {
		t.Errorf("%v", doc)
	}
	_, doc = ask("admin", `[{"kind": "agent-drained", "agent": "`+p.agent.ID()+`"}]`)
	if on := doc["drained"].([]any)[0].(map[string]any)["sessions"].([]any); len(on) != 3 || doc["starting"] != 0.0 || kinds(doc["waits"].([]any)[0].(map[string]any), "reasons")[0] != "no-agent" {
		t.Errorf("%v", doc)
	}
	if status, doc = ask("admin", `[{"kind": "policy-chosen", "policy": {"name": "lifo", "pending_timeout": "1h"}}]`); status != http.StatusOK {
		t.Errorf("%v", doc)
	}
	for _, c := range []struct {
		as, changes, want string
		status            int
	}{
		{"user", `[]`, "Unauthorized", http.StatusUnauthorized}, {"domain-admin", `[]`, "Unauthorized", http.StatusUnauthorized},
		{"admin", `[{"kind": "nonsense"}]`, "the kinds are fewer-slots, ", http.StatusBadRequest},
		{"admin", `[{"kind": "agent-drained"}]`, "needs agent", http.StatusBadRequest},
		{"admin", `[{"kind": "agent-drained", "agent": "i-none"}]`, "has no agent i-none", http.StatusBadRequest},
		{"admin", `[{"kind": "agent-drained", "agnet": "x"}]`, "agnet", http.StatusBadRequest},
		{"admin", `[{"kind": "policy-chosen", "policy": {"name": "none"}}]`, "no scheduler is called", http.StatusBadRequest},
		{"admin", `3`, "changes must be a list", http.StatusBadRequest},
	} {
		if status, doc := ask(c.as, c.changes); status != c.status || !strings.Contains(fmt.Sprint(doc["msg"]), c.want) {
			t.Errorf("%s as %s: %d %v", c.changes, c.as, status, doc)
		}
	}
	if status, _, text := p.call(p.url, "admin", "POST", "/session/_/what-if", `{"scaling_group": "none", "changes": []}`); status != http.StatusNotFound || !strings.Contains(text, "none does not exist") {
		t.Errorf("%d %s", status, text)
	}
}

func (p *planning) graphQL(t *testing.T) {
	query := func(as string) map[string]map[string]any {
		status, _, text := p.call(p.url, as, "POST", "/admin/gql", fmt.Sprintf(`{"query": "{ compute_session_list(limit: 9, offset: 0, access_key: \"%s\", status: \"RUNNING,PENDING\") { items { name why brief: why(changes: false) } } }"}`, golden.Keys["user"].Access))
		var doc struct {
			Data struct {
				List struct {
					Items []struct {
						Name       string
						Why, Brief *string
					}
				} `json:"compute_session_list"`
			}
		}
		if err := json.Unmarshal([]byte(text), &doc); err != nil || status != http.StatusOK || len(doc.Data.List.Items) != 4 {
			t.Fatalf("%d %s", status, text)
		}
		found := map[string]map[string]any{}
		for _, i := range doc.Data.List.Items {
			if i.Why == nil {
				continue
			}
			var why, brief map[string]any
			if json.Unmarshal([]byte(*i.Why), &why) != nil || json.Unmarshal([]byte(*i.Brief), &brief) != nil || len(brief["changes"].([]any)) != 0 || fmt.Sprint(brief["sentences"]) != fmt.Sprint(why["sentences"]) {
				t.Fatalf("%s", text)
			}
			found[i.Name] = why
		}
		return found
	}
	for as, want := range map[string]string{"user": "fewer-slots", "admin": "fewer-slots"} {
		found := query(as)
		if why := found["plan-3"]; len(found) != 1 || kinds(why, "reasons")[0] != "no-agent" || strings.Join(kinds(why, "changes"), " ") != want {
			t.Errorf("as %s: %v", as, found)
		}
	}
}

// followed watches a session until it has started: first what is the case, then another reason, then the end.
func (p *planning) followed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var heard []client.Wait
	dones := 0
	err := p.user.FollowWhy(ctx, "plan-3", func(w client.Wait, done bool) error {
		heard = append(heard, w)
		if done {
			dones++
		}
		switch len(heard) {
		case 1:
			p.call(p.url, "user", "DELETE", "/session/plan-0?forced=true", "")
		case 2:
			for _, n := range []string{"plan-1", "plan-2"} {
				p.call(p.url, "user", "DELETE", "/session/"+n+"?forced=true", "")
			}
		}
		return nil
	})
	if err != nil || dones != 1 || len(heard) < 3 {
		t.Fatalf("%v after %d: %+v", err, len(heard), heard)
	}
	if first, second := heard[0], heard[1]; len(first.Reasons) != 1 || string(first.Reasons[0]) == string(second.Reasons[0]) || first.Status != "PENDING" {
		t.Errorf("%+v, then %+v", first, second)
	}
	if last := heard[len(heard)-1]; last.Status == "PENDING" || len(last.Sentences) != 1 {
		t.Errorf("%+v", last)
	}
	var refused *client.Refusal
	if err := p.user.FollowWhy(ctx, "nobody", nil); !errors.As(err, &refused) || refused.Code() != backendai.SessionNotFound && refused.Status != http.StatusNotFound {
		t.Error(err)
	}
	// A session that runs is done at once.
	p.until("it runs", `SELECT bool_or(status = 'RUNNING') FROM kernels WHERE session_name = 'plan-3'`)
	heard = nil
	if err := p.user.FollowWhy(ctx, "plan-3", func(w client.Wait, done bool) error { heard = append(heard, w); return nil }); err != nil || len(heard) != 1 {
		t.Errorf("%v %+v", err, heard)
	}
}

// never: what can't be met any more is told, before and after it has become so.
func (p *planning) never(t *testing.T) {
	batch := func(name string, after ...string) string {
		text := strings.Replace(body(name, 1, 1), `{`, fmt.Sprintf(`{"type": "batch", "startupCommand": "true", "dependencies": ["%s"], `, strings.Join(after, `", "`)), 1)
		return strings.Replace(text, `"dependencies": [""], `, `"starts_at": "1h", `, 1)
	}
	if reasons := p.plan("user", batch("never-0", "plan-3"))["reasons"].([]any); len(reasons) != 1 || reasons[0].(map[string]any)["never"] != true {
		t.Errorf("waiting for the success of a session that has no result: %v", reasons)
	}
	if _, runs := p.enqueue("first", batch("first")); runs {
		t.Fatal("it runs before its time")
	}
	id, _ := p.enqueue("second", batch("second", "first"))
	reason := func() map[string]any {
		return p.json(p.url, "user", "/session/"+id+"/why")["reasons"].([]any)[0].(map[string]any)
	}
	if r := reason(); r["kind"] != "dependencies" || r["never"] != nil {
		t.Errorf("%v", r)
	}
	p.call(p.url, "user", "DELETE", "/session/first", "")
	p.eventually("it is known that it waits in vain", func() bool { return reason()["never"] == true })
}

// recorded fetches what the scheduler has done in this test, and has it done again.
func (p *planning) recorded(t *testing.T) {
	var text bytes.Buffer
	if err := p.admin.SchedulerRecord(t.Context(), "default", &text); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{string(golden.Keys["user"].Secret), recordedPrivateKey, "environ"} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("the record has %q", secret)
		}
	}
	r, err := scheduler.NewReplay(&text)
	if err != nil {
		t.Fatal(err)
	}
	steps, placed := 0, 0
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !s.Same {
			t.Errorf("step %d, %s %s: %s is not what it has led to", s.Step, s.Event, s.Data, s.Effects)
		}
		steps++
		placed += strings.Count(string(s.Effects), `{"Place":`)
	}
	if steps < 20 || placed < 4 {
		t.Errorf("%d steps, %d placements", steps, placed)
	}
	var refused *client.Refusal
	if err := p.user.SchedulerRecord(t.Context(), "default", io.Discard); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Error(err)
	}
	if err := p.admin.SchedulerRecord(t.Context(), "none", io.Discard); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Error(err)
	}
}
