package mgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config"
	"backend.ai/manager/config/logging"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/schema"
)

const defaultAlembic = "alembic.ini"

func schemaGroup(o *options) *cobra.Command {
	var alembic string
	with := func(c *cobra.Command) *cobra.Command {
		o.register(c.Flags(), "")
		c.Flags().StringVarP(&alembic, "alembic-config", "f", defaultAlembic, "INI file whose sqlalchemy.url names the database; without such a file manager.toml does")
		return c
	}
	return console.Group("schema", "Make and upgrade the database's tables",
		with(&cobra.Command{
			Use: "show", Short: "Show the schema's revision", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				t, target, err := o.openSchema(cmd, alembic)
				if err != nil {
					return err
				}
				defer t.close()
				return showSchema(cmd.Context(), t, target, cmd)
			},
		}),
		with(&cobra.Command{
			Use: "oneshot", Short: "Make the tables, or upgrade those of an older version", Args: cobra.MaximumNArgs(1), // "head", of older guides
			Long: `Make all tables in an empty database, or bring the tables of an existing installation to what this version needs. A database
of the original manager is adopted as it is and stays usable for it. Running it again changes nothing. All managers must be
stopped for an upgrade.`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				t, target, err := o.openSchema(cmd, alembic)
				if err != nil {
					return err
				}
				defer t.close()
				return oneshot(cmd.Context(), t, target, cmd)
			},
		}),
	)
}

// openSchema finds the database: the INI file wins over manager.toml, and each is enough (spec/config-cli-ops §1.8).
func (o *options) openSchema(cmd *cobra.Command, alembic string) (*tools, postgres.Config, error) {
	t, tomlErr := o.open(cmd)
	var ini []byte
	path, err := filepath.Abs(alembic)
	if err == nil {
		ini, err = os.ReadFile(path)
	}
	absent := errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("alembic-config")
	switch {
	case err != nil && !absent:
		err = backendai.Errorf(backendai.InvalidConfig, "%s can't be read: %v", alembic, errors.Unwrap(err))
	case absent && tomlErr != nil:
		err = tomlErr
	case absent:
		return t, databaseOf(t.cfg.DB), nil
	default:
		err = nil
	}
	var text string
	if err == nil {
		text, err = alembicURL(path, ini)
	}
	var target postgres.Config
	if err == nil {
		target, err = databaseURL(alembic+": sqlalchemy.url", text)
	}
	if err != nil {
		if t != nil {
			t.close()
		}
		return nil, target, err
	}
	target.AppName, target.MaxConns = "backend.ai-mgr", 4
	if tomlErr != nil { // not needed, then
		system, err := logging.Setup(config.Logging{Level: "INFO", Console: &config.Console{}}, cmd.ErrOrStderr())
		if err != nil {
			return nil, target, err
		}
		return &tools{log: system.Logger}, target, nil
	}
	if own := databaseOf(t.cfg.DB); own.Addr != target.Addr || own.Name != target.Name {
		t.log.Warn("the alembic file and manager.toml name different databases; the former counts here", "alembic", target.Addr+"/"+target.Name, "manager", own.Addr+"/"+own.Name)
	}
	return t, target, nil
}

func showSchema(ctx context.Context, t *tools, target postgres.Config, cmd *cobra.Command) error {
	pool, err := t.connect(ctx, target)
	if err != nil {
		return err
	}
	state, err := schema.Status(ctx, pool)
	if err != nil {
		return err
	}
	shown := struct {
		Current *string `json:"current"`
		Head    string  `json:"head"`
		Version int64   `json:"actors_version"`
		Latest  int64   `json:"actors_latest"`
		Ready   bool    `json:"ready"`
	}{Head: state.Head, Version: state.Version, Latest: state.Latest, Ready: state.Ready()}
	current := "None"
	if state.Revision != "" {
		current, shown.Current = state.Revision, &state.Revision
	}
	return console.Show(cmd, shown, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "Current database revision: %s\nThe head revision of available migrations: %s\nVersion of schema %s: %d of %d\n",
			current, state.Head, schema.Ours, state.Version, state.Latest)
		return err
	})
}

func oneshot(ctx context.Context, t *tools, target postgres.Config, cmd *cobra.Command) error {
	pool, err := t.connect(ctx, target)
	if err != nil {
		return err
	}
	result, err := schema.Oneshot(ctx, pool, func(text string) { t.log.Info(text) })
	if err != nil {
		return err
	}
	if !console.WantsJSON(cmd) {
		return nil
	}
	return console.WriteJSON(cmd.OutOrStdout(), struct {
		Found   schema.Found `json:"found"`
		Before  string       `json:"revision_before"`
		Head    string       `json:"revision"`
		Applied []int64      `json:"applied"`
	}{result.Found, result.Revision, schema.Head, append([]int64{}, result.Applied...)})
}
