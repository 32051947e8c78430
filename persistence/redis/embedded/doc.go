// Package embedded runs a private Redis for a cluster on one machine: the machine's redis-server as a child process, or, where there is
// none, miniredis inside this process.
//
//	new ──Start──► running ──Stop──► ended
//	                  └─ the process dies by itself ─► Done is closed
//
// Vocabulary: the home is the directory that holds the append-only file and nothing of anybody else's; the kind is which of the two runs.
//
// redis-server appends every change to a file that is synced each second, so a killed machine loses a second of statistics and events,
// all of which the cluster reconciles. miniredis keeps nothing over a restart; that too is only a loss of what can be found out again.
// The child dies with its parent, however the parent ends; where the operating system can't promise that, or it did not keep the promise,
// the next Start finds the orphan at its noted address and has it shut down before it opens the same files.
package embedded
