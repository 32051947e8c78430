package enqueue

import (
	"encoding/json"
	"errors"
	"testing"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

func TestWishes(t *testing.T) {
	heeded := protocol.Options{Priority: true}
	for name, c := range map[string]struct {
		opts    string
		role    backendai.UserRole
		options protocol.Options
		code    backendai.Code
	}{
		"none":                    {opts: `{"shmem": 67108864}`, role: backendai.RoleUser, options: heeded},
		"lower":                   {opts: `{"priority": -10}`, role: backendai.RoleUser, options: heeded},
		"higher":                  {opts: `{"priority": 1}`, role: backendai.RoleUser, options: heeded, code: backendai.InsufficientPrivilege},
		"higher, a text":          {opts: `{"priority": "1"}`, role: backendai.RoleUser, options: heeded, code: backendai.InsufficientPrivilege},
		"higher, unheeded":        {opts: `{"priority": 1}`, role: backendai.RoleUser},
		"higher, domain's admin":  {opts: `{"priority": 1000}`, role: backendai.RoleAdmin, options: heeded},
		"higher, superadmin":      {opts: `{"priority": 1000}`, role: backendai.RoleSuperadmin, options: heeded},
		"too high":                {opts: `{"priority": 1001}`, role: backendai.RoleSuperadmin, options: heeded, code: backendai.InvalidAPIParameters},
		"nonsense":                {opts: `{"priority": "high"}`, role: backendai.RoleUser, code: backendai.InvalidAPIParameters},
		"nonsense of another one": {opts: `{"time_limit": "soon"}`, role: backendai.RoleUser, code: backendai.InvalidAPIParameters},
	} {
		err := checkWishes(json.RawMessage(c.opts), &Facts{Owner: Owner{RequesterRole: c.role}, Options: c.options})
		if c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

func TestQueueLimits(t *testing.T) {
	for name, c := range map[string]struct {
		options protocol.Options
		waiting Waiting
		refused string
	}{
		"no limit":      {waiting: Waiting{1_000_000, 1_000_000}},
		"room":          {options: protocol.Options{MaxPending: 10, MaxPendingPerKeypair: 3}, waiting: Waiting{9, 2}},
		"full":          {options: protocol.Options{MaxPending: 10}, waiting: Waiting{10, 0}, refused: "The scaling group g lets at most 10 sessions wait, and 10 do; try again when some have started."},
		"lowered since": {options: protocol.Options{MaxPending: 10}, waiting: Waiting{25, 0}, refused: "The scaling group g lets at most 10 sessions wait, and 25 do; try again when some have started."},
		"own": {options: protocol.Options{MaxPending: 10, MaxPendingPerKeypair: 3}, waiting: Waiting{5, 3},
			refused: "The scaling group g lets at most 3 sessions of a keypair wait, and 3 of AKTEST do; try again when some have started."},
	} {
		err := checkQueue("g", &Facts{Owner: Owner{AccessKey: "AKTEST"}, Options: c.options, Waiting: c.waiting})
		var e *backendai.Error
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.refused != "" && (!errors.As(err, &e) || e.Code != backendai.QuotaExceeded || e.Code.HTTPStatus() != 412 || *e.Message != c.refused):
			t.Errorf("%s: %v", name, err)
		}
	}
}
