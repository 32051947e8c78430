// Command backend.ai is the one program people run. It is a manager, a whole cluster on one machine, and a small client:
//
//	backend.ai
//	├── up                  a cluster on this machine: etcd, PostgreSQL, Redis, manager, agents      package up
//	├── mgr                 what operators of a cluster need                                         package mgr
//	│   ├── start-server    one manager process                                                      package server
//	│   ├── schema fixture etcd image dbshell clear-history …
//	└── run ps rm logs      sessions, through the public API                                         package client
//
// Results go to stdout, everything else to stderr, so that commands can be piped; --format json makes results machine-readable. Exit
// codes: 0, 1 for a failure, 2 for wrong usage; run exits with the code of what it ran. (spec/config-cli-ops §4.1)
//
// # Names
//
// The official client installs a launcher of the same name. So the program also answers to the name backend.ai-mgr, under which its
// first argument is the command below mgr: ln -s backend.ai backend.ai-mgr.
//
// # Signals
//
// The first SIGINT, SIGTERM or SIGHUP ends a command in an orderly way; a second one ends the process at once.
package main
