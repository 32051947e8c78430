package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFlagsWinOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.toml")
	os.WriteFile(path, []byte("[agent]\nid = \"i-file\"\nregion = \"file\"\n[container]\nport-range = [40000, 40100]\n"), 0o600)
	s, err := parse([]string{"-f", path, "--id", "i-flag", "--listen", "127.0.0.1:7001", "--etcd", "none", "--redis", "r:1", "--reserved-mem", "0"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != "i-flag" || s.Region != "file" || s.PortLow != 40000 || s.ListenPort != 7001 || s.EtcdAddrs != nil || s.ReservedMem != 0 {
		t.Errorf("%+v", s)
	}
}

func TestHelpAndMistakes(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "--scratch-root") || !strings.Contains(out.String(), "SIGTERM") {
		t.Error(code, out.String())
	}
	out.Reset()
	if code := run([]string{"--version"}, &out, &errs); code != 0 || !strings.Contains(out.String(), Version) {
		t.Error(code, out.String())
	}
	for _, args := range [][]string{{"--isolation", "jail"}, {"--port-range", "9"}, {"--etcd", "none"}, {"stray"}, {"--listen", "0.0.0.0:1"}, {"--nonsense"}} {
		errs.Reset()
		if code := run(args, &out, &errs); code != 2 || errs.Len() == 0 {
			t.Error(args, code)
		}
	}
}
