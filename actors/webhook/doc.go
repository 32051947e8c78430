// Package webhook calls the web hooks of sessions: a session that was created with
// a callback URL has each step of its life POSTed there
// (spec/rest-session §12.2).
//
//	session ─ Session(url, event, …) ─▶ queue (bounded) ─▶ a few senders ─▶ POST, 30 s, no retry
//
// A slow or dead receiver costs its own notices, never a session: when the queue is
// full, notices are dropped and counted.
package webhook
