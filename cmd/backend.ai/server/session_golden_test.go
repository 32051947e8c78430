package server_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/test/golden"
)

// One session's life, replayed against the whole manager: refused creations, creation, look-ups, executions, files, logs, apps, renaming,
// restart, end. And what the agent is asked for meanwhile.
func TestGoldenSession(t *testing.T) {
	w := newWorld(t)
	entries := golden.Load(t, "testdata/session.json")
	stats := answerOf(t, entries, "destroy")["stats"].(map[string]any)
	p := golden.Replayer{
		URL:         w.url,
		Differences: differences,
		Both:        readable(t),
		Measured: func(e golden.Entry, at string) bool {
			return strings.Contains(at, ".host_ports[") || at == "body.age" || strings.HasSuffix(at, "time")
		},
		Before: func(e golden.Entry, r *http.Request) {
			switch e.Name {
			case "create, old api version": // succeeds now, so it needs a name of its own
				replaceBody(r, `"gs-ea5f"`, `"`+oldVersion+`"`)
			case "create":
				w.others = w.agent.Kernels()
			case "destroy, forced by a user": // succeeds now, so it is tried on that one
				r.URL.Path = "/session/" + oldVersion
			case "destroy":
				w.publishStatistics(stats)
			case "logs after the end":
				w.until("the session has ended and its log is kept", `SELECT count(*) = 1 FROM kernels WHERE session_name = 'gs-ea5f' AND status = 'TERMINATED' AND container_log IS NOT NULL`)
			}
		},
	}
	p.Run(t, entries)
	t.Run("calls of the agent", w.compareCalls)
	t.Run("while it ends", func(t *testing.T) { w.destroyAgain(t, entries) })
}

// destroyAgain replays "destroy again" while the agent is still at work on the first one: the recorded answer is that of such a moment.
func (w *world) destroyAgain(t *testing.T, entries []golden.Entry) {
	const name = "while-it-ends"
	entries = slices.DeleteFunc(slices.Clone(entries), func(e golden.Entry) bool { return e.Name != "create" && e.Name != "destroy again" })
	p := golden.Replayer{
		URL: w.url,
		Differences: map[string]golden.Difference{"create": {Why: "another name", Want: func(r *golden.Response) {
			r.Body.(map[string]any)["sessionName"] = name
		}}},
		Before: func(e golden.Entry, r *http.Request) {
			if e.Name == "create" {
				replaceBody(r, `"gs-ea5f"`, `"`+name+`"`)
				return
			}
			r.URL.Path = "/session/" + name
			w.holdDestroys()
			w.terminate(name)
			w.until("the session is ending", `SELECT status = 'TERMINATING' FROM kernels WHERE session_name = $1`, name)
		},
	}
	p.Run(t, entries)
	w.letDestroy()
	w.until("the session has ended", `SELECT status = 'TERMINATED' FROM kernels WHERE session_name = $1`, name)
}

func answerOf(t *testing.T, entries []golden.Entry, name string) map[string]any {
	for _, e := range entries {
		if e.Name == name {
			return e.Response.Body.(map[string]any)
		}
	}
	t.Fatalf("the capture has no %q", name)
	return nil
}

// publishStatistics puts a kernel's statistics where agents do, as they were when the recorded session ended.
func (w *world) publishStatistics(stats map[string]any) {
	w.Helper()
	var metrics callosum.Map
	for name, metric := range stats {
		if fields, ok := metric.(map[string]any); ok {
			var m callosum.Map
			for k, v := range fields {
				if f, ok := v.(float64); ok {
					v = int(f)
				}
				m = append(m, callosum.Entry{Key: k, Value: v})
			}
			metrics = append(metrics, callosum.Entry{Key: name, Value: m})
		}
	}
	packed, err := callosum.Marshal(metrics)
	if err != nil {
		w.Fatal(err)
	}
	for id := range w.agent.Kernels() {
		if err := w.stat.Do(w.Context(), w.stat.B().Set().Key(id).Value(rueidis.BinaryString(packed)).Build()).Error(); err != nil {
			w.Fatal(err)
		}
	}
}

// oldVersion is the session that "create, old api version" makes.
const oldVersion = "old-version"

func replaceBody(r *http.Request, old, new string) {
	text, _ := io.ReadAll(r.Body)
	text = bytes.ReplaceAll(text, []byte(old), []byte(new))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
}

// readable replaces answers that hold archives, and texts that hold JSON, by what is in them. The capture holds the first 1024 bytes of
// an archive, which is enough for one file.
func readable(t *testing.T) func(golden.Entry, *golden.Response) {
	return func(e golden.Entry, r *golden.Response) {
		if e.Name == "files" {
			body := r.Body.(map[string]any)
			var list []any
			if err := json.Unmarshal([]byte(body["files"].(string)), &list); err != nil {
				t.Fatal(err)
			}
			r.Body = map[string]any{"files": list, "errors": body["errors"], "abspath": body["abspath"]}
		}
		if !strings.HasPrefix(e.Name, "download") || r.Status != http.StatusOK {
			return
		}
		var raw []byte
		switch body := r.Body.(type) {
		case string:
			raw = []byte(body)
		case map[string]any:
			var err error
			if raw, err = base64.StdEncoding.DecodeString(body["base64"].(string)); err != nil {
				t.Fatal(err)
			}
		}
		r.Body = archive(t, r, raw)
	}
}

// archive reads a tar archive, alone or as the only part of a multipart body.
func archive(t *testing.T, r *golden.Response, raw []byte) any {
	kind, attrs, err := mime.ParseMediaType(r.Headers["Content-Type"])
	if err != nil {
		t.Fatal(err)
	}
	if kind == "multipart/mixed" {
		r.Headers["Content-Type"] = strings.Replace(r.Headers["Content-Type"], attrs["boundary"], "…", 1)
		part, err := multipart.NewReader(bytes.NewReader(raw), attrs["boundary"]).NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		headers := map[string]any{}
		for k, v := range part.Header {
			headers[k] = strings.Join(v, ", ")
		}
		_, raw, _ = bytes.Cut(raw, []byte("\r\n\r\n"))
		return map[string]any{"boundary": attrs["boundary"], "headers": headers, "file": firstFile(t, raw)}
	}
	return firstFile(t, raw)
}

func firstFile(t *testing.T, raw []byte) any {
	files := tar.NewReader(bytes.NewReader(raw))
	h, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(files)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"name": h.Name, "mode": h.FileInfo().Mode().String(), "size": h.Size, "data": string(data), "time": h.ModTime.UTC().Format("2006-01-02T15:04:05Z")}
}
