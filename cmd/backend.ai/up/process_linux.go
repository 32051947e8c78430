package up

import "syscall"

// dieWithParent has the operating system send a child a signal when its parent ends.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
