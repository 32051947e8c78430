package protocol

import (
	"bytes"
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
)

// policyDoc is a policy as people write it: the names are those of the policies' options (spec/scheduling-lifecycle §9, Options).
type policyDoc struct {
	Name                 string          `json:"name"`
	RetriesToSkip        int             `json:"num_retries_to_skip,omitempty"`
	PendingTimeout       json.RawMessage `json:"pending_timeout,omitempty"`
	Priority             bool            `json:"priority,omitempty"`
	Backfill             bool            `json:"backfill,omitempty"`
	Preemption           bool            `json:"preemption,omitempty"`
	PreemptionMinRuntime json.RawMessage `json:"preemption_min_runtime,omitempty"`
	FairShareHalfLife    json.RawMessage `json:"fair_share_half_life,omitempty"`
	Placement            string          `json:"placement,omitempty"`
	MaxPending           int             `json:"max_pending_sessions,omitempty"`
	MaxPendingPerKeypair int             `json:"max_pending_sessions_per_keypair,omitempty"`
}

// MarshalJSON writes the policy's name and those of its options that are not off.
func (p Policy) MarshalJSON() ([]byte, error) {
	o := p.Options
	return json.Marshal(policyDoc{
		Name: p.Name, RetriesToSkip: p.RetriesToSkip, PendingTimeout: secondsOf(p.PendingTimeout), Priority: o.Priority, Backfill: o.Backfill,
		Preemption: o.Preemption, PreemptionMinRuntime: secondsOf(o.PreemptionMinRuntime), FairShareHalfLife: secondsOf(o.FairShareHalfLife),
		Placement: o.Placement, MaxPending: o.MaxPending, MaxPendingPerKeypair: o.MaxPendingPerKeypair,
	})
}

// UnmarshalJSON reads what MarshalJSON writes; durations may also be texts such as "90m". Errors: InvalidArgument.
func (p *Policy) UnmarshalJSON(raw []byte) error {
	var d policyDoc
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return backendai.Errorf(backendai.InvalidArgument, "The policy is not understood: %v.", err)
	}
	*p = Policy{Name: d.Name, RetriesToSkip: d.RetriesToSkip, Options: Options{Priority: d.Priority, Backfill: d.Backfill, Preemption: d.Preemption,
		Placement: d.Placement, MaxPending: d.MaxPending, MaxPendingPerKeypair: d.MaxPendingPerKeypair}}
	for _, f := range []struct {
		name string
		raw  json.RawMessage
		into *time.Duration
	}{
		{"pending_timeout", d.PendingTimeout, &p.PendingTimeout},
		{"preemption_min_runtime", d.PreemptionMinRuntime, &p.Options.PreemptionMinRuntime},
		{"fair_share_half_life", d.FairShareHalfLife, &p.Options.FairShareHalfLife},
	} {
		var err error
		if *f.into, err = Seconds(f.raw); err != nil || *f.into < 0 {
			return backendai.Errorf(backendai.InvalidArgument, "The policy's %s must be a number of seconds, or a text such as 90m, 2h, 1d.", f.name)
		}
	}
	return nil
}

// secondsOf writes a duration as a number of seconds; nil for none.
func secondsOf(d time.Duration) json.RawMessage {
	if d == 0 {
		return nil
	}
	text, _ := backendai.DecimalScaled(int64(d), 9).Normalize().MarshalText()
	return text
}
