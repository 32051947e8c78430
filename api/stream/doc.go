// Package stream serves /stream: what a session says while it says it.
//
//	GET /stream/session/{s}/apps       the apps of a session
//	GET /stream/session/{s}/execute    WebSocket: one run of code, its output and its input
//
//	client ◀─ frames ─▶ reader ─┬─ input texts ─▶ run loop ─ Invoke ─▶ session actor ─▶ agent
//	                            └─ closed ──────▶ interrupt_kernel
//
// One goroutine reads, so that a client that leaves is noticed at once and pings are
// answered while an agent is being waited for; the run loop alone writes
// (spec/rest-session §9).
package stream
