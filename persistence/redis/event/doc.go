// Package event is the vocabulary of the event bus: one Go type per event of the 22.03 generation, and their form on the wire
// (spec/agent-protocol §8). It is pure: no connection, no clock.
//
//	entry of the stream "events":   name = kernel_started   source = i-gpu03   args = MessagePack array
//	                                        │                                      │
//	                                 picks the type                  its fields, in order
//
// Vocabulary: the source is who published, an agent's id or "manager"; args are positional, so the order of a type's fields is the
// protocol. Extra elements are ignored (a newer peer), missing ones are an error (nobody knows what was meant).
//
// Events may be lost, doubled and late: the stream is trimmed, Redis may be flushed, entries of a dead consumer are delivered again.
// Whoever takes one must be idempotent and reconcile.
package event
