package session

import (
	"encoding/json"
	"errors"
	"net/http"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/api"
)

// flushTimeout is how long the agent gathers output before it answers "continued", in seconds.
var flushTimeout = 2.0

// executeBody is the body of POST /session/{s}. RunID tells a missing member from null.
type executeBody struct {
	Mode    *string         `json:"mode"`
	RunID   json.RawMessage `json:"runId"`
	Code    *string         `json:"code"`
	Options callosum.Map    `json:"options"`
}

func refuse(message string) error {
	return backendai.Errorf(backendai.InvalidAPIParameters, "%s", message)
}

// jsonBody decodes a body that must be there (these handlers take no query string).
func jsonBody(r *api.Request, into any) error {
	body, err := r.Body()
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return refuse("Expecting value: line 1 column 1 (char 0)")
	}
	if err := json.Unmarshal(body, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return backendai.InvalidParameters("Input validation error", map[string]any{wrong.Field: "value is not " + wrong.Type.String()})
		}
		return refuse("Malformed body")
	}
	return nil
}

// execute runs code in a session, or polls a run (spec/rest-session §6).
func (s *Resource) execute(r *api.Request) error {
	var body executeBody
	if err := jsonBody(r, &body); err != nil {
		return err
	}
	run, err := runID(body.RunID)
	if err != nil {
		return err
	}
	mode, code := "", ""
	if body.Mode != nil {
		mode = *body.Mode
	}
	if body.Code != nil {
		code = *body.Code
	}
	switch mode {
	case "":
		return refuse("mode is missing or empty!")
	case "query", "batch", "complete":
	case "continue", "input":
		if run == nil {
			return refuse("continuation requires explicit run ID")
		}
	default:
		return refuse("mode has an invalid value.")
	}
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	if mode == "complete" {
		return s.answerCompletion(r, m.ID.String(), code, body.Options)
	}
	version := r.Version.Major
	if version == 4 {
		version = 3 // as the original tells agents
	}
	result, err := call(s, r, m.ID, callosum.Execute{
		KernelID: m.ID.String(), APIVersion: version, RunID: run, Mode: mode, Code: code, Opts: body.Options, FlushTimeout: &flushTimeout,
	}, callTimeout, true)
	if err != nil {
		return err
	}
	return r.JSON(resultOf(result))
}

func runID(raw json.RawMessage) (*string, error) {
	if raw == nil {
		return nil, refuse("runId is missing!")
	}
	var run *string
	if err := json.Unmarshal(raw, &run); err != nil {
		return nil, refuse("runId must be a text or null")
	}
	return run, nil
}

// executeResult is a result in the original's order.
type executeResult struct {
	Status   string       `json:"status"`
	RunID    string       `json:"runId"`
	ExitCode *int         `json:"exitCode"`
	Options  callosum.Map `json:"options"`
	Files    []any        `json:"files"`
	Console  [][]any      `json:"console"`
}

func resultOf(e callosum.ExecuteResult) any {
	res := executeResult{Status: e.Status, RunID: e.RunID, ExitCode: e.ExitCode, Options: e.Options, Files: []any{}, Console: e.Console}
	if res.Console == nil {
		res.Console = [][]any{}
	}
	if res.Status == "waiting-input" && res.Options == nil {
		res.Options = callosum.Map{} // never null: clients look into it
	}
	return struct {
		Result executeResult `json:"result"`
	}{res}
}

// complete asks for code completions (spec/rest-session §6.4).
func (s *Resource) complete(r *api.Request) error {
	var body struct {
		Code    string       `json:"code"`
		Options callosum.Map `json:"options"`
	}
	if err := jsonBody(r, &body); err != nil {
		return err
	}
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	return s.answerCompletion(r, m.ID.String(), body.Code, body.Options)
}

// answerCompletion answers with no completions when the agent has none to give, or does not answer at all: most runners
// never do (spec/rest-session §6.4, BUG).
func (s *Resource) answerCompletion(r *api.Request, kernel, code string, options callosum.Map) error {
	id, err := backendai.ParseSessionID(kernel)
	if err != nil {
		return err
	}
	result, err := call(s, r, id.UUID, callosum.GetCompletions{KernelID: kernel, Text: code, Opts: options}, completeTimeout, true)
	var failure *backendai.Error
	if errors.As(err, &failure) && failure.Agent != nil && failure.Agent.Exception == "" {
		result, err = callosum.Completions{Status: "finished"}, nil
	}
	if err != nil {
		return err
	}
	if result.Completions == nil {
		result.Completions = []string{}
	}
	return r.JSON(struct {
		Result callosum.Completions `json:"result"`
	}{result})
}

// interrupt interrupts the running code (spec/rest-session §6.5).
func (s *Resource) interrupt(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	if _, err := call(s, r, m.ID, callosum.InterruptKernel{KernelID: m.ID.String()}, callTimeout, false); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

// logs is the container's log: what was kept of a dead session, else what the agent has (spec/rest-session §8.1).
func (s *Resource) logs(r *api.Request) error {
	m, err := s.find(r, true)
	if err != nil {
		return err
	}
	var text string
	stored, err := s.storedLog(r, m)
	switch {
	case err != nil:
		return err
	case stored != nil:
		text = *stored
	case m.Status.IsDead():
		return backendai.NewError(backendai.SessionNotFound)
	default:
		logs, err := call(s, r, m.ID, callosum.GetLogs{KernelID: m.ID.String()}, callTimeout, false)
		if err != nil {
			return err
		}
		text = logs.Logs
	}
	type result struct {
		Logs string `json:"logs"`
	}
	return r.JSON(struct {
		Result result `json:"result"`
	}{result{text}})
}
