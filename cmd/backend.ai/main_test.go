package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"backend.ai/manager/cmd/backend.ai/console"
)

func TestNames(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"/usr/bin/backend.ai", "--version"}, 0, "backend.ai " + Version},
		{[]string{"backend.ai", "mgr", "generate-keypair"}, 0, "Access Key: AKIA"},
		{[]string{"/opt/backend.ai-mgr", "generate-keypair"}, 0, "Secret Key: "},
		{[]string{"backend.ai", "up", "--agents", "0"}, 2, "'--agents'"},
		{[]string{"backend.ai", "up", "--data", "d", "--addr", "nonsense"}, 2, "'--addr'"},
		{[]string{"backend.ai", "up", "extra"}, 2, "unknown command"},
		{[]string{"backend.ai", "run"}, 2, "Usage: backend.ai run [-c CODE] IMAGE [FILE]"},
	} {
		t.Setenv("PATH", agentOnPath(t))
		var out, errs bytes.Buffer
		if code := run(t.Context(), c.args, strings.NewReader(""), &out, &errs); code != c.code || !strings.Contains(out.String()+errs.String(), c.want) {
			t.Errorf("%v: %d %q %q", c.args, code, out.String(), errs.String())
		}
	}
}

func TestSignalEndsUpWhileItStarts(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(console.Signal{})
	t.Setenv("PATH", agentOnPath(t))
	dir, err := os.MkdirTemp("", "backendai-data")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // root's PostgreSQL runs as somebody else
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(ctx, []string{"backend.ai", "up", "--data", dir + "/d", "--addr", "127.0.0.1:0"}, strings.NewReader(""), &out, &errs)
	if code != console.Interrupted || !strings.Contains(errs.String(), "Interrupted!") {
		t.Error(code, out.String(), errs.String())
	}
}
