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
// The decisions about the others are the same with and without parked sessions; what these cost is memory that caches and the collector of
// garbage have to deal with. It is measured directly (parked.go): three processes work in turn, two of them without parked sessions, to
// show how exact the answer is. On the machine where this was written 100,000 of them cost 2.9 to 5.6 % in four runs.
//
// Run it by `make bench-scheduler`, or `go run ./test/schedbench --format json`.
package main
