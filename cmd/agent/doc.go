// Command backend.ai-agent makes a machine part of a Backend.AI cluster without containers: it serves the protocol of a 22.03 agent and
// runs kernels as isolated processes.
//
//	main ─ settings, directory (etcd), bus (Redis) ─▶ node: RPC and kernels ─▶ host: one process per kernel
//
//	images     the interpreters of this machine, as images       sandbox   namespaces, limits, killing
//	resources  cores, memory, ports                              runner    Python and bash that keep their state
//	files      the home folder, confined                         stats     measurements
//
// SIGTERM ends the agent and its kernels; SIGINT ends the agent alone, and the next one finds the kernels, as it does after any
// other end of the program.
package main
