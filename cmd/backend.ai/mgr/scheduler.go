package mgr

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/cmd/backend.ai/client"
	"backend.ai/manager/cmd/backend.ai/console"
)

// schedulerGroup is scheduler: what the schedulers have decided, and why.
func schedulerGroup() *cobra.Command {
	return console.Group("scheduler", "Record what a scheduler decides, and have it decided again", recordScheduler(), replayScheduler())
}

func recordScheduler() *cobra.Command {
	var path string
	c := client.WithData(&cobra.Command{
		Use: "record GROUP", Short: "Fetch the last steps of a scaling group's scheduler", Args: cobra.ExactArgs(1),
		Example: `  backend.ai mgr scheduler record default -o default.jsonl`,
		Long: `Fetch the record of a scaling group's scheduler: the state from which its last steps start, and each step with its time and a sum over what it
has led to, as JSON lines. It holds names, ids, amounts and quotas, no keys, passwords or environments.

The managers keep records when scheduler-record in the table [actors] of manager.toml says how many steps. The record is asked for with a
superadmin's keys (BACKEND_ENDPOINT, BACKEND_ACCESS_KEY and BACKEND_SECRET_KEY, or those of a cluster on this machine).`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			api, err := client.Open(cmd)
			if err != nil {
				return err
			}
			defer api.Close()
			if path == "" || path == "-" {
				return api.SchedulerRecord(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			f, err := os.Create(path)
			if err != nil {
				return backendai.Errorf(backendai.InvalidArgument, "%v", err)
			}
			err = api.SchedulerRecord(cmd.Context(), args[0], f)
			if err = errors.Join(err, f.Close()); err != nil {
				_ = os.Remove(path)
			}
			return err
		},
	})
	c.Flags().StringVarP(&path, "output", "o", "", "file to write (default: standard output)")
	return c
}

func replayScheduler() *cobra.Command {
	var step bool
	c := &cobra.Command{
		Use: "replay FILE", Short: "Have the steps of a record decided again, one by one", Args: cobra.ExactArgs(1),
		Example: `  backend.ai mgr scheduler replay default.jsonl
  backend.ai mgr scheduler replay --step default.jsonl
  backend.ai mgr scheduler replay --format json default.jsonl | jq 'select(.event == "pass")'`,
		Long: `Have the steps of a record decided again on a scheduler of their own, without any cluster, and show each with what it leads to. Every run
gives the same. A step that leads to something else than it did when it was recorded is marked, and the exit code is then 1.

FILE is what "record" has written; - is standard input.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return backendai.Errorf(backendai.InvalidArgument, "%v", err)
				}
				defer f.Close()
				in = f
			} else if step {
				return console.Usagef("With --step, standard input is for going on; name a file.")
			}
			return replay(cmd, in, step)
		},
	}
	c.Flags().BoolVar(&step, "step", false, "wait for a line of standard input after each step; q ends")
	return c
}

// replay makes the steps again and shows them.
func replay(cmd *cobra.Command, from io.Reader, stepwise bool) error {
	r, err := scheduler.NewReplay(from)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	defer out.Flush()
	keys := bufio.NewReader(cmd.InOrStdin())
	asJSON := console.WantsJSON(cmd)
	waiting, parked := r.Length()
	if !asJSON {
		fmt.Fprintf(out, "The scheduler of %s, %d steps from number %d on; %d sessions wait, %d of them parked.\n", r.Group, r.Steps, r.From, waiting, parked)
	}
	steps, others := 0, 0
	for cmd.Context().Err() == nil {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		steps++
		if !s.Same {
			others++
		}
		if err := showStep(out, s, asJSON); err != nil {
			return err
		}
		if stepwise {
			_ = out.Flush()
			if line, err := keys.ReadString('\n'); err != nil || line == "q\n" {
				break
			}
		}
	}
	if waiting, parked = r.Length(); !asJSON {
		fmt.Fprintf(out, "%d steps were made again; %d sessions wait, %d of them parked.\n", steps, waiting, parked)
	}
	if others > 0 {
		_ = out.Flush()
		return fmt.Errorf("%d of %d steps have led to something else than when they were recorded", others, steps)
	}
	return cmd.Context().Err()
}

func showStep(out io.Writer, s scheduler.Replayed, asJSON bool) error {
	if asJSON {
		text, err := json.Marshal(s)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", text)
		}
		return err
	}
	at := ""
	if !s.At.IsZero() {
		at = " at " + s.At.UTC().Format(time.RFC3339Nano)
	}
	fmt.Fprintf(out, "#%d %s%s %s\n", s.Step, s.Event, at, shortened(s.Data))
	for _, line := range s.Lines() {
		fmt.Fprintln(out, "    →", line)
	}
	if !s.Same {
		fmt.Fprintln(out, "    ≠ it has led to something else when it was recorded")
	}
	return nil
}

// longestData is how much of an event is shown to people.
const longestData = 200

func shortened(data []byte) string {
	if text := []rune(string(data)); len(text) > longestData {
		return string(text[:longestData]) + " …"
	}
	return string(data)
}
