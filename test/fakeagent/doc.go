// Package fakeagent pretends to be agents: many per process, over real ZeroMQ,
// with the books that a real one keeps. Tests and load programs drive the manager
// with them.
//
//	a := fakeagent.New(fakeagent.Config{ID: "i-1", Capacity: …, CreateDelay: …})
//	a.Start() ─▶ answers the agent RPC; Events is told what a real agent would publish
//
// It counts what must never happen: Overcommits (kernels beyond its capacity) and
// Duplicates (a kernel created while it runs).
package fakeagent
