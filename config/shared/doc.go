// Package shared is the tree in etcd that all managers and agents of a cluster read: /sorna/{namespace}/… (spec/config-cli-ops §2, §3).
//
//	Client ── get, put, delete, replace: what `backend.ai mgr etcd` and the admin API do        texts, trees
//	   │
//	Settings ── a mirror of config/, volumes/ and manager/, typed and always at hand             Current() *Shared
//	   │            list at a revision ─► watch from the next one ─► (compacted? list again)
//	   └─ Subscribe("config/redis") ─► a signal when something below changed
//
// Vocabulary: a key is logical, relative to the namespace and scope, its components quoted; a scope is where a key counts: for everyone,
// for a scaling group, or for one agent; a tree is the nested map of the keys below a prefix, in etcd's order.
//
// # Scopes
//
//	GLOBAL   /sorna/{ns}/{key}                       managers use only this one
//	SGROUP   /sorna/{ns}/sgroup/{group}/{key}
//	NODE     /sorna/{ns}/nodes/agents/{id}/{key}     read in the order NODE, SGROUP, GLOBAL; the first that exists counts
//
// # Two ways to read below a prefix
//
// Client.GetPrefix matches texts, as people who use the command line know it: "config/redis" also finds "config/redisfoo". Settings and
// everything inside the program match whole components.
//
// # No gap, and no outage
//
// The mirror watches from the revision after its listing, so nothing falls between; when etcd has compacted that revision away, it lists
// again and tells subscribers what differs. While etcd is away, Current keeps answering with the last values. A value that does not
// validate never replaces one that did: the old one stays, and a warning says which key is wrong and what it must be. At the start, only
// keys without which no manager can work (config/redis) are fatal; a mistake elsewhere is a warning and the default, because one bad key of
// one feature must not keep a cluster down.
package shared
