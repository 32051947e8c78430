package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/test/golden"
)

// asked is an entry of the capture with another body and the answer that is right for it.
func asked(t *testing.T, entries []golden.Entry, like, name string, change func(body map[string]any), status int, answer map[string]any) golden.Entry {
	t.Helper()
	for _, e := range entries {
		if e.Name != like {
			continue
		}
		if change != nil {
			var body map[string]any
			if err := json.Unmarshal(e.Request.Body, &body); err != nil {
				t.Fatal(err)
			}
			change(body)
			e.Request.Body, _ = json.Marshal(body)
		}
		e.Name = name
		e.Response = golden.Response{Status: status, Headers: map[string]string{"Server": "BackendAI"}, Body: answer}
		if status < 300 {
			success(&e.Response, status)
		} else {
			e.Response.Headers["Content-Type"] = "application/problem+json; charset=utf-8"
		}
		return e
	}
	t.Fatalf("the capture has no %q", like)
	return golden.Entry{}
}

func refused(slug, title, msg string) map[string]any {
	return map[string]any{"type": "https://api.backend.ai/probs/" + slug, "title": title, "msg": msg}
}

const notYet = ", and only a storage-proxy can tell where; this manager does not ask storage-proxies yet."

// Folders that the user may use are found in the database; what the manager cannot mount is refused, never left out.
func TestFolders(t *testing.T) {
	w := newWorld(t)
	entries := golden.Load(t, "testdata/session.json")
	const user, admin, group = "dfa9da54-4b28-432f-be29-c0d680c7a412", "f38dea23-50fa-42a0-b5ae-338f5f4693f4", "2de2b969-1d04-48a6-af16-0bc8adb3c831"
	for _, sql := range []string{
		`INSERT INTO vfolders (id, host, name, usage_mode, permission, ownership_type, "user", "group", cloneable, unmanaged_path) VALUES
 ('00000000-0000-0000-0000-000000000001', 'local:volume1', 'data', 'general', 'rw', 'user', '` + user + `', NULL, false, NULL),
 ('00000000-0000-0000-0000-000000000002', 'local:volume1', 'private', 'general', 'rw', 'user', '` + admin + `', NULL, false, '/mnt/private'),
 ('00000000-0000-0000-0000-000000000003', 'local:volume1', 'lent', 'general', 'rw', 'user', '` + admin + `', NULL, false, '/mnt/lent'),
 ('00000000-0000-0000-0000-000000000004', 'local:volume1', 'ours', 'general', 'rw', 'group', NULL, '` + group + `', false, '/mnt/ours')`,
		`INSERT INTO vfolder_permissions (vfolder, "user", permission) VALUES ('00000000-0000-0000-0000-000000000003', '` + user + `', 'ro')`,
	} {
		if _, err := w.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	mounts := func(name string, list ...any) func(map[string]any) {
		return func(body map[string]any) {
			body["name"] = name
			body["config"].(map[string]any)["mounts"] = list
		}
	}
	p := golden.Replayer{URL: w.url, Before: func(e golden.Entry, _ *http.Request) {
		if e.Name == "task logs of a managed folder" {
			if _, err := w.pool.Exec(t.Context(), `UPDATE vfolders SET name = '.logs' WHERE name = 'data'`); err != nil {
				t.Fatal(err)
			}
		}
	}}
	p.Run(t, []golden.Entry{
		asked(t, entries, "create", "unknown", mounts("gs-0001", "lent", "nope"), 404, refused("object-not-found", "No such virtual folder.", "VFolder nope is not found or accessible.")),
		asked(t, entries, "create", "of somebody else", mounts("gs-0002", "lent", "private"), 404, refused("object-not-found", "No such virtual folder.", "VFolder private is not found or accessible.")),
		asked(t, entries, "create", "managed", mounts("gs-0003", "data"), 503, refused("not-implemented", "This API query is not implemented.", "The folder data lies on local:volume1"+notYet)),
		asked(t, entries, "create", "unmanaged", mounts("gs-0004", "lent", "ours/deep"), 201,
			map[string]any{"sessionId": anyID, "sessionName": "gs-0004", "status": "RUNNING", "servicePorts": servicePorts(), "created": true}),
		asked(t, entries, "task logs", "task logs of a managed folder", nil, 503, refused("not-implemented", "This API query is not implemented.",
			"The folder .logs lies on local:volume1, and only a storage-proxy can read it; this manager does not ask storage-proxies yet.")),
	})
	if n := len(w.agent.Kernels()); n != 1 {
		t.Fatalf("%d kernels were created, want 1", n)
	}
	for _, k := range w.agent.Kernels() {
		got, _ := json.Marshal(k.Config.Mounts)
		want, _ := json.Marshal([]callosum.Mount{
			{Name: "lent", VFolderID: "00000000-0000-0000-0000-000000000003", Subpath: ".", HostPath: "/mnt/lent", KernelPath: "/home/work/lent", Perm: "ro"},
			{Name: "ours", VFolderID: "00000000-0000-0000-0000-000000000004", Subpath: "deep", HostPath: "/mnt/ours/deep", KernelPath: "/home/work/ours", Perm: "rw"},
		})
		if string(got) != string(want) {
			t.Errorf("mounts %s, want %s", got, want)
		}
	}
}

// A resource group with a coordinator: the app is started and the coordinator told the way.
func TestStartService(t *testing.T) {
	w := newWorld(t)
	entries := golden.Load(t, "testdata/session.json")
	ways := make(chan map[string]any, 1)
	broken := false
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /status":
			_, _ = rw.Write([]byte(`{"advertise_address": "https://apps.example.com"}`))
		case "POST /v2/conf":
			if broken {
				rw.WriteHeader(http.StatusBadGateway)
				return
			}
			var way map[string]any
			if err := json.NewDecoder(r.Body).Decode(&way); err != nil {
				t.Error(err)
			}
			ways <- way
			_, _ = rw.Write([]byte(`{"token": "the token"}`))
		default:
			rw.WriteHeader(http.StatusNotFound)
		}
	}))
	defer proxy.Close()
	if _, err := w.pool.Exec(t.Context(), `UPDATE scaling_groups SET wsproxy_addr = $1`, proxy.URL); err != nil {
		t.Fatal(err)
	}
	params := func(p map[string]any) func(map[string]any) {
		return func(body map[string]any) {
			clear(body)
			for k, v := range p {
				body[k] = v
			}
		}
	}
	failing := asked(t, entries, "start service", "a coordinator that fails", params(map[string]any{"app": "web"}), 503,
		refused("service-unavailable", "Serivce unavailable.", "The coordinator of this resource group does not answer properly."))
	failing.Response.Headers["Retry-After"] = "1"
	p := golden.Replayer{URL: w.url, Before: func(e golden.Entry, _ *http.Request) { broken = e.Name == "a coordinator that fails" }}
	p.Run(t, []golden.Entry{
		asked(t, entries, "create", "create", func(map[string]any) {}, 201,
			map[string]any{"sessionId": anyID, "sessionName": "gs-ea5f", "status": "RUNNING", "servicePorts": servicePorts(), "created": true}),
		asked(t, entries, "start service", "known", params(map[string]any{"app": "web", "port": "8090", "login_session_token": "mine", "envs": `{"A": "1"}`}), 200,
			map[string]any{"token": "the token", "wsproxy_addr": "https://apps.example.com"}),
		asked(t, entries, "start service", "unknown", params(map[string]any{"app": "nope"}), 404, refused("object-not-found", "No such app service.", "gs-ea5f:nope")),
		asked(t, entries, "start service", "unknown port", params(map[string]any{"app": "web", "port": 9000}), 400,
			refused("invalid-api-params", "Missing or invalid API parameters.", "Service web does not open the port number 9000.")),
		asked(t, entries, "start service", "malformed options", params(map[string]any{"app": "web", "arguments": "["}), 400,
			refused("invalid-api-params", "Missing or invalid API parameters.", "arguments must be the text of a JSON object.")),
		failing,
	})
	way := <-ways
	if way["login_session_token"] != "mine" || way["kernel_host"] != "127.0.0.1" || way["kernel_port"] == 0.0 || len(way) != 3 {
		t.Errorf("the coordinator was told %v", way)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.Method == callosum.MethodStartService {
			if text, _ := json.Marshal(c.Args[1:]); string(text) != `["web",{"envs":{"A":"1"}}]` {
				t.Errorf("the agent was asked for %s", text)
			}
			return
		}
	}
	t.Error("the agent was not asked")
}
