package runner

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func signalOf(s *os.ProcessState) syscall.Signal { return s.Sys().(syscall.WaitStatus).Signal() }

// peek gives the id of some ended child without collecting it, 0 when there is none.
func peek() int {
	var info [128]byte // siginfo_t
	if err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&info[12+4*(unsafe.Sizeof(uintptr(0))/8)]))) // si_pid, after three ints and padding
}

// ignores tells whether a process ignores a signal.
func ignores(pid int, signal unix.Signal) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(status, []byte("\nSigIgn:\t"))
	mask, _, _ := bytes.Cut(rest, []byte("\n"))
	bits, err := strconv.ParseUint(string(mask), 16, 64)
	return err == nil && bits&(1<<(signal-1)) != 0
}
