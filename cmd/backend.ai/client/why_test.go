package client

import (
	"strings"
	"testing"
)

const waits = `{"session_id": "i1", "name": "one", "status": "PENDING", "position": 1, "waiting": 2, "sentences": ["No room."], "reasons": [{"kind": "no-agent"}], "changes": [{"kind": "fewer-slots", "sentence": "With less."}]}`

func TestWhyOnce(t *testing.T) {
	_, f := serve(t, func(call string) (int, string) { return 200, waits })
	code, out, errs := command(t, "", "why", "one")
	if code != 0 || out != "one is number 1 of 2 that wait.\nNo room.\nIt would start now if\n  - With less.\n" || f.calls[0] != "GET /session/one/why" {
		t.Error(code, out, errs, f.calls)
	}
}

// A stream that breaks off is opened again, and what is known is not told twice.
func TestWhyFollowed(t *testing.T) {
	streams := []string{
		"event: why\r\ndata: " + waits + "\r\n\r\n: ping\r\n\r\nevent: why\r\nda",
		"event: why\r\ndata: " + waits + "\r\n\r\nevent: done\r\ndata: {\"name\": \"one\", \"status\": \"PREPARING\", \"sentences\": [\"It starts.\"]}\r\n\r\n",
	}
	answer := func() func(string) (int, string) {
		n := 0
		return func(string) (int, string) { n++; return 200, streams[n-1] }
	}
	_, f := serve(t, answer())
	code, out, errs := command(t, "", "why", "--follow", "one")
	if code != 0 || strings.Count(out, "No room.") != 1 || !strings.HasSuffix(out, "It starts.\n") || len(f.calls) != 2 || f.calls[1] != "GET /session/one/why/stream" {
		t.Error(code, out, errs, f.calls)
	}
	serve(t, answer())
	code, out, errs = command(t, "", "why", "--follow", "--format", "json", "one")
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], `{"session_id": "i1"`) || !strings.Contains(lines[1], "PREPARING") {
		t.Error(code, out, errs)
	}
	serve(t, func(string) (int, string) { return 404, `{"title": "No such session."}` })
	if code, _, errs := command(t, "", "why", "--follow", "none"); code != 1 || errs != "Error: No such session (404)\n" {
		t.Error(code, errs)
	}
}

func TestPlan(t *testing.T) {
	_, f := serve(t, func(call string) (int, string) {
		if strings.Contains(call, `"cpu":"99"`) {
			return 200, `{"name": "x", "image": "python", "resources": {"cpu": "99", "mem": "1"}, "scaling_group": "default", "starts": false, "position": 3, "waiting": 7, "placements": [], "sentences": ["No room."], "reasons": [{}], "changes": [{"sentence": "With less."}]}`
		}
		return 200, `{"name": "x", "image": "python", "resources": {"cpu": "1", "mem": "1", "tpu": "0"}, "scaling_group": "default", "starts": true, "waiting": 0, "placements": [{"cluster_role": "main", "cluster_idx": 1, "agent": "i-1"}], "sentences": [], "reasons": [], "changes": []}`
	})
	code, out, errs := command(t, "", "plan", "python", "-s", "name", "--scaling-group", "default", "--cluster-size", "2", "--cluster-mode", "multi-node", "--resource-opts", "priority=3")
	if code != 0 || out != "python with cpu=1 mem=1 in default: it would start now.\n  main1 on i-1\n" {
		t.Error(code, out, errs)
	}
	for _, want := range []string{"POST /session/_/plan ", `"clientSessionToken":"name"`, `"scaling_group":"default"`, `"cluster_size":2`, `"cluster_mode":"multi-node"`, `"resource_opts":{"priority":"3"}`} {
		if !strings.Contains(f.calls[0], want) {
			t.Errorf("%s is missing in %s", want, f.calls[0])
		}
	}
	if code, out, errs = command(t, "", "plan", "python", "-r", "cpu=99"); code != 0 || out != "python with cpu=99 mem=1 in default: it would wait, as number 3 of 7.\nNo room.\nIt would start now if\n  - With less.\n" {
		t.Error(code, out, errs)
	}
	if code, out, _ = command(t, "", "plan", "--format", "json", "python"); code != 0 || !strings.Contains(out, `"starts": true`) {
		t.Error(code, out)
	}
	if code, _, errs = command(t, "", "plan", "python", "-r", "cpu"); code != 2 {
		t.Error(code, errs)
	}
}
