package store

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backend.ai/manager/actors/protocol"
)

func TestPolicyOf(t *testing.T) {
	for name, c := range map[string]struct {
		opts    string
		shared  string
		want    protocol.Policy
		problem string
	}{
		"nothing":        {},
		"null":           {opts: `{"pending_timeout": null, "config": {"num_retries_to_skip": null, "priority": null, "placement": null, "fair_share_half_life": null}}`},
		"the original's": {opts: `{"allowed_session_types": ["batch"], "pending_timeout": 90.5, "config": {"num_retries_to_skip": 3}}`, want: protocol.Policy{RetriesToSkip: 3, PendingTimeout: 90500 * time.Millisecond}},
		"all": {opts: `{"config": {"priority": true, "backfill": true, "preemption": true, "preemption_min_runtime": 60, "fair_share_half_life": "7d",
			"placement": "spread", "max_pending_sessions": 100, "max_pending_sessions_per_keypair": 5, "somebody_elses": {"x": 1}}}`,
			want: protocol.Policy{Options: protocol.Options{Priority: true, Backfill: true, Preemption: true, PreemptionMinRuntime: time.Minute, FairShareHalfLife: 7 * 24 * time.Hour,
				Placement: "spread", MaxPending: 100, MaxPendingPerKeypair: 5}}},
		"texts, as etcd has them": {shared: `{"num_retries_to_skip": "2", "priority": "true", "backfill": "false", "fair_share_half_life": "3600", "placement": "pack", "max_pending_sessions": "10"}`,
			want: protocol.Policy{RetriesToSkip: 2, Options: protocol.Options{Priority: true, FairShareHalfLife: time.Hour, Placement: "pack", MaxPending: 10}}},
		"the group's own win": {shared: `{"priority": true, "placement": "pack", "max_pending_sessions": 3}`, opts: `{"config": {"priority": false, "placement": null}}`,
			want: protocol.Policy{Options: protocol.Options{MaxPending: 3}}},
		"a slip in one leaves the others": {opts: `{"config": {"priority": "yess", "placement": "pack"}}`, want: protocol.Policy{Options: protocol.Options{Placement: "pack"}},
			problem: `priority: "yess" is not true or false`},
		"unknown placement":  {opts: `{"config": {"placement": "bestfit"}}`, problem: `placement: "bestfit" is not one of spread, pack`},
		"placement, no text": {opts: `{"config": {"placement": true}}`, problem: `placement: true is not one of spread, pack`},
		"negative":           {opts: `{"config": {"max_pending_sessions": -1}}`, problem: `max_pending_sessions: -1 is not a whole number that is not negative`},
		"a fraction":         {opts: `{"config": {"num_retries_to_skip": 1.5}}`, problem: `num_retries_to_skip: 1.5 is not a whole number that is not negative`},
		"no number":          {opts: `{"config": {"num_retries_to_skip": true}}`, problem: `num_retries_to_skip: true is not a whole number that is not negative`},
		"no duration":        {opts: `{"config": {"fair_share_half_life": "soon"}}`, problem: `fair_share_half_life: "soon" is not a number of seconds or a text such as 90m, 2h, 7d, of at most ten years`},
		"negative duration":  {opts: `{"config": {"preemption_min_runtime": -5}}`, problem: `preemption_min_runtime: -5 is not a number of seconds or a text such as 90m, 2h, 7d, of at most ten years`},
		"endless":            {opts: `{"config": {"fair_share_half_life": "11000d"}}`, problem: `fair_share_half_life: "11000d" is not a number of seconds or a text such as 90m, 2h, 7d, of at most ten years`},
		"negative timeout":   {opts: `{"pending_timeout": -3}`, problem: `pending_timeout: -3 is no number of seconds, nor a text such as 90m, 2h, 1d`},
		"timeout, a list":    {opts: `{"pending_timeout": [1]}`, problem: `pending_timeout: [1] is no number of seconds, nor a text such as 90m, 2h, 1d`},
		"no object":          {opts: `[1]`, problem: `scheduler_opts is no object`},
		"config, no object": {opts: `{"pending_timeout": "1m", "config": 3}`, shared: `{"priority": true}`,
			want: protocol.Policy{PendingTimeout: time.Minute, Options: protocol.Options{Priority: true}}, problem: `config is no object`},
		"two": {opts: `{"pending_timeout": "x", "config": {"backfill": 7}}`, problem: `pending_timeout: "x" is no number of seconds, nor a text such as 90m, 2h, 1d; backfill: 7 is not true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			var shared map[string]any
			if c.shared != "" {
				if err := json.Unmarshal([]byte(c.shared), &shared); err != nil {
					t.Fatal(err)
				}
			}
			c.want.Name = "fifo"
			p, problems := policyOf("fifo", json.RawMessage(c.opts), shared)
			if d := cmp.Diff(c.want, p); d != "" {
				t.Errorf("policy (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.problem, told(problems)); d != "" {
				t.Errorf("problem (-want +got):\n%s", d)
			}
		})
	}
}

// Whatever is written there, reading it does not fail, what comes out is in bounds, and what is left at its default for being wrong is told.
func TestOptionsBearAnything(t *testing.T) {
	names := []string{"priority", "backfill", "preemption", "preemption_min_runtime", "fair_share_half_life", "placement", "max_pending_sessions", "max_pending_sessions_per_keypair"}
	values := rapid.OneOf(rapid.Float64().AsAny(), rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.SampledFrom([]any{nil, map[string]any{}, []any{"x"}, "spread", "1h", "true", 3.0}))
	rapid.Check(t, func(t *rapid.T) {
		config := rapid.MapOf(rapid.SampledFrom(names), values).Draw(t, "config")
		o, problems := optionsOf(config)
		if o.MaxPending < 0 || o.MaxPendingPerKeypair < 0 || o.FairShareHalfLife < 0 || o.FairShareHalfLife > longest || o.PreemptionMinRuntime < 0 || o.PreemptionMinRuntime > longest {
			t.Fatalf("%+v", o)
		}
		text := told(problems)
		for name, v := range config {
			switch v := v.(type) {
			case map[string]any, []any:
				if !strings.Contains(text, name) {
					t.Fatalf("%s: %v is not told: %s", name, v, text)
				}
			case nil:
				if strings.Contains(text, name+":") {
					t.Fatalf("%s is not there, and told: %s", name, text)
				}
			}
		}
	})
}
