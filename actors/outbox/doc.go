// Package outbox carries the effects of an actor's core out in their order:
// persist, then act.
//
//	core.Step ─▶ [Persist, Call, Tell, Answer] ─▶ Outbox ─┬─ Persist ─▶ journal ─▶ Committed ─┐
//	core.Step ─▶ [Tell]                          ─▶  (queue) ◀───────────────────────────────┘
//	                                                       └─ then Call, Tell, Answer; then the next step
//
// What a step wants done after its rows are written waits for the commit, and so
// does every later step: nobody is told of a state that the database does not
// have. When the rows are refused, the rest of the step is dropped and the core
// gets a Refused event; it knows from the label which step it was.
//
// An Outbox belongs to one actor and is used on its goroutine only.
package outbox
