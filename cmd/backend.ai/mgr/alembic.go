package mgr

import (
	"bufio"
	"bytes"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// alembicURL reads sqlalchemy.url of the section [alembic]: all that this program needs of an alembic.ini. "%%" is a percent sign and
// "%(here)s" the directory of the file. (spec/config-cli-ops §1.8) Errors: InvalidConfig.
func alembicURL(path string, text []byte) (string, error) {
	section, value, found := "", "", false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.TrimSpace(strings.Trim(line, "[]"))
		case section == "alembic":
			i := strings.IndexAny(line, "=:")
			if i > 0 && strings.TrimSpace(line[:i]) == "sqlalchemy.url" {
				value, found = strings.TrimSpace(line[i+1:]), true
			}
		}
	}
	if err := lines.Err(); err != nil {
		return "", backendai.Errorf(backendai.InvalidConfig, "%s: %v", path, err)
	}
	if !found || value == "" {
		return "", backendai.Errorf(backendai.InvalidConfig, "%s: sqlalchemy.url of the section [alembic] is required", path)
	}
	return strings.NewReplacer("%%", "%", "%(here)s", filepath.Dir(path)).Replace(value), nil
}

// databaseURL turns "postgresql://user:password@host:port/name" into a configuration; the scheme may name a driver,
// "postgresql+psycopg2". Errors: InvalidConfig, never with the password.
func databaseURL(source, text string) (postgres.Config, error) {
	bad := backendai.Errorf(backendai.InvalidConfig, "%s must be a URL of the form postgresql://user:password@host:port/name", source)
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return postgres.Config{}, bad
	}
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	name := strings.Trim(u.Path, "/")
	if scheme != "postgresql" && scheme != "postgres" || u.Hostname() == "" || name == "" {
		return postgres.Config{}, bad
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	password, _ := u.User.Password()
	return postgres.Config{Addr: net.JoinHostPort(u.Hostname(), port), Name: name, User: u.User.Username(), Password: password}, nil
}
