// Package protocol holds the messages that actors send each other.
//
// They are plain values: no pointers into an actor's state, no channels, no
// contexts. So they can cross to another node, be recorded and be replayed, and
// the pure cores take them as their events as they are.
//
//	           Create, AwaitStart, Destroy, Restart, Rename, Invoke
//	api ──────────────────────────────────────────────▶ session ─┬─ Start, End, … ─▶ kernel
//	                                                     ▲    │   └◀ KernelChanged ──┘  │
//	                                  Placement, Attempt │    │ Enqueue, Release, …     │ Call
//	                                                     │    ▼                         ▼
//	redis events ── Heartbeat, AgentEvent ──▶     scheduler ◀── AgentState ──── agent twin ── ZeroMQ
//
// Commands are idempotent by the ids they carry: taking one twice does nothing the
// second time. Answers go to a ReplyTo (code that waits) or a Ref (an actor).
package protocol
