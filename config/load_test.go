package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/config/sample"
)

const minimal = `
[etcd]
namespace = "local"
[db]
addr = ["localhost", "8100"]
name = "backend"
user = "postgres"
password = "hunter2"
`

func parse(t *testing.T, text string, env map[string]string, debug bool) (*Manager, error) {
	t.Helper()
	return Parse("/x/manager.toml", []byte(text), Options{Getenv: func(k string) string { return env[k] }, Hostname: "node1", Debug: debug})
}

func TestDefaults(t *testing.T) {
	m, err := parse(t, minimal, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if m.Etcd.Addrs[0].String() != "127.0.0.1:2379" || m.DB.Addr.String() != "localhost:8100" || m.Service.Addr.String() != "0.0.0.0:8080" {
		t.Error(m.Etcd, m.DB, m.Service)
	}
	s := m.Service
	if s.ID != "i-node1" || s.IDGiven || s.HeartbeatTimeout != 5*time.Second || s.MaxWSMessage != 16777216 || s.AIOMonitorPort != 50100 || s.SecretGiven || len(s.Secret.Reveal()) != 22 ||
		s.PIDFile != "" || s.DistributedLock != "pg_advisory" || s.NumProc < 1 || s.ImporterImage != "lablup/importer:manylinux2010" {
		t.Errorf("%+v", s)
	}
	if m.Logging.Level != "INFO" || m.Logging.Console == nil || m.Logging.Console.Simple || m.Logging.File != nil || m.Logging.Namespaces[""] != "WARNING" {
		t.Errorf("%+v", m.Logging)
	}
	if a := m.Actors; a.NodeName != "i-node1" || a.Shards != 64 || a.Lease != 3*time.Second || a.DrainTimeout != 30*time.Second || a.EventStreamLength != 16384 {
		t.Errorf("%+v", a)
	}
}

func TestSamples(t *testing.T) {
	m, err := Parse("halfstack.toml", sample.Halfstack, Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	if m.Service.Addr.Port != 8081 || !m.Service.HideAgents || m.Etcd.Addrs[0].Port != 8120 || !*m.Logging.Console.Colored || m.Service.HeartbeatTimeout != 10*time.Second {
		t.Errorf("%+v", m)
	}
	m, err = Parse("production.toml", sample.Production, Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Etcd.Addrs) != 3 || m.Logging.File.RotationSize != 50<<20 || m.Actors.ClusterAddr.Port != 8090 || !m.Service.SecretGiven {
		t.Errorf("%+v", m)
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	m, err := parse(t, minimal, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(m.DB), fmt.Sprintf("%+v %#v %q", *m, m.DB, m.DB.Password), string(asJSON)} {
		if strings.Contains(shown, "hunter2") || !strings.Contains(shown, "***") {
			t.Error(shown)
		}
	}
	_, err = parse(t, strings.Replace(minimal, `"hunter2"`, `8675309`, 1), nil, false)
	if err == nil || strings.Contains(err.Error(), "8675309") || !strings.Contains(err.Error(), "db.password = ***") {
		t.Error(err)
	}
}

func TestProblemsAreReportedAtOnce(t *testing.T) {
	_, err := parse(t, `
logging = { level = "LOUD", drivers = ["console", "carrier-pigeon", "file"] }
[etcd]
addr = "nowhere"
[db]
addr = { host = "h", port = 70000 }
name = "-x-"
user = ""
[manager]
num-proc = -1
heartbeat-timeout = 0.5
ssl-enabled = "perhaps"
event-loop = "trio"
[actors]
shards = "many"
inspect-actions = ["delete-everything"]
cluster-cert = "/nowhere/cert.pem"
`, map[string]string{"BACKEND_LOG_FILE_SIZE": "big"}, false)
	if backendai.CodeOf(err) != backendai.InvalidConfig || backendai.ExitCode(err) == 0 {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/x/manager.toml: ",
		`etcd.namespace is required`,
		`etcd.addr = "nowhere" must be an address "host:port"`,
		`db.addr = map[host:h port:70000] must be an address`,
		`db.name = "-x-" must be 2 to 64 letters`,
		`db.user = "" must not be empty`,
		`db.password is required`,
		`manager.num-proc = -1 must be a whole number of at least 0`,
		`manager.heartbeat-timeout = 0.5 must be a number of seconds from 1`,
		`manager.ssl-enabled = "perhaps" must be true or false`,
		`manager.event-loop = "trio" must be one of asyncio, uvloop`,
		`logging.level = "LOUD" must be one of NOTSET, DEBUG`,
		`logging.drivers = "carrier-pigeon" must be some of console, logstash, file`,
		`logging.file.path is required`,
		`logging.file.rotation-size = "bigM" (set by the environment variable BACKEND_LOG_FILE_SIZE) must be a size`,
		`actors.shards = "many" must be a whole number from 1 to 4096`,
		`actors.inspect-actions = "delete-everything" must be some of poke`,
		`actors.cluster-cert = "/nowhere/cert.pem" must be the path of a file that exists`,
		`needs cluster-cert, cluster-key and cluster-ca together`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	_, err = parse(t, "[etcd\nx", nil, false)
	if backendai.CodeOf(err) != backendai.InvalidConfig || !strings.Contains(err.Error(), "/x/manager.toml:1:") {
		t.Error(err)
	}
	_, err = parse(t, "etcd = 1\n"+strings.Split(minimal, "[db]")[0][:0]+"[db]"+strings.Split(minimal, "[db]")[1], nil, false)
	if err == nil || !strings.Contains(err.Error(), "etcd = 1 must be a table") {
		t.Error(err)
	}
}

func TestEnvironmentAndDebug(t *testing.T) {
	dir := t.TempDir()
	cert := filepath.Join(dir, "c.pem")
	if err := os.WriteFile(cert, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := parse(t, minimal+"[manager]\nservice-addr = '[::1]:80'\nssl-enabled = 'yes'\n[logging]\ndrivers = ['file']\n", map[string]string{
		"BACKEND_NAMESPACE": "other", "BACKEND_ETCD_ADDR": "e:1", "BACKEND_ETCD_USER": "u", "BACKEND_ETCD_PASSWORD": "p",
		"BACKEND_DB_ADDR": "d:2", "BACKEND_DB_NAME": "nn", "BACKEND_DB_USER": "du", "BACKEND_DB_PASSWORD": "dp",
		"BACKEND_MANAGER_NPROC": "3", "BACKEND_SSL_CERT": cert, "BACKEND_SSL_KEY": cert, "BACKEND_PID_FILE": "/tmp/x.pid",
		"BACKEND_SERVICE_PORT": "8443", "BACKEND_LOG_FILE": filepath.Join(dir, "l.log"), "BACKEND_LOG_FILE_COUNT": "7", "BACKEND_LOG_FILE_SIZE": "3",
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(m.Etcd.Namespace, m.Etcd.Addrs, m.Etcd.User, m.Etcd.Password.Reveal(), m.DB.Addr, m.DB.Name, m.DB.User, m.DB.Password.Reveal(), m.Service.NumProc,
		m.Service.SSLCert == cert, m.Service.SSLKey == cert, m.Service.PIDFile, m.Service.Addr, m.Logging.File.Dir == dir, m.Logging.File.Name, m.Logging.File.Backups, m.Logging.File.RotationSize,
		m.Debug.Enabled, m.Logging.Level, m.Logging.Namespaces["ai.backend"])
	if want := "other [e:1] u p d:2 nn du dp 3 true true /tmp/x.pid [::1]:8443 true l.log 7 3145728 true DEBUG DEBUG\n"; got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	env := map[string]string{"HOME": filepath.Join(dir, "home")}
	getenv := func(k string) string { return env[k] }
	if _, err := Find("", getenv); err == nil || !strings.Contains(err.Error(), "home/.config/backend.ai/manager.toml, /etc/backend.ai/manager.toml") {
		t.Error(err)
	}
	inHome := filepath.Join(dir, "home", ".config", "backend.ai", FileName)
	must(t, os.MkdirAll(filepath.Dir(inHome), 0o755))
	must(t, os.WriteFile(inHome, nil, 0o644))
	expect(t, getenv, inHome)
	must(t, os.WriteFile(FileName, nil, 0o644))
	wd, _ := os.Getwd()
	expect(t, getenv, filepath.Join(wd, FileName))
	env[EnvFile] = "elsewhere.toml"
	if _, err := Find("", getenv); backendai.CodeOf(err) != backendai.InvalidConfig || !strings.Contains(err.Error(), EnvFile) {
		t.Error(err)
	}
	if got, err := Find(inHome, getenv); err != nil || got != inHome {
		t.Error(got, err)
	}
	if _, err := Load(Options{Path: "absent.toml"}); err == nil || !strings.Contains(err.Error(), "absent.toml: there is no such file") {
		t.Error(err)
	}
}

func expect(t *testing.T, getenv func(string) string, want string) {
	t.Helper()
	if got, err := Find("", getenv); err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
