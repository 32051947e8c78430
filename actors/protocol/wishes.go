package protocol

import (
	"encoding/json"
	"math"
	"time"

	backendai "backend.ai/manager"
)

// MaxPriority bounds the priorities of sessions, in both directions.
const MaxPriority = 1000

// maxTimeLimit is ten years: what is longer is no limit.
const maxTimeLimit = 10 * 365 * 24 * time.Hour

// WishesOf reads what a session's resource_opts say to schedulers. Names that are not there say nothing; null says nothing either.
// Errors: InvalidAPIParameters, with the name of the option that is not understood.
func WishesOf(opts json.RawMessage) (w Wishes, err error) {
	if len(opts) == 0 || string(opts) == "null" {
		return w, nil
	}
	var o struct {
		Priority    json.RawMessage `json:"priority"`
		Preemptible json.RawMessage `json:"preemptible"`
		TimeLimit   json.RawMessage `json:"time_limit"`
	}
	if err := json.Unmarshal(opts, &o); err != nil {
		return w, backendai.Errorf(backendai.InvalidAPIParameters, "resource_opts must be an object.").WithCause(err)
	}
	if n, ok, err := number(o.Priority); err != nil || ok && (n != math.Trunc(n) || math.Abs(n) > MaxPriority) {
		return Wishes{}, backendai.Errorf(backendai.InvalidAPIParameters, "resource_opts.priority must be a whole number from %d to %d.", -MaxPriority, MaxPriority)
	} else if ok {
		w.Priority = int(n)
	}
	if w.Preemptible, err = Truth(o.Preemptible); err != nil {
		return Wishes{}, backendai.Errorf(backendai.InvalidAPIParameters, "resource_opts.preemptible must be true or false.")
	}
	if w.TimeLimit, err = Seconds(o.TimeLimit); err != nil || w.TimeLimit < 0 || w.TimeLimit > maxTimeLimit {
		return Wishes{}, backendai.Errorf(backendai.InvalidAPIParameters, "resource_opts.time_limit must be a number of seconds, or a text such as 90m, 2h, 1d.")
	}
	return w, nil
}

// Seconds reads a number of seconds, or a text such as "90", "1.5h" or "2d". Nothing and null are 0. Errors: InvalidArgument.
func Seconds(raw json.RawMessage) (time.Duration, error) {
	text := string(raw)
	if text == "" || text == "null" {
		return 0, nil
	}
	if text[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, backendai.Errorf(backendai.InvalidArgument, "%s is no duration.", raw)
		}
	}
	return backendai.ParseDuration(text)
}

// number reads a number, also one that is written as a text: the official client's --resource-opts are texts. ok: there is one.
func number(raw json.RawMessage) (n float64, ok bool, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, false, nil
	}
	var text json.Number // takes both
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, false, err
	}
	if n, err = text.Float64(); err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, false, backendai.Errorf(backendai.InvalidAPIParameters, "%s is not a number.", text)
	}
	return n, true, nil
}

// Truth reads true or false, also as a text or a number. Nothing and null are false. Errors: InvalidAPIParameters.
func Truth(raw json.RawMessage) (bool, error) {
	switch string(raw) {
	case "", "null", "false", `"false"`, `"False"`, "0", `"0"`, `"no"`:
		return false, nil
	case "true", `"true"`, `"True"`, "1", `"1"`, `"yes"`:
		return true, nil
	}
	return false, backendai.Errorf(backendai.InvalidAPIParameters, "%s is neither true nor false.", raw)
}
