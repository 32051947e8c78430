// Package redistest gives tests a real Redis of their own: a redis-server on a free loopback port, in a directory of the test, stopped at
// the test's end (and, should the test process be killed, with it).
//
//	test ─ New(t) ─▶ redis-server of its own ─▶ Addr, Stop, Restart, … ─▶ stopped
//
// The real server, because streams, scripts and what a flush leaves behind are what tests are about.
package redistest
