// Package auth is the /auth resource: who am I, logging in, signing up and out, passwords and SSH keys (spec/rest-core §7.1).
//
//	POST /auth/authorize   e-mail and password ──▶ keypair       the web server logs people in with it
//	GET  /auth/role        what the signing keypair may do
//
// # Passwords cost CPU
//
// Checking a bcrypt hash takes a quarter of a second, and anybody may ask for it. As many checks run at a time as there are processors;
// who does not get a turn in time is told to come again, and all other requests go on.
package auth
