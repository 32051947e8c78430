package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func contains(t *testing.T, what, out string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(out, w) {
			t.Errorf("%s: %q is missing in\n%s", what, w, out)
		}
	}
}

// The official client, unchanged, through a session's whole life.
func TestOfficialClient(t *testing.T) {
	c := newCluster(t)
	contains(t, "run", c.must("", "run", "--rm", "-c", "print(6*7)", "python"), "42\n", "exit code = 0")

	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("main.py", "print('built:', open('built.txt').read())\n")
	out := c.must("", "run", "--rm", "--build", "echo from-the-build > built.txt; echo building", "--exec", "python main.py", "python", "main.py")
	contains(t, "run of a file in batch mode", out, "building", "built: from-the-build")

	contains(t, "create", c.must("", "session", "create", "-t", "e2e-main", "python"), "is created and ready")
	contains(t, "ps", c.must("", "ps"), "e2e-main", "RUNNING")
	id := c.text(`SELECT id::text FROM kernels WHERE session_name = 'e2e-main'`)
	contains(t, "session info", c.must("", "session", "info", id), id, "e2e-main", "RUNNING")
	c.must("", "run", "-t", "e2e-main", "-c", "state = 41", "python")
	contains(t, "state between calls", c.must("", "run", "-t", "e2e-main", "-c", "print(state + 1)", "python"), "42\n")
	out, _ = c.official("", "run", "-t", "e2e-main", "-c", "def broken():\n    return 1/0\nbroken()", "python")
	contains(t, "traceback", out, "Traceback (most recent call last)", "ZeroDivisionError: division by zero", "broken")
	contains(t, "input", c.must("Ada\n", "run", "-t", "e2e-main", "-c", "print('hello', input('name? '))", "python"), "name?", "hello Ada")

	write("up.txt", "uploaded text\n")
	c.must("", "session", "upload", "e2e-main", "up.txt")
	contains(t, "ls", c.must("", "session", "ls", "e2e-main"), "up.txt")
	contains(t, "the file in the session", c.must("", "run", "-t", "e2e-main", "-c", "print(open('up.txt').read())", "python"), "uploaded text")
	c.must("", "run", "-t", "e2e-main", "-c", "open('down.txt', 'w').write('made inside')", "python")
	if err := os.Mkdir(filepath.Join(c.dir, "got"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.must("", "session", "download", "e2e-main", "down.txt", "--dest", "got")
	if got, err := os.ReadFile(filepath.Join(c.dir, "got", "down.txt")); err != nil || string(got) != "made inside" {
		t.Errorf("downloaded %q, %v", got, err)
	}
	c.must("", "session", "logs", "e2e-main")
	c.must("", "session", "rename", "e2e-main", "e2e-renamed")
	contains(t, "ps after the rename", c.must("", "ps"), "e2e-renamed")
	c.must("", "session", "restart", "e2e-renamed")
	out, _ = c.official("", "run", "-t", "e2e-renamed", "-c", "print(state)", "python")
	contains(t, "after the restart", out, "NameError")
	c.must("", "session", "rm", "e2e-renamed")
	if s := c.text(`SELECT status || ' ' || status_info FROM kernels WHERE id::text = $1`, id); s != "TERMINATED user-requested" {
		t.Errorf("the row says %s", s)
	}
	c.noKernels()
}

// noKernels checks that nothing of any session is left on the machine, and that the slots are back to the unit.
func (c *cluster) noKernels() {
	c.Helper()
	c.eventually("no process of a kernel is left", func() bool { return len(c.kernelProcesses()) == 0 })
	c.eventually("the slots are back", func() bool {
		return c.text(`SELECT coalesce(occupied_slots ->> 'cpu', '0') || ' ' || coalesce(occupied_slots ->> 'mem', '0') FROM agents WHERE id = 'i-local'`) == "0 0"
	})
}

// kernelProcesses are the processes that work below the agent's scratch folder.
func (c *cluster) kernelProcesses() (list []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(line), filepath.Join(c.dir, "scratch")) && !strings.Contains(string(line), "--scratch-root") {
			list = append(list, e.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}
