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
//   - ledger: what access keys, projects and domains take, over all scaling groups; council: the schedulers that share one. They live in
//     one shard, so that seeing what is left of a quota and taking of it is one step, as under the original's lock
//   - parked: looked at, found waiting for something, and not looked at again before
//     an event of a class that could help
//   - crowd: parked sessions that wait for the same quota, of which either all could
//     pass it or none
//   - head: the session that fits nowhere and holds up those behind it
//   - reservation: when and where the head will fit, as far as ends are known
//   - victim: a running session that has to go for a head of a higher priority; what it
//     leaves is held for that one
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
//
// # What an event costs
//
// The original looks at everything each time. Here the answers are the same, but
//
//   - an agent is found through an index (index.go): agents of identical capacity form a
//     class, and a tree over each class says which subtrees cannot have what is wanted. The
//     policies' choices are running maxima over the agents in order of id, and need no more than
//     the first that fits of each class
//   - a session that fails a predicate is parked by what could help it (queue.go, crowd.go): its start
//     time, a dependency, newer limits, or somebody's giving back of a certain quota. Of a crowd one
//     goes ahead, and the next only follows when that one has passed
//   - a request that fits nowhere is not searched for again before something is freed
//
// So a hundred thousand parked sessions are not looked at until something happens that concerns them.
// Clients still see the original's regular retries in status_data (retries, last_try), with
// one bound: at a tick (10 s) the head of the queue and the few hundred oldest parked sessions are
// tried and reported again, not all; the others keep what their last try has found. What is true of them
// now is what Core.Explain tells.
//
// # More than the original's, where it is asked for
//
// A scaling group's scheduler_opts.config can ask for more (protocol.Options). What is off costs nothing and changes nothing. The order (order.go):
//
//		priority ─▶ fair share ─▶ the policy's own: drf's shares, retries to skip, age
//
//	  - priority: what a session says of itself, changeable while it waits. A newcomer that goes before the session which
//	    holds up the queue is looked at at once
//	  - fair share (use.go): owners who have used less go first. Used are slot-seconds, decaying by a half-life, compared by the
//	    dominant share as in drf. For each owner there are sums as of a time and what is used per second since, nothing else, so that
//	    time costs nothing. They are written down every minute and on a hand-over (Used): rows of ended
//	    kernels don't say when they began to run
//	  - placement (rank.go): spread takes the agent of which the smallest dominant share would be used, pack the largest. In each class the
//	    agents are sorted by that, with bounds, so that not all are looked at
//
// Options that are not understood do not replace those that were (options.go): a slip must not turn a group's order over. It is told in the
// log, among the actor's facts and to who asks why.
//
// # Ahead of the head
//
//	Pass ─▶ a head that fits nowhere ─┬─ preemption: victims ─▶ Preempt (effects), a hold until they have gone
//	                                  └─ backfill:   a reservation ─▶ those behind start beside it
//
// Both are options of a scaling group (protocol.Options); without them nothing of this is kept or done.
//
// A reservation (reservation.go) lets what runs end in the order of its time limits, in thought, until the head fits; sessions without a limit
// never end, those that are being destroyed do at once, those that are overdue by more than a minute hang and never do. With backfill (backfill.go),
// sessions behind the head start, in the policy's order, if they fit now and have ended by then, or take nothing of what the head needs on its agents,
// and leave it its quotas. At most 200 are looked at in a pass. So nothing that starts behind a head puts it off, as long as sessions end when their limits
// say; that a session takes long to come up does, as its limit counts from when it runs. The reservation is found again at each pass: an early end
// brings it forward.
//
// With preemption (preempt.go, victims.go), sessions that said they may be are ended for a head of a higher priority: rather those of lower
// priority, then fewer, then those that lose less run time times size; none that can be spared, and none at all if they would not be enough or what
// ends anyway is. What they leave is held for the head for a minute, then victims are chosen again. Who was told and did not go is not told again.
// None of this outlives the scheduler: the next one sees in the rows who is about to end, and whoever is told twice goes once.
//
// Estimate (estimate.go) goes on from one end to the next on a copy, with the real decisions, until a session starts.
//
// # Why, and what if
//
// A decision leaves its reasons as typed values (reason.go) on the session it was about; Explain returns them, makes
// the same tests again where something has happened since, and adds what only matters to who asks: the count
// of the agents by the test they fail, and who is ahead. Clone copies the state, so
// that Pass, the real decision, can be made on a copy: WhatIf tells the placements that would follow from some
// changes, and Counterfactual looks for the least change by which a session would start now. What it returns was tried. PlanFor does so for a
// session that nobody has asked for yet, Differ compares a pass with and without changes. Followers (follow.go) are callers who wait for
// an explanation to become another.
//
// # Again
//
// A Record keeps the last steps of a core, and the state from which they start, so that the same decisions can be made again elsewhere
// (Replay): effects come in an order, and are made of values, that depend on the events and their times alone. A new field of the state
// has to be written in snapshot.go; tests find one that was forgotten, and effects that hang on the order of a map.
package scheduler
