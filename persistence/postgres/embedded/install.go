package embedded

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	backendai "backend.ai/manager"
)

// oldest is the first version the schema works with: generated defaults, SCRAM,
// and trusted extensions aside, 11 is what the original's settings assume.
const oldest = 11

// Installation is a directory with the programs of one PostgreSQL version.
type Installation struct {
	Major int
	Bin   string // directory of initdb and postgres
}

// places are the globs where distributions put the programs. PATH comes on top.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/lib64/pgsql*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/libexec/postgresql*",
}

// Find lists the installations of this machine, newest first. Directories given
// are looked at instead of the usual places.
func Find(ctx context.Context, dirs ...string) []Installation {
	if len(dirs) == 0 {
		for _, glob := range places {
			found, _ := filepath.Glob(glob)
			dirs = append(dirs, found...)
		}
		if initdb, err := exec.LookPath("initdb"); err == nil {
			if real, err := filepath.EvalSymlinks(initdb); err == nil {
				initdb = real
			}
			dirs = append(dirs, filepath.Dir(initdb))
		}
	}
	var list []Installation
	seen := map[int]bool{}
	for _, dir := range dirs {
		if major := majorOf(ctx, dir); major >= oldest && !seen[major] {
			seen[major] = true
			list = append(list, Installation{Major: major, Bin: dir})
		}
	}
	slices.SortFunc(list, func(a, b Installation) int { return cmp.Compare(b.Major, a.Major) })
	return list
}

var versionShape = regexp.MustCompile(`PostgreSQL\) (\d+)`)

// majorOf asks the server program for its version; 0 when there is no usable pair of programs.
func majorOf(ctx context.Context, dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	m := versionShape.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// choose picks the installation for a cluster: its own version, or the newest
// when there is none yet. Errors: ServerMisconfigured.
func choose(list []Installation, dataDir string) (Installation, error) {
	version, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if err != nil {
		if len(list) == 0 {
			return Installation{}, backendai.Errorf(backendai.ServerMisconfigured,
				"no PostgreSQL %d or newer found on this machine; install it (Debian and Ubuntu: the package postgresql) or point manager.toml at a server", oldest)
		}
		return list[0], nil
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(version)))
	for _, i := range list {
		if i.Major == major {
			return i, nil
		}
	}
	have := "none at all"
	if len(list) > 0 {
		names := make([]string, len(list))
		for i, in := range list {
			names[i] = fmt.Sprint(in.Major)
		}
		have = strings.Join(names, ", ")
	}
	return Installation{}, backendai.Errorf(backendai.ServerMisconfigured,
		"%s was made by PostgreSQL %d, but this machine has %s; install that version, or upgrade the data with pg_upgrade", dataDir, major, have)
}
