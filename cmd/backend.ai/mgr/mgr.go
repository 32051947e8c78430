package mgr

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config"
)

// Command is the group mgr.
func Command() *cobra.Command {
	o := &options{}
	c := console.Group("mgr", "Run and administrate a manager",
		startServer(o), schemaGroup(o), fixtureGroup(o), etcdGroup(o), clusterGroup(o), schedulerGroup(), imageGroup(o), dbShell(o), clearHistory(o), generateKeypair(), sampleConfig())
	o.register(c.Flags(), "f")
	return c
}

// options say which configuration to use; they stand before the command or behind it.
type options struct {
	path  string
	debug bool
}

// register adds the flags; the last one that is given wins. A command that needs the short name for itself passes "".
func (o *options) register(flags *pflag.FlagSet, short string) {
	flags.StringVarP(&o.path, "config-path", short, "", "manager.toml to use instead of searching for it")
	flags.StringVar(&o.path, "config", "", "the same as --config-path")
	flags.BoolVar(&o.debug, "debug", false, "log everything")
	_ = flags.MarkHidden("config")
}

// with adds the flags to a command that needs the configuration.
func (o *options) with(c *cobra.Command) *cobra.Command {
	o.register(c.Flags(), "f")
	return c
}

func (o *options) load() (*config.Manager, error) {
	return config.Load(config.Options{Path: o.path, Debug: o.debug})
}
