// Package client is a small client of the public API: for people without Python, for up, and for tests.
//
//	Client ── signed requests ──▶ POST /session, POST /session/{s}, GET /session/{s}/logs, DELETE, POST /admin/gql
//	   │
//	run ps rm logs why plan     the commands
//
// # Whose keys
//
// Keys are never arguments: everybody on a machine can read those. They come from BACKEND_ENDPOINT, BACKEND_ACCESS_KEY and
// BACKEND_SECRET_KEY, the official client's variables; else from the file client.env that `backend.ai up` writes into its data
// directory, so that on one machine nothing has to be set at all.
//
// # A run
//
//	query ──▶ continued ──▶ continue ──▶ … ──▶ finished
//	              └──▶ waiting-input ──▶ input ──┘
//
// (spec/rest-session §6) Each answer brings the output since the last one. ^C interrupts the code in the session, not only this
// program.
package client
