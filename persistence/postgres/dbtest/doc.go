// Package dbtest gives every test a database of its own.
//
//	pool := dbtest.New(t)      // all tables, no rows; dropped with the test
//
// # How it is fast
//
// The schema is made once in a template; a new database is a copy of its files,
// some tens of milliseconds. The template's name carries a hash of the schema,
// so an old one is never used, and processes that test different packages at the
// same time share it.
//
//	New ──▶ server (once per process) ──▶ template (once per server) ──▶ copy (per test)
//
// # Which server
//
// BACKENDAI_TEST_PG, a connection string of a role that may create databases,
// names a server that a whole test run shares. Without it the process starts a
// private one from the machine's binaries; it ends with the process, however
// that ends. There is no skipping: without PostgreSQL a test fails.
//
// Main, called from TestMain, also removes the private server's files; without
// it the next process that needs a server does.
package dbtest
