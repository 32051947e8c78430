// Package config is what a manager is told from outside before it does anything: its own file, manager.toml, and (in package
// config/shared) the settings that all managers and agents of a cluster share in etcd. Package config/logging turns the file's
// [logging] table into loggers.
//
//	manager.toml ──parse──► tables ◄──BACKEND_* variables, --debug
//	                          │
//	                        read: every key typed, every mistake noted
//	                          │
//	             Manager (plain values)   or   one error that lists all mistakes
//
// Vocabulary: a key is written as in the file with its tables, "manager.service-addr"; a problem is one key whose value can't be used,
// told as file, key, value and what is allowed; a secret is a value that prints as ***.
//
// # Why not unmarshal into a struct
//
// The 22.03 generation accepts several forms for one key (an address is a text, a pair or a table; a boolean may be the text "yes"),
// environment variables put texts where the file has numbers, and unknown keys are kept for later generations. A decoder that
// knows Go types stops at the first mismatch and says which Go type it wanted; a person who fixes a file wants all mistakes at once, in
// the file's words.
//
// # Compatibility
//
// Every file of 22.03 works unchanged (spec/config-cli-ops §1). Our own keys live in the table [actors], all optional, which the original
// ignores, so one file serves both.
package config
