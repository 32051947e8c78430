// Command schedbench measures the scheduler's core alone: no actors, no rows, one processor.
//
// # Words
//
//   - decision: one session looked at: placed, or found waiting with its reason
//   - steady state: the cluster is full, sessions end at random, others are enqueued for those placed, so
//     that the queue keeps its length; a pass is made after every few ends
//   - parked: sessions that wait for something else than an agent, as many as asked for, of every class there is
//
// # What it shows
//
//	decisions/s with 100, 1,000 and 5,000 agents and 10,000 pending sessions of mixed sizes, for each policy
//	the same with 100,000 parked sessions beside them
//	a gang of 1,500 kernels, placed all or nothing
//	growth with agents and with the queue, as plots
//	what the policies make of a trace (trace.go): makespan, utilisation, fairness, wait by size of job
//
// The decisions about the others are the same with and without parked sessions, yet 100,000 of them have cost 13 to 25 % of the throughput
// where this was measured (a busy machine). The garbage collector takes a larger part of the time then, but a larger GOGC (300)
// has not made the difference go away: its cause is not known yet.
//
// Run it by `make bench-scheduler`, or `go run ./test/schedbench --format json`.
package main
