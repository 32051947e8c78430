package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
)

// Wait is why a session waits, and what would start it now.
type Wait struct {
	SessionID string            `json:"session_id"`
	Name      string            `json:"name"`
	Status    string            `json:"status"`
	Position  int               `json:"position,omitempty"`
	Waiting   int               `json:"waiting,omitempty"`
	Retries   int               `json:"retries,omitempty"`
	Sentences []string          `json:"sentences"`
	Note      string            `json:"note,omitempty"` // the scaling group's options are not those that were written
	Reasons   []json.RawMessage `json:"reasons"`
	Changes   []json.RawMessage `json:"changes"`
}

// Why asks why a session waits.
func (c *Client) Why(ctx context.Context, session string) (wait Wait, err error) {
	err = c.request(ctx, "GET", at(session, "/why"), nil, nil, &wait)
	return wait, err
}

// FollowWhy hands over what Why answers, at once and whenever it changes, until the session does not wait any more: then once with done.
// A stream that ends before, because a node stops, is opened again.
func (c *Client) FollowWhy(ctx context.Context, session string, told func(wait Wait, done bool) error) error {
	fails, last := 0, ""
	for {
		ended := false
		err := c.events(ctx, at(session, "/why/stream"), nil, func(name string, data []byte) error {
			var w Wait
			if name != "why" && name != "done" {
				return nil
			}
			if err := json.Unmarshal(data, &w); err != nil {
				return fmt.Errorf("%s sent something else than was asked for: %w", c.base, err)
			}
			fails, ended = 0, name == "done"
			if text := string(data); ended || text != last { // a stream that is opened again begins with what is known
				last = text
				return told(w, ended)
			}
			return nil
		})
		var refused *Refusal
		switch {
		case ended || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case errors.As(err, &refused) && refused.Status < 500, err != nil && backendai.CodeOf(err) != backendai.ServiceUnavailable && refused == nil:
			return err
		}
		if fails++; fails > followTries {
			return backendai.Errorf(backendai.ServiceUnavailable, "%s ends the stream again and again", c.base).WithCause(err)
		}
		select {
		case <-time.After(time.Duration(fails) * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followTries is how often in a row a stream is opened again.
const followTries = 8

// events reads server-sent events until the stream ends.
func (c *Client) events(ctx context.Context, path string, query url.Values, event func(name string, data []byte) error) error {
	resp, err := c.send(ctx, "GET", path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	name, data := "", ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return c.brokenOff(err)
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimPrefix(value, " "); {
		case line == "" && (name != "" || data != ""):
			if err := event(name, []byte(data)); err != nil {
				return err
			}
			name, data = "", ""
		case field == "event":
			name = value
		case field == "data":
			if data != "" {
				data += "\n"
			}
			data += value
		}
	}
}

// Why tells why a session waits.
func Why() *cobra.Command {
	var follow bool
	c := withData(&cobra.Command{
		Use: "why SESSION", Short: "Tell why a session waits, and what would start it now", Args: cobra.ExactArgs(1),
		Example: `  backend.ai why train-7
  backend.ai why --follow train-7
  backend.ai why --follow --format json train-7 | jq -r '.sentences[]'`,
		Long: `Tell why a session waits: which limit or which agents stand in its way, by how much, and who is ahead of it. Then the changes of which any
alone would start it now; each was tried on a copy of the scheduler's state. Administrators also see changes that concern others.

With --follow it is told again whenever it changes, until the session does not wait any more; with --format json as one object a line.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if !follow {
				why, err := c.Why(cmd.Context(), args[0])
				if err != nil {
					return hint(err)
				}
				return console.Show(cmd, why, func(out io.Writer) error { return why.write(out) })
			}
			return hint(c.FollowWhy(cmd.Context(), args[0], func(why Wait, done bool) error {
				out := cmd.OutOrStdout()
				if console.WantsJSON(cmd) {
					text, err := backendai.EncodeJSON(why)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(out, "%s\n", text)
					return err
				}
				fmt.Fprintln(out, time.Now().Format(time.TimeOnly))
				return why.write(out)
			}))
		},
	})
	c.Flags().BoolVar(&follow, "follow", false, "go on telling it whenever it changes")
	return c
}

// write says it to people.
func (w Wait) write(out io.Writer) error {
	if w.Position > 0 {
		fmt.Fprintf(out, "%s is number %d of %d that wait.\n", w.Name, w.Position, w.Waiting)
	}
	for _, s := range w.Sentences {
		fmt.Fprintln(out, s)
	}
	if w.Note != "" {
		fmt.Fprintln(out, w.Note)
	}
	return writeChanges(out, "It would start now if", w.Changes)
}

// writeChanges lists what each alone would do.
func writeChanges(out io.Writer, head string, changes []json.RawMessage) error {
	if len(changes) == 0 {
		return nil
	}
	fmt.Fprintln(out, head)
	for _, raw := range changes {
		var change struct {
			Sentence string `json:"sentence"`
		}
		if err := json.Unmarshal(raw, &change); err != nil {
			return err
		}
		fmt.Fprintln(out, "  -", change.Sentence)
	}
	return nil
}
