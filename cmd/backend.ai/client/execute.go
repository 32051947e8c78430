package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	backendai "backend.ai/manager"
)

// Output is one piece of what code has written.
type Output struct {
	Kind string // stdout, stderr, html, log, media
	Text string // of media, its type
	Data string // of media, its content
}

// UnmarshalJSON reads ["stdout", "text"] and ["media", ["image/png", "…"]].
func (o *Output) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return fmt.Errorf("a piece of output has %d parts", len(parts))
	}
	if err := json.Unmarshal(parts[0], &o.Kind); err != nil {
		return err
	}
	if json.Unmarshal(parts[1], &o.Text) == nil {
		return nil
	}
	var media [2]string
	if err := json.Unmarshal(parts[1], &media); err != nil {
		o.Text = string(parts[1])
		return nil
	}
	o.Text, o.Data = media[0], media[1]
	return nil
}

// MarshalJSON is the form that UnmarshalJSON reads.
func (o Output) MarshalJSON() ([]byte, error) {
	if o.Kind == "media" {
		return json.Marshal([]any{o.Kind, []string{o.Text, o.Data}})
	}
	return json.Marshal([]any{o.Kind, o.Text})
}

// result is one answer to a run (spec/rest-session §6.2).
type result struct {
	Status   string   `json:"status"`
	RunID    string   `json:"runId"`
	ExitCode *int     `json:"exitCode"`
	Console  []Output `json:"console"`
	Options  struct {
		IsPassword bool `json:"is_password"`
	} `json:"options"`
}

// Talk is what a run needs from whoever started it.
type Talk struct {
	// Write gets output as it comes.
	Write func(Output)
	// Read answers a prompt; secret input should not be shown. Nil: there is nobody to ask.
	Read func(ctx context.Context, secret bool) (string, error)
}

// Execute runs code in a session and returns the exit code that the session tells. When ctx ends the code is interrupted. Errors also:
// DeadlineExceeded when the session's execution limit was reached.
func (c *Client) Execute(ctx context.Context, session, code string, t Talk) (exit int, err error) {
	run := strings.ToLower(strings.NewReplacer("-", "x", "_", "y").Replace(backendai.RandomToken(12)))
	mode := "query"
	for {
		var answer struct {
			Result result `json:"result"`
		}
		err := c.request(ctx, "POST", at(session, ""), nil, map[string]any{"mode": mode, "runId": run, "code": code, "options": map[string]any{}}, &answer)
		if err != nil {
			return 0, c.interrupted(ctx, session, err)
		}
		r := answer.Result
		if r.RunID != "" {
			run = r.RunID
		}
		for _, o := range r.Console {
			t.Write(o)
		}
		mode, code = "continue", ""
		switch r.Status {
		case "finished":
			if r.ExitCode != nil {
				exit = *r.ExitCode
			}
			return exit, nil
		case "exec-timeout":
			return 0, backendai.Errorf(backendai.DeadlineExceeded, "the code ran longer than the session allows")
		case "waiting-input":
			if t.Read == nil {
				return 0, c.interrupted(ctx, session, backendai.Errorf(backendai.InvalidArgument, "the code asks for input, and there is nobody to give it"))
			}
			if code, err = t.Read(ctx, r.Options.IsPassword); err != nil {
				return 0, c.interrupted(ctx, session, err)
			}
			mode = "input"
		}
	}
}

// interrupted stops the session's code when the run is given up on purpose, so that the session is usable again.
func (c *Client) interrupted(ctx context.Context, session string, err error) error {
	var refused *Refusal
	if errors.As(err, &refused) || errors.Is(err, backendai.ServiceUnavailable) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	return errors.Join(err, c.Interrupt(ctx, session))
}
