package runner

import (
	"os"
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
