package server_test

import (
	"strings"

	"backend.ai/manager/test/golden"
)

// differences are the answers that are meant to be others than the original's, by name of entry.
var differences = map[string]golden.Difference{
	"create, unknown config key": {
		Why: "500 in the original; every unknown parameter is named (spec/rest-session §3.3)",
		Want: func(r *golden.Response) {
			invalid(r, "Input validation error")["data"] = map[string]any{"oops": "oops is not allowed key"}
		},
	},
	"create, unknown domain": {
		Why:  "500 in the original (spec/rest-session §3.4 step 4)",
		Want: func(r *golden.Response) { invalid(r, "Invalid domain") },
	},
	"create, old api version": {
		Why: "500 in the original, which misses what that version does not have; the request is complete for its version (spec/rest-session §3.3)",
		Want: func(r *golden.Response) {
			success(r, 201)
			r.Body = map[string]any{"sessionId": anyID, "sessionName": oldVersion, "status": "RUNNING", "servicePorts": servicePorts(), "created": true}
		},
	},
	"create again, reuse": {
		Why:  "clients read servicePorts, so both forms are there (spec/rest-session §3.6)",
		Want: func(r *golden.Response) { r.Body.(map[string]any)["servicePorts"] = servicePorts() },
	},
	"info, other user's by owner key": {
		Why: "owner_access_key of the query string counts everywhere: official clients send it with every call (spec/rest-session §1.5)",
		Want: func(r *golden.Response) {
			success(r, 200)
			r.Headers["X-RateLimit-Limit"] = "1000000"
			r.Body = map[string]any{
				"domainName": "default", "groupId": anyID, "userId": anyID, "lang": recordedImage, "image": recordedImage, "architecture": "x86_64",
				"registry": "127.0.0.1:5000", "tag": nil, "containerId": strings.Repeat("0", 64), "occupiedSlots": "{'cpu': Decimal('1'), 'mem': Decimal('268435456')}",
				"occupiedShares": "{}", "environ": "['A=1']", "status": "RUNNING", "statusInfo": "", "statusData": map[string]any{}, "age": 0.0,
				"creationTime": "2026-11-24 17:47:28.091114+00:00", "terminationTime": nil, "numQueriesExecuted": 0.0, "lastStat": nil,
			}
		},
	},
	"complete": {
		Why: "agents answer null, for which clients get no candidates (spec/rest-session §6.4)",
		Want: func(r *golden.Response) {
			r.Body = map[string]any{"result": map[string]any{"status": "finished", "completions": []any{}}}
		},
	},
	"destroy, forced by a user": {
		Why: "22.03.3, which was recorded, refuses it; 22.03.14 lets everybody force the end of own sessions (spec/rest-session §4.4)",
		Want: func(r *golden.Response) {
			success(r, 200)
			r.Body = map[string]any{"stats": map[string]any{"status": "terminated"}}
		},
	},
	"destroy again": {
		Why: "a session has ended for good when DELETE is answered, so the next one finds none; the original's row lags behind (replayed on a session " +
			"that is ending by \"while it ends\")",
		Want: func(r *golden.Response) {
			r.Status = 404
			r.Body = map[string]any{"type": "https://api.backend.ai/probs/object-not-found", "title": "No such session."}
		},
	},
}

// anyID stands for an id that is compared by shape.
const anyID = "00000000-0000-0000-0000-000000000000"

func servicePorts() []any {
	port := func(name, protocol string, number float64) any {
		return map[string]any{"name": name, "protocol": protocol, "ports": []any{number}}
	}
	return []any{port("jupyter", "http", 8081), port("web", "http", 8090), port("sshd", "tcp", 2200), port("ttyd", "http", 7681)}
}

// invalid makes the answer a refusal of parameters.
func invalid(r *golden.Response, msg string) map[string]any {
	r.Status = 400
	body := map[string]any{"type": "https://api.backend.ai/probs/invalid-api-params", "title": "Missing or invalid API parameters.", "msg": msg}
	r.Body = body
	return body
}

// success makes a refusal an answer with JSON.
func success(r *golden.Response, status int) {
	r.Status = status
	r.Headers["Content-Type"] = "application/json; charset=utf-8"
	r.Headers["X-RateLimit-Limit"], r.Headers["X-RateLimit-Remaining"], r.Headers["X-RateLimit-Window"] = "30000", "29700", "900"
}
