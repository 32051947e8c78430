// Command arrows checks that imports point down only:
//
//	cmd → api → actors → cluster, persistence → config → words
//
// A wrong one fails with a sentence that says where the code belongs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

const module = "backend.ai/manager"

// height of each room; a package may import rooms that are lower, and its own.
var height = map[string]int{"cmd": 5, "api": 4, "actors": 3, "cluster": 2, "persistence": 2, "config": 1, "": 0}

// test and docs hold no product code: they may import anything, and nothing but tests may import them.
const testRoom = "test"

func room(path string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	first, _, _ := strings.Cut(rest, "/")
	return first
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func main() {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "arrows: go list:", err)
		os.Exit(1)
	}
	wrong := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "arrows:", err)
			os.Exit(1)
		}
		for _, imported := range p.Imports {
			if sentence := check(p.ImportPath, imported); sentence != "" {
				fmt.Println(sentence)
				wrong++
			}
		}
	}
	if wrong > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong with an import, or "".
func check(from, to string) string {
	if !strings.HasPrefix(to, module) {
		return ""
	}
	a, b := room(from), room(to)
	switch {
	case a == testRoom || a == b:
		return ""
	case b == testRoom:
		return fmt.Sprintf("%s imports %s: product code must not need test code; move what it needs to the room of the product code.", from, to)
	}
	ha, known := height[a]
	if !known {
		return fmt.Sprintf("%s is in no room: the rooms are cmd, api, actors, cluster, persistence, config and the words at the top.", from)
	}
	hb, known := height[b]
	if !known {
		return fmt.Sprintf("%s imports %s, which is in no room.", from, to)
	}
	if ha > hb {
		return ""
	}
	return fmt.Sprintf("%s imports %s, which is above it or beside it: take what you need as an argument, or move the code up to %s.", from, to, b)
}
