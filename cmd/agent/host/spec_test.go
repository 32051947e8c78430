package host

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The inner program reads the same descriptor as the outer one, whatever the garbage collector has done between the two.
func TestSpecificationIsReadTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), specFile)
	if err := os.WriteFile(path, []byte(`{"kernel_id":"k"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 {
		s, err := readSpec(descriptor(fd))
		if err != nil || s.KernelID != "k" {
			t.Fatal(s.KernelID, err)
		}
		for range 3 { // a file that nobody holds is closed by a finalizer, in the second round at the latest
			runtime.GC()
		}
	}
}
