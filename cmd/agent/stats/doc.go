// Package stats measures this machine and its kernels, in the metrics and the form of the 22.03 generation
// (spec/agent-protocol §12).
//
//	/proc, cgroup ──▶ Node, Kernel: a sample ──▶ Series: min, max, avg, rate … over samples ──▶ callosum.Map ──▶ Redis
//
// Where the original's numbers are known to mislead, the sane value is given under the same key: the first sample of a rate is 0,
// and the capacity of a kernel's memory is what it was granted.
package stats
