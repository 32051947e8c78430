package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/cmd/backend.ai/console"
)

const secret = "s3cret"

// fake is an API that checks signatures and answers from a script: "METHOD path?query body" → answers, one a call.
type fake struct {
	t      *testing.T
	mu     sync.Mutex
	calls  []string
	answer func(call string) (status int, body string)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a, err := signing.ParseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		f.t.Error(err)
	}
	date, ok := signing.ParseDate(r.Header.Get("Date"), time.Now())
	method, err := signing.ParseMethod(a.Method)
	subject := signing.Subject{Method: r.Method, Target: r.RequestURI, Date: r.Header.Get("Date"), Host: r.Host, ContentType: "application/json", Version: r.Header.Get("X-BackendAI-Version")}
	if err != nil || !ok || !signing.DeriveKey(method, secret, date.Format(signing.Day), r.Host).Verify(subject, a.Signature) || a.AccessKey != "AKIA" {
		f.t.Errorf("%s %s is signed wrongly", r.Method, r.RequestURI)
	}
	call := strings.TrimSpace(r.Method + " " + r.RequestURI + " " + string(body))
	f.mu.Lock()
	f.calls = append(f.calls, call)
	f.mu.Unlock()
	status, text := f.answer(call)
	if status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func serve(t *testing.T, answer func(call string) (int, string)) (*Client, *fake) {
	t.Helper()
	f := &fake{t: t, answer: answer}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	c, err := New(Config{Endpoint: s.URL + "/", AccessKey: "AKIA", SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Setenv("BACKEND_ENDPOINT", s.URL)
	t.Setenv("BACKEND_ENDPOINT_TYPE", "api")
	t.Setenv("BACKEND_ACCESS_KEY", "AKIA")
	t.Setenv("BACKEND_SECRET_KEY", secret)
	return c, f
}

// session answers like a session whose code prints, asks, and ends.
func session(status string, exit string) func(string) (int, string) {
	step := 0
	return func(call string) (int, string) {
		switch {
		case strings.HasPrefix(call, "POST /session "):
			return 201, `{"sessionId": "id-1", "sessionName": "n", "status": "` + status + `", "created": true}`
		case strings.HasPrefix(call, "POST /session/id-1 "):
			step++
			switch step {
			case 1:
				return 200, `{"result": {"status": "continued", "runId": "r", "console": [["stdout", "a\n"], ["stderr", "warn\n"], ["media", ["image/png", "xyz"]]]}}`
			case 2:
				return 200, `{"result": {"status": "waiting-input", "runId": "r", "console": [["stdout", "name? "]], "options": {"is_password": false}}}`
			}
			return 200, `{"result": {"status": "finished", "runId": "r", "exitCode": ` + exit + `, "console": [["stdout", "bye\n"]], "options": null}}`
		case strings.HasPrefix(call, "DELETE "):
			return 200, `{"stats": {"status": "terminated"}}`
		case strings.HasPrefix(call, "GET /session/id-1"):
			return 200, `{"status": "CANCELLED", "statusInfo": "failed-to-start", "statusData": {"error": "x"}}`
		case strings.HasSuffix(call, "/interrupt"):
			return 204, ""
		}
		return 404, `{"type": "https://api.backend.ai/probs/url-not-found", "title": "Unknown URL path."}`
	}
}

func command(t *testing.T, stdin string, args ...string) (int, string, string) {
	t.Helper()
	root := console.Group("backend.ai", "", Run(), Ps(), Rm(), Logs(), Why(), PlanCommand(), Priority())
	console.Prepare(root)
	var out, errs bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	return console.Execute(t.Context(), root), out.String(), errs.String()
}

func TestRun(t *testing.T) {
	_, f := serve(t, session("RUNNING", "3"))
	code, out, errs := command(t, "Bob\n", "run", "--rm", "-s", "mine", "-r", "cpu=2", "-e", "A=b=c", "-c", "code", "python")
	if code != 3 || out != "a\n[image/png, 3 bytes]\nname? bye\n" || !strings.Contains(errs, "warn\n") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	var modes []string
	for _, call := range f.calls {
		if _, body, ok := strings.Cut(call, "{"); ok && strings.HasPrefix(call, "POST /session/id-1 ") {
			var b struct{ Mode, Code string }
			if err := json.Unmarshal([]byte("{"+body), &b); err != nil {
				t.Fatal(err)
			}
			modes = append(modes, b.Mode+":"+b.Code)
		}
	}
	if d := cmp.Diff([]string{"query:code", "continue:", "input:Bob"}, modes); d != "" {
		t.Error(d)
	}
	if first, last := f.calls[0], f.calls[len(f.calls)-1]; !strings.Contains(first, `"resources":{"cpu":"2"}`) || !strings.Contains(first, `"environ":{"A":"b=c"}`) || last != "DELETE /session/id-1" {
		t.Error(first, last)
	}

	serve(t, session("RUNNING", "0"))
	code, out, _ = command(t, "Bob\n", "run", "-q", "--format", "json", "-c", "x", "python")
	var shown struct {
		SessionID string
		ExitCode  int
		Console   [][]any
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || code != 0 || shown.SessionID != "id-1" || len(shown.Console) != 5 {
		t.Error(code, out, err)
	}

	_, f = serve(t, session("RUNNING", "0"))
	code, _, errs = command(t, "", "run", "-q", "-c", "x", "python")
	if code != 1 || !strings.Contains(errs, "standard input has ended") || !strings.HasSuffix(f.calls[len(f.calls)-1], "/interrupt") {
		t.Error("code that asks nobody:", code, errs, f.calls)
	}

	_, f = serve(t, session("CANCELLED", "0"))
	code, _, errs = command(t, "", "run", "-c", "x", "python")
	if code != 1 || !strings.Contains(errs, "CANCELLED failed-to-start") || f.calls[len(f.calls)-1] != "DELETE /session/id-1?forced=true" {
		t.Error(code, errs, f.calls)
	}

	serve(t, func(string) (int, string) {
		return 401, `{"type": "https://api.backend.ai/probs/auth-failed", "title": "Credential/signature mismatch.", "msg": "Access key not found"}`
	})
	if code, _, errs = command(t, "", "run", "-c", "x", "python"); code != 1 || !strings.Contains(errs, "mismatch: Access key not found (401)") || !strings.Contains(errs, "BACKEND_ACCESS_KEY") {
		t.Error(code, errs)
	}
}

func TestInterruptedRunInterruptsTheCode(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := make(chan struct{})
	c, _ := serve(t, func(call string) (int, string) {
		if strings.HasSuffix(call, "/interrupt") {
			close(interrupted)
			return 204, ""
		}
		cancel()
		<-interrupted
		return 200, `{"result": {"status": "continued", "console": []}}`
	})
	if _, err := c.Execute(ctx, "s", "while True: pass", Talk{Write: func(Output) {}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-interrupted
}

func TestPsRmLogs(t *testing.T) {
	answer := func(call string) (int, string) {
		switch {
		case strings.HasPrefix(call, "POST /admin/gql") && strings.Contains(call, `"offset":0`):
			return 200, `{"data": {"compute_session_list": {"total_count": 2, "items": [{"session_id": "i1", "name": "one", "status": "RUNNING", "status_info": null, "created_at": null}]}}}`
		case strings.HasPrefix(call, "POST /admin/gql"):
			return 200, `{"data": {"compute_session_list": {"total_count": 2, "items": [{"session_id": "i2", "name": "two", "status": "PENDING", "status_info": "why", "created_at": null}]}}}`
		case call == "GET /session/one/logs":
			return 200, `{"result": {"logs": "text\n"}}`
		case call == "DELETE /session/one":
			return 200, `{"stats": {"status": "terminated"}}`
		}
		return 404, `{"title": "No such session."}`
	}
	_, f := serve(t, answer)
	code, out, errs := command(t, "", "ps")
	if code != 0 || !strings.Contains(out, "i1       one") || !strings.Contains(out, "why") {
		t.Error(code, out, errs)
	}
	if !strings.Contains(f.calls[0], `"ak":"AKIA"`) || !strings.Contains(f.calls[0], `"status":"PENDING,SCHEDULED`) {
		t.Error(f.calls[0])
	}
	if code, out, _ = command(t, "", "logs", "one"); code != 0 || out != "text\n" {
		t.Error(code, out)
	}
	if code, out, errs = command(t, "", "rm", "one", "two"); code != 1 || out != "one\n" || errs != "Error: two: No such session (404)\n" {
		t.Error(code, out, errs)
	}
	serve(t, func(string) (int, string) { return 200, `{"errors": [{"message": "no"}]}` })
	if code, _, errs = command(t, "", "ps"); code != 1 || errs != "Error: no\n" {
		t.Error(code, errs)
	}
}

func TestWhatToRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("f.py", []byte("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		code  string
		given bool
		want  [2]string
		fails error
	}{
		{args: []string{"python"}, code: "c", given: true, want: [2]string{"python", "c"}},
		{args: []string{"python"}, want: [2]string{"python", "stdin"}},
		{args: []string{"python", "-"}, want: [2]string{"python", "stdin"}},
		{args: []string{"-", "python"}, want: [2]string{"python", "stdin"}},
		{args: []string{"python", "f.py"}, want: [2]string{"python", "file"}},
		{args: []string{"f.py", "python"}, want: [2]string{"python", "file"}},
		{args: []string{"python", "g.py"}, fails: backendai.InvalidArgument},
		{args: []string{"python", "f.py"}, given: true, fails: backendai.InvalidUsage},
	} {
		image, text, err := whatToRun(c.args, c.code, c.given, strings.NewReader("stdin"))
		if got := [2]string{image, text}; got != c.want || !errors.Is(err, c.fails) {
			t.Error(c.args, got, err)
		}
	}
}

func TestFindConfig(t *testing.T) {
	dir := t.TempDir()
	file := "BACKEND_ENDPOINT=http://h:1\nBACKEND_ENDPOINT_TYPE=api\nBACKEND_ACCESS_KEY=A\nBACKEND_SECRET_KEY=S=\n"
	if err := os.WriteFile(filepath.Join(dir, EnvFile), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"BACKEND_ENDPOINT": "https://e,https://f", "BACKEND_ACCESS_KEY": "EA", "BACKEND_SECRET_KEY": "ES"}
	getenv := func(name string) string { return env[name] }
	if c, err := FindConfig(dir, getenv); err != nil || c.Endpoint != "http://h:1" || c.SecretKey.Reveal() != "S=" {
		t.Error(c, err)
	}
	if c, err := FindConfig("", getenv); err != nil || c.Endpoint != "https://e" || c.AccessKey != "EA" {
		t.Error(c, err)
	}
	env["BACKEND_ENDPOINT_TYPE"] = "session"
	if _, err := FindConfig("", getenv); !errors.Is(err, backendai.InvalidConfig) {
		t.Error(err)
	}
	if _, err := FindConfig(t.TempDir(), getenv); !errors.Is(err, backendai.InvalidConfig) || !strings.Contains(err.Error(), "backend.ai up") {
		t.Error(err)
	}
}
