// Package ask lets code outside of actors (a request handler, a test) send a
// message to an actor and wait for its answer.
//
//	handler ── Begin ── Call.To ──▶ ReplyTo travels inside the message
//	   ▲                              │
//	   └── Call.Answer ◀── desk ◀── Answer{n, value, err}
//
// One actor per node, the desk, takes all answers; so an answer is an ordinary
// message and can come from another node, and a caller that has given up costs
// nothing: its answer finds no channel. (protoactor's own Future races with its
// timer and is not used.)
package ask
