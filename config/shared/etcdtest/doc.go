// Package etcdtest runs an etcd inside the test process: one per call of New, on free loopback ports, in a directory of the test.
//
//	test ─ New(t) ─▶ etcd in this process ─▶ client ─▶ …the test's end stops it
//
// The real server, because what a watch does after a compaction or a lost connection is what tests are about.
package etcdtest
