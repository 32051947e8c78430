package client

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
)

// EnvFile is the file in a data directory that holds the keys of a cluster on this machine.
const EnvFile = "client.env"

// DataDir is where `backend.ai up` keeps a cluster unless told otherwise: for root /var/lib/backend.ai (nobody else, the user of
// PostgreSQL included, gets into /root), for others $XDG_DATA_HOME/backend.ai, by default ~/.local/share/backend.ai.
func DataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/backend.ai"
	}
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if u, e := user.Current(); err != nil && e == nil { // started by something that sets no HOME
			home = u.HomeDir
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "backend.ai")
}

// FindConfig finds out where the API is and with which keys to ask: the data directory if one is given, else the environment, else the
// default data directory. Errors: InvalidConfig, saying what could be done.
func FindConfig(dataDir string, getenv func(string) string) (Config, error) {
	if dataDir == "" && getenv("BACKEND_ENDPOINT") != "" {
		return configOf(getenv, "the environment")
	}
	dir := dataDir
	if dir == "" {
		dir = DataDir()
	}
	path := filepath.Join(dir, EnvFile)
	text, err := os.ReadFile(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return Config{}, backendai.Errorf(backendai.InvalidConfig, "%v", err)
		}
		return Config{}, backendai.Errorf(backendai.InvalidConfig, "there is no cluster to ask: %s does not exist. Start one with `backend.ai up`, "+
			"or set BACKEND_ENDPOINT, BACKEND_ACCESS_KEY and BACKEND_SECRET_KEY", path)
	}
	values := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		if name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok {
			values[strings.TrimPrefix(name, "export ")] = strings.Trim(value, `"'`)
		}
	}
	return configOf(func(name string) string { return values[name] }, path)
}

func configOf(get func(string) string, source string) (Config, error) {
	c := Config{Endpoint: get("BACKEND_ENDPOINT"), AccessKey: backendai.AccessKey(get("BACKEND_ACCESS_KEY")), SecretKey: backendai.SecretKey(get("BACKEND_SECRET_KEY"))}
	switch {
	case c.Endpoint == "" || c.AccessKey == "" || c.SecretKey == "":
		return Config{}, backendai.Errorf(backendai.InvalidConfig, "%s must give BACKEND_ENDPOINT, BACKEND_ACCESS_KEY and BACKEND_SECRET_KEY", source)
	case get("BACKEND_ENDPOINT_TYPE") == "session":
		return Config{}, backendai.Errorf(backendai.InvalidConfig, "%s has BACKEND_ENDPOINT_TYPE=session; only api is known here: use the API's endpoint and keys", source)
	}
	// The official client takes a list of endpoints.
	c.Endpoint, _, _ = strings.Cut(c.Endpoint, ",")
	return c, nil
}

// Open makes a client for a command that WithData has given its flag.
func Open(cmd *cobra.Command) (*Client, error) { return open(cmd) }

// WithData adds the flag that names a cluster of this machine.
func WithData(c *cobra.Command) *cobra.Command { return withData(c) }

// open makes a client for a command.
func open(cmd *cobra.Command) (*Client, error) {
	dir, _ := cmd.Flags().GetString("data")
	c, err := FindConfig(dir, os.Getenv)
	if err != nil {
		return nil, err
	}
	if f := cmd.Flag("skip-sslcert-validation"); f != nil {
		c.SkipVerify = f.Value.String() == "true"
	}
	return New(c)
}

// withData adds the flag that names a cluster of this machine.
func withData(c *cobra.Command) *cobra.Command {
	c.Flags().String("data", "", "data directory of a cluster on this machine, whose keys to use (default: the environment's keys, else those in "+DataDir()+")")
	return c
}
