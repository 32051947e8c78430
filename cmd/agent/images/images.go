package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	backendai "backend.ai/manager"
)

// Registry is the registry in the names of the process images.
const Registry = "cr.backend.ai"

// The runtimes of the process back end, values of the label ai.backend.runtime-type.
const (
	RuntimePython = "python"
	RuntimeShell  = "shell"
)

// Image is one interpreter of this machine, offered as an image.
type Image struct {
	Registry     string // cr.backend.ai
	Name         string // stable/python
	Tag          string // 3.11-process
	Architecture string // x86_64, aarch64
	// Digest identifies what the image is made of, "sha256:…": reference, architecture and labels. It stands for the
	// config digest of a real image, and is the same wherever the same interpreter is found.
	Digest string
	// SizeBytes is the size of the interpreter's program.
	SizeBytes int64
	Labels    map[string]string
	// Runtime is RuntimePython or RuntimeShell, Path the program.
	Runtime string
	Path    string
	// Prefixes are the folders the program needs beside the system's own.
	Prefixes []string
}

// Canonical is the full reference.
func (i Image) Canonical() string { return i.Registry + "/" + i.Name + ":" + i.Tag }

// Architecture is this machine's, in the words of the 22.03 generation.
func Architecture() string { return backendai.NormalizeArchitecture(runtime.GOARCH) }

// candidates are looked at in this order; the first of a version wins.
var candidates = []string{
	"/usr/bin/python3", "/usr/local/bin/python3", "/opt/conda/bin/python3", "/opt/python/bin/python3",
}

// Detect looks for interpreters that a kernel could run. When forOthers is set only those are taken that an account
// without privileges can reach, because a root agent runs kernels as one. It takes well under a second and never fails:
// what does not answer is left out.
func Detect(ctx context.Context, forOthers bool) []Image {
	paths := slices.Clone(candidates)
	for _, name := range []string{"python3", "python"} {
		if p, err := exec.LookPath(name); err == nil {
			paths = append(paths, p)
		}
	}
	var list []Image
	for _, path := range paths {
		img, ok := python(ctx, path)
		if !ok || forOthers && !reachable(img.Path) {
			continue
		}
		if !slices.ContainsFunc(list, func(o Image) bool { return o.Canonical() == img.Canonical() }) {
			list = append(list, img)
		}
	}
	if path, err := exec.LookPath("bash"); err == nil && (!forOthers || reachable(path)) {
		if img, ok := shell(ctx, path); ok {
			list = append(list, img)
		}
	}
	return list
}

func ask(ctx context.Context, path string, args ...string) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err == nil
}

func python(ctx context.Context, path string) (Image, bool) {
	const question = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable, sys.prefix, sys.base_prefix, sep='\\n')"
	out, ok := ask(ctx, path, "-I", "-c", question)
	lines := strings.Split(out, "\n")
	if !ok || len(lines) != 4 || !supported(lines[0]) {
		return Image{}, false
	}
	img := describe("stable/python", lines[0]+"-process", map[string]string{
		backendai.LabelFeatures:      "batch query uid-match user-input",
		backendai.LabelServicePorts:  "jupyter:http:8081,http-server:http:8000",
		backendai.LabelRuntimeType:   RuntimePython,
		backendai.LabelRuntimePath:   lines[1],
		backendai.LabelCoreCountEnvs: "OPENBLAS_NUM_THREADS,OMP_NUM_THREADS,NPROC",
	})
	img.Runtime, img.Path = RuntimePython, lines[1]
	for _, p := range lines[2:] {
		if p != "/usr" && p != "/" && !slices.Contains(img.Prefixes, p) {
			img.Prefixes = append(img.Prefixes, p)
		}
	}
	img.SizeBytes = sizeOf(path)
	return img, true
}

// supported: the runner needs Python 3.8 or newer.
func supported(version string) bool {
	major, minor, _ := strings.Cut(version, ".")
	return major == "3" && (len(minor) > 1 || minor >= "8")
}

func shell(ctx context.Context, path string) (Image, bool) {
	out, ok := ask(ctx, path, "--norc", "-c", `echo "${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}"`)
	if !ok || out == "" || strings.ContainsAny(out, " \n") {
		return Image{}, false
	}
	img := describe("stable/bash", out+"-process", map[string]string{
		backendai.LabelFeatures:     "batch query uid-match",
		backendai.LabelServicePorts: "",
		backendai.LabelRuntimeType:  RuntimeShell,
		backendai.LabelRuntimePath:  path,
	})
	img.Runtime, img.Path, img.SizeBytes = RuntimeShell, path, sizeOf(path)
	return img, true
}

func describe(name, tag string, labels map[string]string) Image {
	maps.Copy(labels, map[string]string{
		backendai.LabelKernelspec:             "1",
		"ai.backend.base-distro":              "host",
		"ai.backend.resource.min.cpu":         "1",
		"ai.backend.resource.min.mem":         "64m",
		"ai.backend.resource.preferred.shmem": "64m",
	})
	img := Image{Registry: Registry, Name: name, Tag: tag, Architecture: Architecture(), Labels: labels}
	h := sha256.New()
	h.Write([]byte(img.Canonical() + "\x00" + img.Architecture))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		h.Write([]byte("\x00" + key + "\x00" + labels[key]))
	}
	img.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return img
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// reachable tells whether everybody may run the program: each folder on the way and the file itself, links resolved.
func reachable(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for _, start := range []string{path, real} {
		for p := start; ; p = filepath.Dir(p) {
			var st syscall.Stat_t
			if syscall.Stat(p, &st) != nil || st.Mode&0o001 == 0 {
				return false
			}
			if p == "/" {
				break
			}
		}
	}
	return true
}
