package mgr

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
)

// replaceProcess becomes another program, so that signals, terminal and exit code are that program's own. A variable for tests.
var replaceProcess = syscall.Exec

func dbShell(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "dbshell [--psql-container ID_OR_NAME] [--psql-help] [PSQL_ARGS…]", Short: "Open psql on the manager's database", DisableFlagParsing: true,
		Long: `Open psql on the manager's database. All other arguments go to psql.

  --psql-container ID_OR_NAME   run psql in this container; "-" runs the psql of this machine. Without the option, the first
                                container whose name contains "half-db", else this machine's psql.
  --psql-help                   show psql's own help`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePsql(args)
			if err != nil {
				return err
			}
			if p.help {
				return cmd.Help()
			}
			return o.psql(cmd, p)
		},
	}
}

type psqlArgs struct {
	container string
	help      bool
	rest      []string
}

// parsePsql takes out what is for us: everything else is psql's, also what we would not know.
func parsePsql(args []string) (p psqlArgs, err error) {
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		switch {
		case name == "-h" || name == "--help":
			p.help = true
		case name == "--psql-help":
			p.rest = append(p.rest, "--help")
		case name == "--psql-container" && hasValue:
			p.container = value
		case name == "--psql-container":
			if i++; i == len(args) {
				return p, console.Usagef("Option '--psql-container' requires an argument.")
			}
			p.container = args[i]
		default:
			p.rest = append(p.rest, args[i])
		}
	}
	return p, nil
}

// psql becomes psql, here or in a container (spec/config-cli-ops §4.8).
func (o *options) psql(cmd *cobra.Command, p psqlArgs) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	db := databaseOf(cfg.DB)
	here, hereErr := exec.LookPath("psql")
	container := p.container
	if container == "" {
		if container = halfstackContainer(cmd); container == "" && hereErr == nil {
			container = "-"
		}
	}
	switch container {
	case "":
		fmt.Fprintln(cmd.ErrOrStderr(), "Could not find the halfstack postgres container. Please set the container name explicitly.")
		return console.Exit(1)
	case "-":
		if hereErr != nil {
			return backendai.Errorf(backendai.ServerMisconfigured, "there is no psql on this machine (Debian and Ubuntu: the package postgresql-client)")
		}
		// The process list is everybody's; the environment is not.
		env := append(os.Environ(), "PGPASSWORD="+db.Password)
		return replaceProcess(here, append([]string{"psql", urlOf(db)}, p.rest...), env)
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return backendai.Errorf(backendai.ServerMisconfigured, "there is no docker on this machine to reach the container %s with", container)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "using the db container %s ...\n", container)
	args := append([]string{"docker", "exec", "-i", "-t", container, "psql", "-U", db.User, "-d", db.Name}, p.rest...)
	return replaceProcess(docker, args, os.Environ())
}

// halfstackContainer is the name of the development set-up's database container, if it runs.
func halfstackContainer(cmd *cobra.Command) string {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(cmd.Context(), docker, "ps", "--filter", "name=half-db", "--format", "{{.Names}}").Output()
	if err != nil {
		return ""
	}
	name, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(name)
}
