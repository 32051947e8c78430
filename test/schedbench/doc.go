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
// The decisions about the others are the same with and without parked sessions. Yet 100,000 of them cost 8 to 16 % of the throughput of
// one core in five measurements on a busy machine, mostly 10 to 11 %: the decisions alone took 7 % longer in the two that were looked
// into, and the collector's part, which varies most, a quarter to four fifths more.
//
// Run it by `make bench-scheduler`, or `go run ./test/schedbench --format json`.
package main
