package mgr

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config/sample"
)

func generateKeypair() *cobra.Command {
	return &cobra.Command{
		Use: "generate-keypair", Short: "Draw a keypair; nothing is stored", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			access, secret := backendai.NewKeypair()
			shown := struct {
				Access string `json:"access_key"`
				Secret string `json:"secret_key"`
			}{string(access), secret.Reveal()}
			return console.Show(cmd, shown, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "Access Key: %s (%d bytes)\nSecret Key: %s (%d bytes)\n", shown.Access, len(shown.Access), shown.Secret, len(shown.Secret))
				return err
			})
		},
	}
}

func sampleConfig() *cobra.Command {
	return &cobra.Command{
		Use: "sample-config [halfstack|production]", Short: "Print an example of manager.toml", Args: cobra.MaximumNArgs(1),
		ValidArgs: []string{"halfstack", "production"},
		RunE: func(cmd *cobra.Command, args []string) error {
			text := sample.Production
			switch {
			case len(args) == 0 || args[0] == "production":
			case args[0] == "halfstack":
				text = sample.Halfstack
			default:
				return console.Usagef("There is no example '%s'; there are halfstack and production.", args[0])
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
