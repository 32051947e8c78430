package config

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
)

var (
	defaultEtcdAddr    = HostPort{"127.0.0.1", 2379}
	defaultServiceAddr = HostPort{"0.0.0.0", 8080}
	databaseName       = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)
)

// manager reads every key of spec/config-cli-ops §1.3 and of [actors]. Only [etcd] and [db] must be there: the original also insists on
// empty tables for the rest.
func (r *reader) manager(o Options) *Manager {
	for _, name := range []string{"etcd", "db", "manager", "docker-registry", "logging", "debug", "actors"} {
		r.table(name)
	}
	m := &Manager{Etcd: r.etcd(), DB: r.db(), Service: r.service(o), Debug: r.debug(), Logging: r.logging()}
	m.Actors = r.actors(m.Service.ID)
	return m
}

func (r *reader) etcd() Etcd {
	return Etcd{
		Namespace: r.required("etcd.namespace"),
		Addrs:     r.hostPorts("etcd.addr", defaultEtcdAddr),
		User:      r.text("etcd.user", ""),
		Password:  NewSecret(r.text("etcd.password", "")),
	}
}

func (r *reader) db() DB {
	r.choice("db.type", "postgresql", "postgresql")
	d := DB{Name: r.required("db.name"), User: r.required("db.user"), Password: NewSecret(r.required("db.password"))}
	if d.Name != "" && (len(d.Name) < 2 || len(d.Name) > 64 || !databaseName.MatchString(d.Name)) {
		r.bad("db.name", d.Name, "must be 2 to 64 letters, digits, dots, dashes or underscores, with a letter or digit at both ends")
	}
	if r.get("db.addr") == nil {
		r.bad("db.addr", nil, "is required: %s", hostPortAllowed)
	}
	d.Addr = r.hostPort("db.addr", HostPort{})
	return d
}

func (r *reader) service(o Options) Service {
	r.bool("docker-registry.ssl-verify", true)
	s := Service{
		ID:               r.text("manager.id", ""),
		Addr:             r.hostPort("manager.service-addr", defaultServiceAddr),
		NumProc:          r.int("manager.num-proc", 0, 0, math.MaxInt32),
		User:             r.account("manager.user"),
		Group:            r.account("manager.group"),
		HeartbeatTimeout: r.seconds("manager.heartbeat-timeout", 5*time.Second, time.Second, 24*time.Hour),
		Secret:           NewSecret(r.text("manager.secret", "")),
		SSL:              r.bool("manager.ssl-enabled", false),
		PIDFile:          r.path("manager.pid-file", ""),
		HideAgents:       r.bool("manager.hide-agents", false),
		ImporterImage:    r.text("manager.importer-image", "lablup/importer:manylinux2010"),
		MaxWSMessage:     r.size("manager.max-wsmsg-size", 16<<20),
		IPCBasePath:      r.path("manager.ipc-base-path", filepath.Join(os.TempDir(), "backend.ai", "manager", "ipc")),
		EventLoop:        r.choice("manager.event-loop", "asyncio", "asyncio", "uvloop"),
		DistributedLock:  r.choice("manager.distributed-lock", "pg_advisory", "filelock", "pg_advisory", "redlock", "etcd"),
		AIOMonitorPort:   r.int("manager.aiomonitor-port", 50100, 1, math.MaxUint16),
	}
	if s.IDGiven = s.ID != ""; !s.IDGiven {
		s.ID = "i-" + o.Hostname
	}
	if s.NumProc == 0 {
		s.NumProc = runtime.NumCPU()
	}
	if s.PIDFile == os.DevNull {
		s.PIDFile = ""
	}
	if s.SecretGiven = !s.Secret.IsZero(); !s.SecretGiven {
		s.Secret = NewSecret(backendai.RandomToken(16))
	}
	if !s.SSL {
		return s // the files of a switched-off feature need not exist
	}
	s.SSLCert, s.SSLKey = r.file("manager.ssl-cert"), r.file("manager.ssl-privkey")
	for key, path := range map[string]string{"manager.ssl-cert": s.SSLCert, "manager.ssl-privkey": s.SSLKey} {
		if path == "" && len(r.problemsOf(key)) == 0 {
			r.bad(key, nil, "is required when manager.ssl-enabled is true: the path of a PEM file")
		}
	}
	return s
}

// account takes a name, a number as number or text, and -1 or nothing for "as it is".
func (r *reader) account(key string) string {
	if v, ok := r.get(key).(int64); ok {
		if v < -1 {
			r.bad(key, v, "must be a name or a number")
		}
		if v < 0 {
			return ""
		}
		return number64(v)
	}
	if text := r.text(key, ""); text != "-1" {
		return text
	}
	return ""
}

func (r *reader) debug() Debug {
	for _, python := range []string{"debug.asyncio", "debug.enhanced-aiomonitor-task-info", "debug.log-scheduler-ticks"} {
		r.bool(python, false)
	}
	return Debug{
		Enabled:           r.bool("debug.enabled", false),
		LogEvents:         r.bool("debug.log-events", false),
		PeriodicSyncStats: r.bool("debug.periodic-sync-stats", false),
	}
}

// InspectActions are the names that actors.inspect-actions may hold.
var InspectActions = []string{"poke", "pause-scheduler", "restart", "drain"}

func (r *reader) actors(id string) Actors {
	a := Actors{
		NodeName:          r.text("actors.node-name", id),
		Shards:            r.int("actors.shards", 64, 1, 4096),
		JournalWriters:    r.int("actors.journal-writers", JournalWriters(), 1, 64),
		DBConnections:     r.int("actors.db-connections", 32, 4, 1000),
		ClusterAddr:       r.hostPort("actors.cluster-addr", HostPort{}),
		AdvertiseAddr:     r.hostPort("actors.advertise-addr", HostPort{}),
		ClusterCert:       r.file("actors.cluster-cert"),
		ClusterKey:        r.file("actors.cluster-key"),
		ClusterCA:         r.file("actors.cluster-ca"),
		ClusterSecret:     NewSecret(r.text("actors.cluster-secret", "")),
		Lease:             r.seconds("actors.lease", 3*time.Second, 2*time.Second, 10*time.Second),
		DrainTimeout:      r.seconds("actors.drain-timeout", 30*time.Second, 0, time.Hour),
		EventStreamLength: r.int("actors.event-stream-length", 16384, 128, 10_000_000),
		SchedulerRecord:   r.int("actors.scheduler-record", 0, 0, 1_000_000),
		InspectActions:    r.texts("actors.inspect-actions", nil),
	}
	if a.NodeName == "" || strings.ContainsAny(a.NodeName, "/ \t\n") {
		r.bad("actors.node-name", a.NodeName, "must be a name without slashes and blanks")
	}
	for _, name := range a.InspectActions {
		if !slices.Contains(InspectActions, name) {
			r.bad("actors.inspect-actions", name, "must be some of %s", strings.Join(InspectActions, ", "))
		}
	}
	given := 0
	for _, key := range []string{"actors.cluster-cert", "actors.cluster-key", "actors.cluster-ca"} {
		if r.text(key, "") != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		r.bad("actors.cluster-cert", r.get("actors.cluster-cert"), "needs cluster-cert, cluster-key and cluster-ca together")
	}
	return a
}
