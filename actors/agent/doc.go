// Package agent is the twin of an agent: the actor that stands for one compute
// node's daemon, keeps its row true and carries the calls of sessions and kernels
// to it.
//
// # Words
//
//   - agent: the daemon outside; twin: its actor here
//   - heartbeat: what an agent says of itself every 3 s; it registers the agent,
//     brings it back, and is the only judge of its life
//   - lost: silent for longer than manager.heartbeat-timeout. Its kernels stay as
//     they are until it comes back and is asked about them
//   - link: the one lasting ZeroMQ connection, owned by package callosum's I/O
//     goroutines; the twin hands calls in and the answers go straight to the askers
//
// # How
//
//	bus ─ Heartbeat, AgentJoined, AgentLeft ─▶ twin ─┬─ Persist ─▶ public.agents
//	kernel, session ─ Call ─────────────────────▶    ├─ AgentState ─▶ scheduler of its group
//	                                                 ├─ Reconcile ─▶ sessions that have kernels there
//	                                                 └─ callosum ─▶ agent ─▶ CallResult, Answer ─▶ asker
package agent
