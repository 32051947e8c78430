// Package session is the life of one session: one or more kernels that live and
// die together.
//
// # Words
//
//   - member: what the session knows of one of its kernels
//   - phase: where the session is in its life; its status, as clients see it, is the
//     status of its main kernel's row
//   - launch: what starting needs beyond the rows (images, keys, a network)
//   - waiter: an API call that is answered when something has happened
//
// # How
//
//	Create ─▶ Creating ─commit─▶ Pending ─Placement─▶ Launching ─▶ Starting ─▶ Running
//	                                │ Destroy, TimedOut    │            │ failure     │ Destroy, time limit, Preempt, end of the main kernel
//	                                ▼                      ▼            ▼             ▼
//	                             cancelled              Aborting ─ all freed ─▶    Ending ─ all dead ─▶ gone
//
// A placement is committed in one transaction for all kernels, under the epochs of
// both the session's and the scheduler's shard, before any agent hears of it. A start
// is all or nothing: when one kernel fails, the others are removed and all rows end
// CANCELLED. The actor stops when every kernel is dead and freed.
//
// A session that has asked for a time limit (resource_opts.time_limit) is ended, as if by its owner, when its last kernel has been RUNNING for so
// long. The rows say since when, so it does not matter who owns the session then, and a restart does not begin it anew.
package session
