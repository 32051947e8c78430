package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
)

// formatValue is the flag --format.
type formatValue struct{ json bool }

func (f *formatValue) String() string {
	if f.json {
		return "json"
	}
	return "console"
}

func (f *formatValue) Set(text string) error {
	switch text {
	case "json", "console":
		f.json = text == "json"
		return nil
	}
	return fmt.Errorf("'%s' is not one of 'json', 'console'", text)
}

func (f *formatValue) Type() string { return "FORMAT" }

// WantsJSON tells whether the caller asked for JSON.
func WantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flag("format")
	return f != nil && f.Value.String() == "json"
}

// Show writes a result: as JSON if that was asked for, else as text does.
func Show(cmd *cobra.Command, value any, text func(out io.Writer) error) error {
	if WantsJSON(cmd) {
		return WriteJSON(cmd.OutOrStdout(), value)
	}
	return text(cmd.OutOrStdout())
}

// WriteJSON writes a value as the original's command line does: four blanks of indentation, everything outside ASCII escaped.
func WriteJSON(w io.Writer, value any) error {
	compact, err := backendai.EncodeJSON(value)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "    "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// WriteTable writes columns side by side, two blanks apart, left-aligned. A nil header is none.
func WriteTable(w io.Writer, header []string, rows [][]string) error {
	if header != nil {
		rows = append([][]string{header}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell)+2))
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
