// Package kernel is the life of one kernel: one container (or process) on one agent.
//
// # Words
//
//   - row: the kernel's row in public.kernels; the actor's state is that row plus
//     what is in flight
//   - stage: what the actor is doing; the row's status follows it
//   - uncertain: an RPC was sent and its answer is lost, so nobody knows whether the
//     agent has carried it out; the agent is asked what it has before the RPC is sent again
//   - freed: the agent no longer holds the kernel's slots
//
// # How
//
//	Idle ─Start─▶ Starting ─result─▶ Running ─RestartKernel─▶ Restarting ─▶ Running
//	                 │ failure, End{Abort}  │ End                 │
//	                 ▼                      ▼                     ▼
//	              Aborting ─▶ Aborted    Ending ─▶ Dead   (or by kernel_terminated, from any stage)
//
// Core is pure: Step(event) returns effects; the shell in actor.go writes rows, calls
// the agent and tells the session. Events of the bus may come late, twice or not at all:
// the RPC's own answer is enough for every move, an event only makes it faster, and no
// event moves a status backwards (spec/scheduling-lifecycle §5.1, FIX).
package kernel
