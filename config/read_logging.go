package config

import (
	"slices"
	"strconv"
	"strings"
)

func number64(n int64) string { return strconv.FormatInt(n, 10) }

func levelNames() string {
	names := make([]string, len(Levels))
	for i, l := range Levels {
		names[i] = string(l)
	}
	return strings.Join(names, ", ")
}

func (r *reader) level(key string, v any) Level {
	text, ok := v.(string)
	if l, known := levelOf(text); ok && known {
		return l
	}
	r.bad(key, v, "must be one of %s", levelNames())
	return "INFO"
}

var logDrivers = []string{"console", "logstash", "file"}

// logging reads [logging] (spec/config-cli-ops §1.5). A console without a table of its own has the defaults; the original refuses it.
func (r *reader) logging() Logging {
	l := Logging{Level: "INFO", Namespaces: defaultNamespaces()}
	if v := r.get("logging.level"); v != nil {
		l.Level = r.level("logging.level", v)
	}
	if r.table("logging.pkg-ns") {
		l.Namespaces = map[string]Level{}
		for name, v := range r.get("logging.pkg-ns").(map[string]any) {
			l.Namespaces[name] = r.level("logging.pkg-ns."+strconv.Quote(name), v)
		}
	}
	drivers := r.texts("logging.drivers", []string{"console"})
	for _, d := range drivers {
		if !slices.Contains(logDrivers, d) {
			r.bad("logging.drivers", d, "must be some of %s", strings.Join(logDrivers, ", "))
		}
	}
	if slices.Contains(drivers, "console") {
		l.Console = r.console()
	}
	if slices.Contains(drivers, "file") {
		l.File = &File{
			Dir:          r.path("logging.file.path", ""),
			Name:         r.required("logging.file.filename"),
			Backups:      r.int("logging.file.backup-count", 5, 1, 100),
			RotationSize: r.size("logging.file.rotation-size", 10<<20),
		}
		r.required("logging.file.path")
		if strings.ContainsRune(l.File.Name, '/') {
			r.bad("logging.file.filename", l.File.Name, "must be a name without folders; they go into logging.file.path")
		}
		r.choice("logging.file.format", "verbose", "simple", "verbose")
	}
	if slices.Contains(drivers, "logstash") {
		if r.get("logging.logstash.endpoint") == nil {
			r.bad("logging.logstash.endpoint", nil, "is required: %s", hostPortAllowed)
		}
		l.Logstash = &Logstash{
			Endpoint: r.hostPort("logging.logstash.endpoint", HostPort{}),
			Protocol: r.choice("logging.logstash.protocol", "tcp", "zmq.push", "zmq.pub", "tcp", "udp"),
			TLS:      r.bool("logging.logstash.ssl-enabled", true),
			Verify:   r.bool("logging.logstash.ssl-verify", true),
		}
	}
	return l
}

func (r *reader) console() *Console {
	c := &Console{Simple: r.choice("logging.console.format", "verbose", "simple", "verbose") == "simple"}
	if r.get("logging.console.colored") != nil {
		colored := r.bool("logging.console.colored", false)
		c.Colored = &colored
	}
	return c
}
