// Package inspector knows every actor of a node while it lives.
//
// # Words
//
//   - entry: what is known of one actor: who it is, what waits in its mailbox,
//     what it has done, what it is doing now
//   - state: a word of the actor's state machine, noted after each message
//   - look, facts: whoever lists actors asks them for a few facts by a message;
//     one that is busy shows what it told when it was last looked at
//
// # How
//
// Actors are spawned through Props, which adds three middlewares. Nothing is
// registered by hand, so nothing can be forgotten:
//
//	Spawn ─▶ Started ──────────▶ entry appears under its parent
//	message ─▶ mailbox ─▶ entry: depth, age of the oldest
//	        └▶ Receive ─▶ entry: current message since …, last types with durations, state
//	panic ─▶ entry: restarts, last error
//	Stopped ───────────────────▶ entry is gone
//
// Each entry is guarded by its own lock that is held for nanoseconds; reading the
// whole node copies entries one by one and stops no actor.
package inspector
