package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
)

// Ps lists sessions.
func Ps() *cobra.Command {
	var all, everybody bool
	c := withData(&cobra.Command{
		Use: "ps", Short: "List sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			statuses := LiveStatuses
			if all {
				statuses = nil
			}
			list, err := c.List(cmd.Context(), everybody, statuses)
			if err != nil {
				return err
			}
			return console.Show(cmd, append([]Session{}, list...), func(out io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(cmd.ErrOrStderr(), "There are no sessions.")
					return err
				}
				return console.WriteTable(out, []string{"SESSION", "NAME", "IMAGE", "TYPE", "STATUS", "CREATED", "INFO"}, rows(list))
			})
		},
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	c.Flags().BoolVar(&everybody, "everybody", false, "also those of others (administrators only)")
	return c
}

func rows(list []Session) [][]string {
	out := make([][]string, len(list))
	for i, s := range list {
		out[i] = []string{s.ID, s.Name, s.Image, s.Type, s.Status, age(s.CreatedAt), ""}
		if s.StatusInfo != nil {
			out[i][6] = *s.StatusInfo
		}
	}
	return out
}

// age shows a time of the API in the reader's zone.
func age(text *string) string {
	if text == nil {
		return ""
	}
	t, err := time.Parse(time.RFC3339Nano, *text)
	if err != nil {
		return *text
	}
	return t.Local().Format(time.DateTime)
}

// Rm ends sessions.
func Rm() *cobra.Command {
	var forced bool
	c := withData(&cobra.Command{
		Use: "rm SESSION…", Short: "End sessions, by name or id", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			shown := map[string]any{}
			var errs []error
			for _, session := range args {
				stats, err := c.Destroy(cmd.Context(), session, forced)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", session, err))
					continue
				}
				shown[session] = stats
				if !console.WantsJSON(cmd) {
					fmt.Fprintln(cmd.OutOrStdout(), session)
				}
			}
			if console.WantsJSON(cmd) {
				errs = append(errs, console.WriteJSON(cmd.OutOrStdout(), shown))
			}
			return errors.Join(errs...)
		},
	})
	c.Flags().BoolVarP(&forced, "forced", "f", false, "end them whatever state they are in")
	return c
}

// Logs prints what a session has written.
func Logs() *cobra.Command {
	return withData(&cobra.Command{
		Use: "logs SESSION", Short: "Print all that a session has written", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			text, err := c.ContainerLog(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return console.Show(cmd, struct {
				Logs string `json:"logs"`
			}{text}, func(out io.Writer) error {
				_, err := io.WriteString(out, text)
				return err
			})
		},
	})
}

// hint adds to a refusal what the person could do about it.
func hint(err error) error {
	var r *Refusal
	if errors.As(err, &r) && (r.Code() == backendai.AuthorizationFailed || r.Code() == backendai.InvalidAuthParameters) {
		return fmt.Errorf("%w\nThe keys do not fit the cluster: see BACKEND_ACCESS_KEY and BACKEND_SECRET_KEY, or --data", err)
	}
	return err
}
