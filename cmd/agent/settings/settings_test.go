package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"backend.ai/manager/cmd/agent/sandbox"
)

const original = `
[etcd]
namespace = "local"
addr = { host = "127.0.0.1", port = 8120 }
user = ""
password = "develove"

[agent]
mode = "docker"
id = "i-one"
rpc-listen-addr = { host = "127.0.0.1", port = 6011 }
agent-sock-port = 6007
scaling-group = "default"
event-loop = "asyncio"

[container]
port-range = [30000, 30100]
kernel-uid = -1
bind-host = "127.0.0.1"
stats-type = "docker"
sandbox-type = "docker"
scratch-type = "hostdir"
scratch-root = "/tmp/scratches"
isolation = "mounts"

[resource]
reserved-cpu = 0
reserved-mem = "512M"

[logging]
level = "WARNING"

[debug]
enabled = false
`

func TestFileOfTheOriginal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.toml")
	os.WriteFile(path, []byte(original), 0o600)
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.EtcdAddrs[0] != "127.0.0.1:8120" || s.ID != "i-one" || s.ListenPort != 6011 || s.PortHigh != 30100 || s.BindHost != "127.0.0.1" || s.Isolation != sandbox.Mounts ||
		s.ReservedCPU != 0 || s.ReservedMem != 512<<20 || s.LogLevel != "warn" || s.ScratchRoot != "/tmp/scratches" || s.EtcdPassword.Reveal() != "develove" {
		t.Errorf("%+v", s)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if err := s.SaveScalingGroup("other"); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(path)
	if !strings.Contains(string(raw), `scaling-group = "other"`) || strings.Count(string(raw), "scaling-group") != 1 {
		t.Error(string(raw))
	}
	if old, _ := os.ReadFile(path + ".bak"); string(old) != original {
		t.Error("no copy of the old file")
	}
}

func TestMistakes(t *testing.T) {
	for _, text := range []string{`x = `, "[container]\nport-range = [1]", "[container]\nisolation = \"jail\"", "[etcd]\naddr = 5", "[resource]\nreserved-mem = \"lots\""} {
		path := filepath.Join(t.TempDir(), "agent.toml")
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := Load(path); err == nil {
			t.Errorf("accepted: %q", text)
		}
	}
	s := Defaults()
	s.ListenHost = "0.0.0.0"
	if s.Check() == nil {
		t.Error("an address of nobody was accepted")
	}
	if _, err := Load("/nonexistent/agent.toml"); err == nil {
		t.Error("a missing file was accepted")
	}
}
