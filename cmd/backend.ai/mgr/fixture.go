package mgr

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/persistence/postgres/fixture"
)

func fixtureGroup(o *options) *cobra.Command {
	return console.Group("fixture", "Load rows from files",
		o.with(&cobra.Command{
			Use: "populate FIXTURE_PATH", Short: "Load the rows of a fixture; those that exist are skipped", Args: cobra.ExactArgs(1),
			Long: `Load the rows of a fixture: a JSON file, table → list of rows; "-" is standard input. Rows whose keys exist already are
skipped, so loading a file twice changes nothing. Each table is loaded whole or not at all.`,
			RunE: o.run(populate),
		}),
		o.with(&cobra.Command{
			Use: "list", Short: "Deprecated; does nothing", Args: cobra.NoArgs, Hidden: true,
			RunE: o.run(func(_ context.Context, t *tools, _ *cobra.Command, _ []string) error {
				t.log.Warn("This command is deprecated.")
				return nil
			}),
		}),
	)
}

func populate(ctx context.Context, t *tools, cmd *cobra.Command, args []string) error {
	in := cmd.InOrStdin()
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return backendai.Errorf(backendai.InvalidArgument, "%v", err)
		}
		defer f.Close()
		in = f
	}
	pool, err := t.database(ctx)
	if err != nil {
		return err
	}
	t.log.Info("Populating fixture '" + args[0] + "' ...")
	counts, err := fixture.Populate(ctx, pool, in)
	skipped := 0
	for _, c := range counts {
		t.log.Info("loaded", "table", c.Table, "inserted", c.Inserted, "skipped", c.Skipped)
		skipped += c.Skipped
	}
	if err != nil {
		return err
	}
	t.log.Info("Done")
	if skipped > 0 {
		t.log.Info("Some rows were skipped because they already exist.", "rows", skipped)
	}
	return console.Show(cmd, shownCounts(counts), func(io.Writer) error { return nil })
}

type shownCount struct {
	Table    string `json:"table"`
	Inserted int    `json:"inserted"`
	Skipped  int    `json:"skipped"`
}

func shownCounts(counts []fixture.Count) []shownCount {
	list := make([]shownCount, len(counts))
	for i, c := range counts {
		list[i] = shownCount(c)
	}
	return list
}
