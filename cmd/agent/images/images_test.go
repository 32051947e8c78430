package images

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	backendai "backend.ai/manager"
)

func TestDetectedImagesPassTheManagersChecks(t *testing.T) {
	list := Detect(context.Background(), false)
	if _, err := exec.LookPath("bash"); err == nil && len(list) == 0 {
		t.Fatal("nothing found on a machine with bash")
	}
	for _, img := range list {
		ref, err := backendai.ParseImageRef(img.Canonical(), []string{Registry}, img.Architecture)
		if err != nil {
			t.Fatal(err)
		}
		if ref.Canonical() != img.Canonical() {
			t.Errorf("%s reads as %s", img.Canonical(), ref.Canonical())
		}
		if _, err := ref.PlatformTags(); err != nil {
			t.Error(err)
		}
		labels := backendai.ImageLabels(img.Labels)
		if !labels.IsKernel() || labels.RuntimeType() != img.Runtime || labels.RuntimePath() != img.Path {
			t.Errorf("labels of %s: %v", img.Canonical(), img.Labels)
		}
		if _, err := labels.ServicePorts(); err != nil {
			t.Error(err)
		}
		if len(img.Digest) != 71 || !strings.HasPrefix(img.Digest, "sha256:") {
			t.Errorf("digest %q", img.Digest)
		}
	}
}

func TestOnlyReachableProgramsAreForOthers(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	program := filepath.Join(dir, "p")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if !reachable(program) {
		t.Error("an open program is not reachable")
	}
	os.Chmod(dir, 0o700)
	if reachable(program) {
		t.Error("a program in a private folder is reachable")
	}
}

func TestSupportedVersions(t *testing.T) {
	for version, want := range map[string]bool{"3.7": false, "3.8": true, "3.11": true, "2.7": false, "3.14": true} {
		if supported(version) != want {
			t.Error(version)
		}
	}
}
