// Package backendai is the words of the project: plain values and their rules, which everything else speaks in. It imports nothing of
// the project, does no I/O, reads no clock, starts no goroutine, and keeps no state.
//
//	          slots ──── what things need and have      ResourceSlots, Decimal, BinarySize, KnownSlots
//	         /
//	session ──── names ─ what things are called         SessionID, KernelID, AccessKey, session names, cluster hostnames
//	   │     \
//	 kernel   image ──── what runs                      ImageRef, ImageLabels, ServicePort
//	   │
//	 status ──────────── where a kernel stands          KernelStatus, StatusSet, CanMove, StatusHistory
//	   │
//	 errors ──────────── what went wrong                Error, Code, Problem
//
// Vocabulary: an agent is a compute node's daemon; a kernel is one container (or process) on one agent; a session is one or more kernels
// that live and die together; a scaling group is a pool of agents with one queue; a slot is a countable resource.
//
// # Why these are not plain strings and maps
//
// The words carry the rules of the 22.03 generation, odd corners included, because agents, clients and existing databases depend on
// them: that "10bytes" is no size but "10 bytes" is, that ERROR still occupies an agent but CANCELLED does not, that an error's
// title is misspelt. Each rule is written once, here, with the section of the specification it comes from, and tested against that
// section's examples. Where the original is known to be wrong, the right thing is done and the comment says so.
//
// # Slots
//
// Amounts are exact decimals. Those of real clusters fit an int64 with a scale, so the scheduler adds and compares integers; anything
// larger goes through arbitrary-precision arithmetic and gives the same digits. ResourceSlots are immutable and keep the order they were
// given in. Comparison is a partial order: "does not fit" is not "is larger".
//
// # Status
//
// The state graph is data (Transitions): every legal move with the reason it happens. CanMove guards each write, so that late or
// replayed events never move a kernel backwards.
//
// # Errors
//
// There is one error type. Its Code says what a client sees (status, problem URI, title) and works with errors.Is; its cause is for
// logs only and never reaches a client.
package backendai
