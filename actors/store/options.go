package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"backend.ai/manager/actors/protocol"
)

// longest is ten years: no half-life and no least run time is longer.
const longest = 10 * 365 * 24 * time.Hour

// problem is something in a scaling group's options that is not understood, in words for administrators.
type problem string

// told joins problems into one text, "" if there are none.
func told(list []problem) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = string(p)
	}
	return strings.Join(texts, "; ")
}

// policyOf reads a scaling group's scheduler, its scheduler_opts, and the options that all groups with this scheduler share (of etcd);
// the group's own win. What is not understood is told, and has the value that it would have had if it were not there.
// Whether there is a scheduler of that name is for schedulers to know.
func policyOf(scheduler string, own json.RawMessage, shared map[string]any) (p protocol.Policy, problems []problem) {
	p.Name = scheduler
	var opts struct {
		PendingTimeout json.RawMessage `json:"pending_timeout"`
		Config         json.RawMessage `json:"config"`
	}
	if len(own) > 0 && json.Unmarshal(own, &opts) != nil {
		problems = append(problems, "scheduler_opts is no object")
	}
	timeout, err := protocol.Seconds(opts.PendingTimeout)
	if err != nil {
		problems = append(problems, problem(fmt.Sprintf("pending_timeout: %s is no number of seconds, nor a text such as 90m, 2h, 1d", shown(opts.PendingTimeout))))
	}
	p.PendingTimeout = timeout
	config := maps.Clone(shared)
	if config == nil {
		config = make(map[string]any)
	}
	if len(opts.Config) > 0 {
		var over map[string]any
		if json.Unmarshal(opts.Config, &over) != nil {
			problems = append(problems, "config is no object")
		}
		maps.Copy(config, over)
	}
	r := options{config: config, problems: problems}
	p.RetriesToSkip = r.count("num_retries_to_skip")
	o, more := optionsOf(config)
	p.Options = o
	return p, append(r.problems, more...)
}

// optionsOf reads what goes beyond the original's schedulers, by the names that protocol.Options says. Names that it doesn't know may be
// meant for others and are left alone; null is as if it were not there.
func optionsOf(config map[string]any) (protocol.Options, []problem) {
	r := options{config: config}
	o := protocol.Options{
		Priority:             r.truth("priority"),
		Backfill:             r.truth("backfill"),
		Preemption:           r.truth("preemption"),
		PreemptionMinRuntime: r.seconds("preemption_min_runtime"),
		FairShareHalfLife:    r.seconds("fair_share_half_life"),
		Placement:            r.oneOf("placement", "spread", "pack"),
		MaxPending:           r.count("max_pending_sessions"),
		MaxPendingPerKeypair: r.count("max_pending_sessions_per_keypair"),
	}
	return o, r.problems
}

// options reads a config object member by member and gathers what is wrong. Values in etcd are texts; so all may be.
type options struct {
	config   map[string]any
	problems []problem
}

// raw is a member as JSON, nil if it is not there or null.
func (r *options) raw(name string) json.RawMessage {
	v, ok := r.config[name]
	if !ok || v == nil {
		return nil
	}
	doc, err := json.Marshal(v)
	if err != nil { // only what json.Unmarshal has made gets here
		return json.RawMessage("?")
	}
	return doc
}

func (r *options) wrong(name string, value json.RawMessage, want string) {
	r.problems = append(r.problems, problem(fmt.Sprintf("%s: %s is not %s", name, shown(value), want)))
}

// shown is a value as administrators may see it: not longer than a line.
func shown(value json.RawMessage) string {
	if len(value) > 60 {
		return string([]rune(string(value[:60]))) + "…"
	}
	return string(value)
}

func (r *options) truth(name string) bool {
	value := r.raw(name)
	v, err := protocol.Truth(value)
	if err != nil {
		r.wrong(name, value, "true or false")
	}
	return v
}

func (r *options) seconds(name string) time.Duration {
	value := r.raw(name)
	d, err := protocol.Seconds(value)
	if err != nil || d > longest {
		r.wrong(name, value, "a number of seconds or a text such as 90m, 2h, 7d, of at most ten years")
		return 0
	}
	return d
}

// count reads a whole number that is not negative.
func (r *options) count(name string) int {
	value := r.raw(name)
	if value == nil {
		return 0
	}
	var text json.Number // takes numbers and texts
	if json.Unmarshal(value, &text) == nil {
		if n, err := text.Float64(); err == nil && n >= 0 && n <= 1<<31 && n == float64(int(n)) {
			return int(n)
		}
	}
	r.wrong(name, value, "a whole number that is not negative")
	return 0
}

func (r *options) oneOf(name string, words ...string) string {
	value := r.raw(name)
	var word string
	if value == nil || json.Unmarshal(value, &word) == nil && (word == "" || slices.Contains(words, word)) {
		return word
	}
	r.wrong(name, value, "one of "+strings.Join(words, ", "))
	return ""
}
