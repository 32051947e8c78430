package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	backendai "backend.ai/manager"
)

// Options of Load.
type Options struct {
	// Path is the explicit file of -f; empty = search (Find).
	Path string
	// Debug is --debug: debug.enabled, everything at level DEBUG (spec/config-cli-ops §1.6).
	Debug bool
	// Getenv replaces the process's environment; nil = os.Getenv.
	Getenv func(string) string
	// Hostname replaces the machine's name; empty = os.Hostname.
	Hostname string
}

// Load finds, reads and checks manager.toml. Errors: InvalidConfig, with every problem of the file at once.
func Load(o Options) (*Manager, error) {
	path, err := Find(o.Path, o.Getenv)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "%s can't be read: %v", path, errors.Unwrap(err))
	}
	return Parse(path, text, o)
}

// Parse is Load for a text already read; path is for messages and Manager.Path. Of the file system it looks only at the files which
// the keys name.
func Parse(path string, text []byte, o Options) (*Manager, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Hostname == "" {
		o.Hostname, _ = os.Hostname()
	}
	root := map[string]any{}
	if err := toml.Unmarshal(text, &root); err != nil {
		var d *toml.DecodeError
		if errors.As(err, &d) {
			line, column := d.Position()
			return nil, backendai.Errorf(backendai.InvalidConfig, "%s:%d:%d is no TOML: %s", path, line, column, strings.TrimPrefix(d.Error(), "toml: "))
		}
		return nil, backendai.Errorf(backendai.InvalidConfig, "%s is no TOML: %v", path, err)
	}
	r := &reader{tables: root, origin: map[string]string{}}
	r.environment(o.Getenv)
	m := r.manager(o)
	m.Path = path
	if o.Debug {
		m.SetDebug()
	}
	if err := Invalid(path, r.problems); err != nil {
		return nil, err
	}
	return m, nil
}

// SetDebug is what --debug does (spec/config-cli-ops §1.6).
func (m *Manager) SetDebug() {
	m.Debug.Enabled = true
	m.Logging.Level = "DEBUG"
	ns := map[string]Level{"ai.backend": "DEBUG", "aiohttp": "DEBUG"}
	for name, level := range m.Logging.Namespaces {
		if _, ok := ns[name]; !ok {
			ns[name] = level
		}
	}
	m.Logging.Namespaces = ns
}

// environment puts the variables of spec/config-cli-ops §1.4 over the tables, as texts. Where the original's own handling has no effect
// or breaks, they do what is documented. Empty variables count as absent.
func (r *reader) environment(getenv func(string) string) {
	for _, v := range []struct{ name, key string }{
		{"BACKEND_NAMESPACE", "etcd.namespace"},
		{"BACKEND_ETCD_ADDR", "etcd.addr"},
		{"BACKEND_ETCD_USER", "etcd.user"},
		{"BACKEND_ETCD_PASSWORD", "etcd.password"},
		{"BACKEND_DB_ADDR", "db.addr"},
		{"BACKEND_DB_NAME", "db.name"},
		{"BACKEND_DB_USER", "db.user"},
		{"BACKEND_DB_PASSWORD", "db.password"},
		{"BACKEND_MANAGER_NPROC", "manager.num-proc"},
		{"BACKEND_SSL_CERT", "manager.ssl-cert"},
		{"BACKEND_SSL_KEY", "manager.ssl-privkey"},
		{"BACKEND_PID_FILE", "manager.pid-file"},
		{"BACKEND_LOG_FILE_COUNT", "logging.file.backup-count"},
	} {
		if text := getenv(v.name); text != "" {
			r.set(v.key, v.name, text)
		}
	}
	if path := getenv("BACKEND_LOG_FILE"); path != "" {
		r.set("logging.file.path", "BACKEND_LOG_FILE", filepath.Dir(path))
		r.set("logging.file.filename", "BACKEND_LOG_FILE", filepath.Base(path))
	}
	if size := getenv("BACKEND_LOG_FILE_SIZE"); size != "" { // in MiB
		r.set("logging.file.rotation-size", "BACKEND_LOG_FILE_SIZE", strings.TrimSpace(size)+"M")
	}
	ip, port := getenv("BACKEND_SERVICE_IP"), getenv("BACKEND_SERVICE_PORT")
	if ip == "" && port == "" {
		return
	}
	// Either may stand alone, over the other half of whatever form the file uses.
	base, err := hostPortOf(r.get("manager.service-addr"))
	if err != nil {
		base = defaultServiceAddr
	}
	host, portText, names := base.Host, fmt.Sprint(base.Port), []string{}
	if ip != "" {
		host, names = ip, append(names, "BACKEND_SERVICE_IP")
	}
	if port != "" {
		portText, names = port, append(names, "BACKEND_SERVICE_PORT")
	}
	r.set("manager.service-addr", strings.Join(names, ", "), map[string]any{"host": host, "port": portText})
}
