//go:build unix && !linux

package up

import "syscall"

// dieWithParent can't be had here: an orphan is ended at the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
