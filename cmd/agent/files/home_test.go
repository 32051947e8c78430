package files

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"backend.ai/manager/actors/agent/callosum"
)

func home(t *testing.T) Home {
	return Home{Dir: t.TempDir(), UID: os.Getuid(), GID: os.Getgid()}
}

func name(err error) string {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return remote.Name
	}
	return ""
}

func TestUploadStaysInside(t *testing.T) {
	h := home(t)
	outside := filepath.Join(filepath.Dir(h.Dir), "outside")
	os.Mkdir(outside, 0o755)
	os.Symlink(outside, filepath.Join(h.Dir, "link"))
	os.Symlink("/etc", filepath.Join(h.Dir, "etc"))
	for file, want := range map[string]string{"a.txt": "", "src/deep/main.c": "", "../outside/x": "PermissionError", "a/../../x": "PermissionError", "link/x": "PermissionError", "etc/x": "PermissionError"} {
		if err := h.Upload(file, []byte("hello")); name(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", file, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Error("something was written outside")
	}
	if raw, err := os.ReadFile(filepath.Join(h.Dir, "src/deep/main.c")); string(raw) != "hello" {
		t.Error(err)
	}
}

func TestDownload(t *testing.T) {
	h := home(t)
	h.Upload("d/a.txt", []byte("hello\n"))
	os.Symlink("/etc/passwd", filepath.Join(h.Dir, "d/leak"))
	for _, what := range []string{"d", "/home/work/d", "./d/"} {
		raw, err := h.Download(what)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for r := tar.NewReader(bytes.NewReader(raw)); ; {
			head, err := r.Next()
			if err == io.EOF {
				break
			}
			text, _ := io.ReadAll(r)
			got = append(got, head.Name+":"+string(text))
		}
		if strings.Join(got, " ") != "d/: d/a.txt:hello\n d/leak:" {
			t.Errorf("%s: %q", what, got)
		}
	}
	h.Upload("big", make([]byte, MaxArchive))
	for file, want := range map[string]string{"nope": "FileNotFoundError", "big": "ValueError", "/etc/passwd": "PermissionError", "d/leak/x": "PermissionError"} {
		if _, err := h.Download(file); name(err) != want {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := h.Download("nope"); err.Error() != "FileNotFoundError('Could not found the file: /home/work/nope')" {
		t.Error(err)
	}
}

func TestListAndFolders(t *testing.T) {
	h := home(t)
	folder := t.TempDir()
	os.WriteFile(filepath.Join(folder, "data"), []byte("12"), 0o640)
	os.Mkdir(filepath.Join(h.Dir, "v"), 0o755)
	h.Folders = []Folder{{"/home/work/v", folder, true}}
	list, err := h.List("v")
	if err != nil || list.Errors != "" || list.AbsPath != "v" {
		t.Fatal(list, err)
	}
	var items []struct {
		Mode, Filename string
		Size           int
		Mtime          float64
	}
	if err := json.Unmarshal([]byte(list.Files), &items); err != nil || len(items) != 1 || items[0].Mode != "-rw-r-----" || items[0].Size != 2 || items[0].Filename != "data" || items[0].Mtime < 1e9 {
		t.Errorf("%v %+v", err, items)
	}
	if err := h.Upload("v/x", nil); name(err) != "PermissionError" {
		t.Error(err)
	}
	if list, err := h.List("nope"); err != nil || list.Files != "" || list.Errors == "" {
		t.Error(list, err)
	}
	if _, err := h.List("/etc"); err == nil || err.Error() != "PermissionError('You cannot list files outside /home/work')" {
		t.Error(err)
	}
	if list, _ := h.List("."); !strings.Contains(list.Files, `"mode": "drwxr-xr-x"`) {
		t.Error(list.Files)
	}
}

func TestModeText(t *testing.T) {
	for mode, want := range map[uint32]string{0o100644: "-rw-r--r--", 0o041777: "drwxrwxrwt", 0o104755: "-rwsr-xr-x", 0o120777: "lrwxrwxrwx", 0o102644: "-rw-r-Sr--"} {
		if got := modeText(mode); got != want {
			t.Errorf("%o: %s", mode, got)
		}
	}
}
