// Package resources keeps the books of what this machine has and which kernel holds it: processor cores, memory, ports.
//
// A slot is granted per device: each core is a device of its own, memory is the one device "root". A core belongs to one
// kernel at a time. The manager decides placements by the same numbers, so a refusal here means that two managers
// disagree, or that the agent lost something; it refuses rather than over-commits.
package resources
