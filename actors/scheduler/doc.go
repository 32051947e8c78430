// Package scheduler decides which pending session starts next and where.
//
// # Words
//
//   - queue: the pending sessions of one scaling group, oldest first
//   - predicate: a condition of a session that is not about free slots (a quota, a
//     start time, a dependency); a session that fails one does not hold up others
//   - placement: an agent for each kernel; reserved in the core, then committed by
//     the session under both epochs, and only then counted as real
//   - allocation: slots of one kernel on one agent. Allocations only grow here and
//     only shrink here, so no race can over-commit an agent
//   - parked: looked at, found waiting for something, and not looked at again before
//     an event of a class that could help
//
// # How
//
//	Enqueue, Release, AgentState, … ─▶ Core.Apply ─▶ state, "a pass is due"
//	                                   Core.Pass  ─▶ Place, Report, TimeOut, Occupied, …  (effects)
//
// Core is pure: no clock (time comes as an argument), no I/O, no actor. Actor is
// the shell around it: it feeds messages in, makes one pass when its mailbox has
// drained, and carries the effects out. On a takeover the core is filled from the
// rows of kernels and agents, never from a counter.
//
// The order of picking, the choice of agents and the texts are those of
// spec/scheduling-lifecycle §6, §8 and §9.
package scheduler
