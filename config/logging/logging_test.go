package logging

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pebbe/zmq4"

	"backend.ai/manager/config"
)

func TestConsole(t *testing.T) {
	var b bytes.Buffer
	s, err := Setup(config.Logging{Level: "DEBUG", Namespaces: map[string]config.Level{"": "ERROR", "ai.backend": "INFO", "ai.backend.agent": "DEBUG"}, Console: &config.Console{}}, &b)
	if err != nil {
		t.Fatal(err)
	}
	s.Logger.Debug("hidden")
	s.Logger.Info("shown", "n", 1, "password", config.NewSecret("hunter2"))
	Named(s.Logger, "agent").WithGroup("g").With("a", "x y").Debug("also", slog.Group("h", "k", true))
	s.Logger.With("logger", "foreign").Warn("hidden")
	want := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO ai\.backend \[\d+\] shown n=1 password=\*\*\*
.{23} DEBUG ai\.backend\.agent \[\d+\] also g\.a="x y" g\.h\.k=true
$`)
	if !want.MatchString(b.String()) {
		t.Error(b.String())
	}
	b.Reset()
	yes := true
	s, _ = Setup(config.Logging{Level: "WARNING", Console: &config.Console{Simple: true, Colored: &yes}}, &b)
	s.Logger.Info("hidden")
	s.Logger.Error("bad")
	if b.String() != "\x1b[31mERROR\x1b[0m bad\n" {
		t.Errorf("%q", b.String())
	}
}

func TestFileRotates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	s, err := Setup(config.Logging{Level: "INFO", File: &config.File{Dir: dir, Name: "m.log", Backups: 2, RotationSize: 400}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		s.Logger.Error(fmt.Sprintf("message %d", i), "error", errors.New("why"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 3 || files[2].Name() != "m.log.2" {
		t.Fatal(files)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "m.log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var last map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last["message"] != "message 19" || last["exc_info"] != "why" || last["name"] != Root || last["level"] != "ERROR" ||
		!strings.HasSuffix(last["timestamp"].(string), "Z") || last["processName"] == "" {
		t.Error(last, err)
	}
}

func TestLogstashTCPReconnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr)
	s, err := Setup(config.Logging{Level: "INFO", Logstash: &config.Logstash{Endpoint: config.HostPort{Host: "127.0.0.1", Port: addr.Port}, Protocol: "tcp"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Logger.Info("first")
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if line := readLine(t, first); line["message"] != "first" || line["level"] != "INFO" || line["@version"] != 1.0 || line["host"] == "hostname" || line["path"] != "logging_test.go" {
		t.Error(line)
	}
	first.Close()
	// The first write after the peer has gone may still succeed, so keep logging until the new connection comes.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				s.Logger.Info("again")
			}
		}
	}()
	second, err := l.Accept()
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	if line := readLine(t, second); line["message"] != "again" {
		t.Error(line)
	}
	go func() { _, _ = bufio.NewReader(second).WriteTo(discard{}) }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	second.Close()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func readLine(t *testing.T, conn net.Conn) (m map[string]any) {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLogstashDatagramsAndZeroMQ(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pull, err := zmq4.NewSocket(zmq4.PULL)
	if err != nil {
		t.Fatal(err)
	}
	defer pull.Close()
	if err := pull.Bind("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	endpoint, _ := pull.GetLastEndpoint()
	for protocol, port := range map[string]string{"udp": conn.LocalAddr().String(), "zmq.push": strings.TrimPrefix(endpoint, "tcp://")} {
		a, err := config.ParseHostPort(port)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Setup(config.Logging{Level: "INFO", Logstash: &config.Logstash{Endpoint: a, Protocol: protocol}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Logger.Info("hello")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n := 0
		if protocol == "udp" {
			n, _, err = conn.ReadFrom(buf)
		} else {
			buf, err = pull.RecvBytes(0)
			n = len(buf)
		}
		if err != nil || !json.Valid(buf[:n]) || !bytes.Contains(buf[:n], []byte(`"message":"hello"`)) || buf[n-1] == '\n' {
			t.Errorf("%s: %q %v", protocol, buf[:n], err)
		}
	}
}
