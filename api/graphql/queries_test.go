package graphql_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"backend.ai/manager/api/graphql"
)

// TestClientQueries: what the official command-line client sends is answered without an error.
func TestClientQueries(t *testing.T) {
	s := serve(t, graphql.Deps{Live: live{}})
	recorded(t, s)
	raw, err := os.ReadFile("testdata/client-queries.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, body := range all {
		if status, text := s.post(t, "admin", "/admin/gql", body); status != 200 || strings.Contains(text, `"errors"`) {
			t.Errorf("%v\n%d %s", body["query"], status, text)
		}
	}
}

// TestIntrospection asks what tools ask first.
func TestIntrospection(t *testing.T) {
	s := serve(t, graphql.Deps{})
	text := s.ask(t, "monitor", `query { __schema { queryType { name } types { kind name fields(includeDeprecated: true) { name args { name type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } }`, nil)
	for _, want := range []string{`"name": "Queries"`, `"name": "ComputeSession"`, `"name": "concurrency_limit"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in %.300s", want, text)
		}
	}
}

func TestQueries(t *testing.T) {
	s := serve(t, graphql.Deps{Live: live{}, HideAgents: func() bool { return true }})
	recorded(t, s)
	fill(t, s, 30)
	s.exec(t, `INSERT INTO session_dependencies (session_id, depends_on) SELECT a.id, b.id FROM kernels a, kernels b WHERE a.session_name = 's1' AND a.cluster_role = 'main' AND b.session_name IN ('s2', 'gq-8049')`)
	s.exec(t, `UPDATE kernels SET mounts = '{{data,local:volume1,x},{it,local:volume1,y}}' WHERE session_name = 's1'; UPDATE kernels SET mounts = '{data}' WHERE session_name = 's2'`)
	s.exec(t, `UPDATE kernels SET status = 'TERMINATED', last_stat = '{"mem": {"current": "5"}}', occupied_slots = '{"cpu": 1.5, "mem": "4g", "cuda.shares": "0.5"}' WHERE session_name = 's3'`)
	s.exec(t, `INSERT INTO vfolders (host, name, usage_mode, permission, ownership_type, "user", cloneable, max_size) VALUES ('local:volume1', 'data', 'general', 'rw', 'user', 'dfa9da54-4b28-432f-be29-c0d680c7a412', false, 5)`)
	s.exec(t, `INSERT INTO sgroups_for_groups VALUES ('default', '2de2b969-1d04-48a6-af16-0bc8adb3c831'); INSERT INTO sgroups_for_keypairs VALUES ('default', 'AKIANABBDUSEREXAMPLE')`)
	for _, c := range []struct {
		name, as, query string
		variables       map[string]any
		want            string
	}{
		{"dependencies", "user", `{ compute_session_list(limit: 1, offset: 0, filter: "name == \"s1\"") { items { name mounts dependencies { name mounts containers { role } } } } }`, nil,
			`{"data": {"compute_session_list": {"items": [{"name": "s1", "mounts": ["['data', 'local:volume1', 'x']", "['it', 'local:volume1', 'y']"], "dependencies": [{"name": "s2", "mounts": ["data"], "containers": [{"role": "main"}]}, {"name": "gq-8049", "mounts": [], "containers": [{"role": "main"}]}]}]}}}`},
		{"slots of a cluster are summed", "user", `{ compute_session_list(limit: 1, offset: 0, filter: "name == \"s10\"") { items { occupied_slots containers { cluster_hostname occupied_slots } } total_count } }`, nil,
			`{"data": {"compute_session_list": {"items": [{"occupied_slots": "{\"cpu\": \"2\", \"mem\": \"536870912\"}", "containers": [{"cluster_hostname": "main1", "occupied_slots": "{\"cpu\": \"1\", \"mem\": \"268435456\"}"}, {"cluster_hostname": "sub1", "occupied_slots": "{\"cpu\": \"1\", \"mem\": \"268435456\"}"}]}], "total_count": 1}}}`},
		{"old rows, statistics of an ended kernel", "user", `{ compute_session_list(limit: 9, offset: 0, status: "TERMINATED") { items { occupied_slots containers { live_stat last_stat agent } } } }`, nil,
			`{"data": {"compute_session_list": {"items": [{"occupied_slots": "{\"cpu\": \"1.5\", \"mem\": \"4294967296\", \"cuda.shares\": \"0.5\"}", "containers": [{"live_stat": "{\"mem\": {\"current\": \"5\"}}", "last_stat": "{\"mem\": {\"current\": \"5\"}}", "agent": null}]}]}}}`},
		{"page behind the end", "user", `{ compute_session_list(limit: 5, offset: 500) { items { name } total_count } }`, nil, `{"data": {"compute_session_list": {"items": [], "total_count": 31}}}`},
		{"order by two", "user", `{ compute_session_list(limit: 3, offset: 1, order: "-cluster_size, +name") { items { name cluster_size } total_count } }`, nil,
			`{"data": {"compute_session_list": {"items": [{"name": "s20", "cluster_size": 2}, {"name": "s30", "cluster_size": 2}, {"name": "gq-8049", "cluster_size": 1}], "total_count": 31}}}`},
		{"filters", "admin", `{ a: compute_session_list(limit: 1, offset: 0, filter: "!(name like \"s%\")") { total_count } b: compute_session_list(limit: 1, offset: 0, filter: "cluster_size >= 1.5 | name in [\"s1\", \"s2\"]") { total_count }
  c: compute_session_list(limit: 1, offset: 0, filter: "terminated_at isnot null") { total_count } d: compute_session_list(limit: 1, offset: 0, filter: "created_at > \"2022-01-01\" & cluster_mode == \"SINGLE_NODE\" & user_email contains \"user@\" & group_name == \"default\"") { total_count }
  e: compute_session_list(limit: 1, offset: 0, filter: "status in []") { total_count } f: compute_session_list(limit: 1, offset: 0, filter: "cluster_mode == \"MULTI_NODE\"") { total_count } }`, nil,
			`{"data": {"a": {"total_count": 1}, "b": {"total_count": 5}, "c": {"total_count": 0}, "d": {"total_count": 31}, "e": {"total_count": 0}, "f": {"total_count": 0}}}`},
		{"filter with a wrong value", "user", `{ compute_session_list(limit: 1, offset: 0, filter: "name == 3") { total_count } }`, nil,
			`{"errors": [{"message": "Query filter parsing error: name can't be compared with 3", "locations": [{"line": 1, "column": 3}], "path": ["compute_session_list"]}], "data": {"compute_session_list": null}}`},
		{"no session of others", "user", `query($id: UUID!) { compute_session(id: $id) { name } }`, map[string]any{"id": "00000000-0000-0000-0000-000000000001"}, `{"data": {"compute_session": null}}`},
		{"sessions of another's key", "user", `{ compute_session_list(limit: 1, offset: 0, access_key: "AKIAIOSFODNN7EXAMPLE") { total_count } }`, nil,
			`{"errors": [{"message": "Forbidden operation.", "locations": [{"line": 1, "column": 3}], "path": ["compute_session_list"]}], "data": {"compute_session_list": null}}`},
		{"containers", "user", `query($s: ID!) { compute_container_list(limit: 9, offset: 0, session_id: $s, role: "sub", order: "") { items { role idx } total_count } }`, map[string]any{"s": "2cc9ccaa73d548fea0cd44c18489fd75"},
			`{"data": {"compute_container_list": {"items": [], "total_count": 0}}}`},
		{"what a keypair has", "user", `{ keypair { vfolders { name max_size num_files } running: compute_sessions(status: "TERMINATED") { name status } } }`, nil,
			`{"data": {"keypair": {"vfolders": [{"name": "data", "max_size": 5, "num_files": 0}], "running": [{"name": "s3", "status": "TERMINATED"}]}}}`},
		{"folders", "admin", `{ vfolder_list(limit: 9, offset: 0, filter: "permission == \"READ_WRITE\" & usage_mode == \"GENERAL\"") { items { name user_email group ownership_type permission } total_count } }`, nil,
			`{"data": {"vfolder_list": {"items": [{"name": "data", "user_email": "user@lablup.com", "group": null, "ownership_type": "user", "permission": "rw"}], "total_count": 1}}}`},
		{"kernels of agents", "admin", `{ agents { id compute_containers(status: "RUNNING") { session_id status } } }`, nil,
			`{"data": {"agents": [{"id": "i-fake-000", "compute_containers": []}, {"id": "i-fake-001", "compute_containers": [{"session_id": "2cc9ccaa-73d5-48fe-a0cd-44c18489fd75", "status": "RUNNING"}]}]}}`},
		{"agents by status", "admin", `{ agent_list(limit: 1, offset: 0, status: "foo") { total_count } }`, nil,
			`{"errors": [{"message": "'foo'", "locations": [{"line": 1, "column": 3}], "path": ["agent_list"]}], "data": {"agent_list": null}}`},
		{"null is nothing", "user", `query($s: String, $r: String!, $a: String, $l: Int!) { compute_session_list(limit: $l, offset: 0, status: $s) { total_count } image(reference: $r, architecture: $a) { name } }`, map[string]any{"s": nil, "r": "python", "a": nil, "l": "5", "more": 1},
			`{"data": {"compute_session_list": {"total_count": 31}, "image": {"name": "stable/python"}}}`},
		{"numbers as texts", "admin", `query($n: String) { domain(name: $n) { name } }`, map[string]any{"n": 3}, `{"data": {"domain": null}}`},
		{"a variable too few", "user", `query($id: UUID!) { compute_session(id: $id) { name } }`, nil,
			`{"errors": [{"message": "Variable \"$id\" of required type \"UUID!\" was not provided.", "locations": [{"line": 1, "column": 7}]}]}`},
		{"a UUID that is none", "user", `query($id: UUID!) { x: compute_session(id: $id) { name } }`, map[string]any{"id": "foo"},
			`{"errors": [{"message": "badly formed hexadecimal UUID string", "locations": [{"line": 1, "column": 21}], "path": ["x"]}], "data": {"x": null}}`},
		{"a variable of the wrong type", "user", `query($g: String!) { group(id: $g) { name } }`, map[string]any{"g": "foo"},
			`{"errors": [{"message": "Variable \"$g\" of type \"String!\" used in position expecting type \"UUID!\".", "locations": [{"line": 1, "column": 7}, {"line": 1, "column": 32}]}]}`},
		{"a type that is not served", "admin", `{ storage_volume(id: "x") { id } }`, nil, `{"errors": [{"message": "Cannot query field \"storage_volume\" on type \"Queries\".", "locations": [{"line": 1, "column": 3}]}]}`},
		{"fragments", "user", `query Q { ...F } fragment F on Queries { ... on Queries { user(email: "admin@lablup.com") { email } } }`, nil,
			`{"errors": [{"message": "Forbidden operation.", "locations": [{"line": 1, "column": 59}], "path": ["user"]}], "data": {"user": null}}`},
		{"own id", "user", `{ user_from_uuid(user_id: "dfa9da54-4b28-432f-be29-c0d680c7a412") { email groups { name } is_active } }`, nil,
			`{"data": {"user_from_uuid": {"email": "user@lablup.com", "groups": [{"name": "default"}], "is_active": true}}}`},
		{"users who are not active", "domain-admin", `{ users(is_active: false) { email } b: users(status: "gone") { email } }`, nil,
			`{"errors": [{"message": "'gone' is not a valid UserStatus", "locations": [{"line": 1, "column": 37}], "path": ["b"]}], "data": {"users": [{"email": "new-b8b18d@example.com"}], "b": null}}`},
		{"users of a group", "admin", `query($g: UUID) { user_list(limit: 1, offset: 0, group_id: $g, filter: "role == \"SUPERADMIN\"") { items { email } total_count } }`, map[string]any{"g": "2de2b969-1d04-48a6-af16-0bc8adb3c831"},
			`{"data": {"user_list": {"items": [{"email": "admin@lablup.com"}], "total_count": 1}}}`},
		{"secrets of superiors", "domain-admin", `{ keypairs(email: "admin@lablup.com") { secret_key } b: keypairs(email: "user@lablup.com") { secret_key } }`, nil,
			`{"data": {"keypairs": [{"secret_key": null}], "b": [{"secret_key": "C8qnIo29EZvXkPK_MXcuAakYTy4NYrxwmCEyNPlf"}]}}`},
		{"another domain", "domain-admin", `{ domain(name: "other") { name } groups(domain_name: "other") { name } keypairs(domain_name: "other") { user_id } }`, nil,
			`{"errors": [{"message": "Forbidden operation.", "locations": [{"line": 1, "column": 72}], "path": ["keypairs"]}, {"message": "Insufficient privilege.", "locations": [{"line": 1, "column": 34}], "path": ["groups"]}, {"message": "No such domain.", "locations": [{"line": 1, "column": 3}], "path": ["domain"]}], "data": {"domain": null, "groups": null, "keypairs": null}}`},
		{"scaling groups", "admin", `{ scaling_groups_for_user_group(user_group: "2de2b969-1d04-48a6-af16-0bc8adb3c831") { name } scaling_groups_for_keypair(access_key: "AKIANABBDUSEREXAMPLE", is_active: true) { name } group(id: "2de2b969-1d04-48a6-af16-0bc8adb3c831") { scaling_groups } }`, nil,
			`{"data": {"scaling_groups_for_user_group": [{"name": "default"}], "scaling_groups_for_keypair": [{"name": "default"}], "group": {"scaling_groups": ["default"]}}}`},
		{"images where agents are hidden", "user", `{ images(is_installed: true) { installed installed_agents } b: images(is_installed: false) { name } }`, nil,
			`{"data": {"images": [{"installed": true, "installed_agents": null}], "b": []}}`},
		{"the own policy", "user", `{ keypair_resource_policy { name idle_timeout } resource_preset { name } }`, nil, `{"data": {"keypair_resource_policy": {"name": "default", "idle_timeout": 3600}, "resource_preset": null}}`},
		{"legacy order", "user", `{ legacy_compute_session_list(limit: 1, offset: 0, order_key: "cluster_size", order_asc: false, status: "RUNNING") { items { sess_type cpu_slot mounts } } }`, nil,
			`{"data": {"legacy_compute_session_list": {"items": [{"sess_type": "INTERACTIVE", "cpu_slot": 1.0, "mounts": null}]}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := s.ask(t, c.as, c.query, c.variables); normal(got) != normal(c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// normal sorts errors, whose order depends on which resolver ends first.
func normal(text string) string {
	head, rest, ok := strings.Cut(text, `}], "data"`)
	if !ok {
		return text
	}
	list := strings.Split(strings.TrimPrefix(head, `{"errors": [{`), "}, {\"message")
	for i := range list {
		list[i] = strings.TrimPrefix(list[i], `"message`)
	}
	slices.Sort(list)
	return strings.Join(list, "\n") + rest
}
