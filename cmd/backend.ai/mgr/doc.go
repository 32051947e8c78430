// Package mgr is backend.ai mgr: what operators of a cluster need. (spec/config-cli-ops §4)
//
//	mgr [-f manager.toml] [--debug]
//	├── start-server         one manager process, in the foreground
//	├── schema show|oneshot  the database's tables
//	├── fixture populate     rows from a file
//	├── etcd …               the shared settings
//	├── scheduler …          what a scheduler has decided, decided again
//	├── image …              the images that sessions may use
//	├── dbshell              psql on the manager's database
//	├── clear-history        for a daily cron job
//	├── generate-keypair
//	└── sample-config        an example of manager.toml
//
// # Configuration
//
// manager.toml is read when a command needs it, not before: help works without one, and the flags of the command win over those of the
// group. A command opens what it uses (etcd, PostgreSQL, Redis) and nothing else; see tools.
//
// # Exit codes
//
// The original logs most failures and exits with 0. Here a failure is 1 and wrong usage 2, so that scripts notice.
package mgr
