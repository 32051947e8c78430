package runner

import (
	_ "embed"
	"encoding/json"
	"path/filepath"

	"backend.ai/manager/cmd/agent/images"
)

//go:embed python.py
var pythonScript []byte

//go:embed shell.sh
var shellScript []byte

// Scripts are the files that interpreters are started with, by name; they must lie in the folder given in Config.
func Scripts() map[string][]byte {
	return map[string][]byte{"python.py": pythonScript, "shell.sh": shellScript}
}

// Config says which interpreter to keep.
type Config struct {
	Runtime string   // images.RuntimePython or images.RuntimeShell
	Path    string   // the program
	Scripts string   // folder with Scripts
	Dir     string   // to start in
	Env     []string // all of the environment
}

func (c Config) argv() []string {
	if c.Runtime == images.RuntimeShell {
		return []string{c.Path, "--norc", "--noprofile", filepath.Join(c.Scripts, "shell.sh")}
	}
	return []string{c.Path, "-u", filepath.Join(c.Scripts, "python.py")}
}

// command encodes an order to the interpreter.
func (c Config) command(op, key, text string) ([]byte, bool) {
	if c.Runtime == images.RuntimeShell {
		return append([]byte(text), 0), op == "code"
	}
	raw, err := json.Marshal(map[string]string{"op": op, key: text})
	return append(raw, '\n'), err == nil
}

// Default gives what "*" stands for in a step of a batch run, as a shell command; "" for a step to leave out.
func Default(runtime, step string) string {
	switch {
	case runtime == images.RuntimePython && step == "build":
		return `if [ -f setup.py ]; then python3 setup.py develop --user; fi`
	case runtime == images.RuntimePython && step == "exec":
		return `python3 main.py`
	case runtime == images.RuntimeShell && step == "exec":
		return `bash main.sh`
	case step == "exec":
		return `./main`
	}
	return ""
}
