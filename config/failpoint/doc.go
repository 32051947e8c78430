// Package failpoint lets a test kill the process between two effects, where a crash is hardest to come by.
//
//	BACKENDAI_FAILPOINTS="after-commit=20"      the process exits, as if killed, when it gets to that point for the 20th time
//
// A point is a name in the code (Hit). Without the variable, which no one sets in production, it costs the reading of one bool. It is
// not a way to test errors: those are made by the servers that the tests run against.
package failpoint
