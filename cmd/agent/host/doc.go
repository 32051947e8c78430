// Package host is the process that holds one kernel: it outlives the agent and is found again by it.
//
//	agent ──clone──▶ kernel-host ─Enter─▶ kernel-host-inner         one process, two programs: the first builds the
//	  ▲                (privileges)         (none)                  sandbox, the second serves from within
//	  │ host.sock                            │
//	  └─ one request, one answer ───────────▶├─ interpreter          query runs
//	     per connection                      ├─ batch commands
//	                                         └─ services
//
// In the strictest degree of isolation the host is process 1 of the kernel, so killing it ends everything inside; in the
// others it is the sub-reaper of all that the kernel starts. The agent hands it three open files: the listening socket,
// the log, and its [Spec]. It needs nothing else of the machine, and code inside the kernel sees neither.
//
// The host, not the agent, keeps the state of runs ([Runs]): the queue of output, the run that is under way, and the result
// that was fetched last. A restarted agent goes on with "continue" as if nothing had been.
package host
