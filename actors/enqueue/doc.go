// Package enqueue turns a request for a session and what the rows say about its
// owner into the session's own rows, or into the refusal that the client gets.
//
//	POST /session ─▶ Request ─┐
//	                          ├─▶ Plan (pure) ─▶ protocol.Create ─▶ session actor
//	rows, settings ─▶ Facts ──┘            └──▶ *backendai.Error
//
// All reading happens before; Plan checks in the order of the original, so that a
// request with several faults is refused for the same one
// (spec/rest-session §3.4–§3.7, spec/scheduling-lifecycle §4).
package enqueue
