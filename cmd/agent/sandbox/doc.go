// Package sandbox puts a kernel where it can do no harm, as far as the machine allows.
//
// There are three degrees, tried from the top at start-up by [Probe] with a child that really enters one:
//
//	namespaces   mount, PID, IPC and UTS namespaces (and a user namespace unless the agent is root): own root file
//	             system, own /proc, own /tmp; PID 1's death is the death of every process inside
//	mounts       the same without the PID namespace, where /proc cannot be mounted (inside some containers)
//	process      a session of its own, resource limits, a clean environment; a root agent still changes the account
//
// The new root is a tmpfs into which only named things are bound, so that what is not named is not there, the
// agent's own files and those of other kernels above all:
//
//	/ (tmpfs) ── usr, bin, lib…   read-only, the machine's
//	          ├─ etc              a handful of entries; own passwd, group, hosts, resolv.conf
//	          ├─ proc, dev, tmp   own
//	          ├─ home/work        the kernel's work folder
//	          ├─ home/config      environ.txt, resource.txt; read-only
//	          └─ …                virtual folders, mounted after the pivot, when a symbolic link left behind by user
//	                              code can no longer point at anything outside
//
// A process enters in two steps: the agent clones it with [Attributes], and it calls [Enter] itself, which ends without
// privileges, without capabilities and with no_new_privs set. It then executes what it came for.
//
// Limits are a cgroup's where a version 2 tree is writable ([NewCgroup]), and rlimits elsewhere. [Tree] and [KillTree] find
// and end all descendants of a process for the degree without a PID namespace.
package sandbox
