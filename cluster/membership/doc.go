// Package membership is one process's place in the cluster: it is seen by the others, sees them, and claims shards.
//
// # Words
//
//   - member: a process that holds a lease in etcd. Its ID is its name and its incarnation, so a restarted process is another member
//   - lease: what a member renews every third of the TTL; when it stops, everything that hangs on the lease is gone at once
//   - claim: "this member acts for that shard", one key that only one member can create
//   - view: members and claims at one revision of etcd; two nodes that have seen the same revision have the same view
//   - prefix: where the cluster's keys are. It ends in "/", so a cluster named "a" never reads the keys of one named "ab"
//
// # Keys
//
//	{prefix}nodes/{id}    Member as JSON    under the member's lease
//	{prefix}shards/{n}    Claim as JSON     under the claimer's lease; created only if absent, deleted by its owner only
//
// # Life
//
//	New ── Start ─▶ admitted? ── register ─▶ member ◀──────────── renewed every TTL/3 ────────────┐
//	                   │ no                    │  └───────────────────────────────────────────────┘
//	                   ▼                       ├── Stop ──▶ lease revoked: claims and member gone at once
//	              an error that says why       └── lease lost ──▶ OnExpired ──▶ old lease revoked ──▶ register again, same ID
//	                                                                              (retries for ever)
//
//	list at revision r ──▶ watch from r+1 ──▶ OnView(newest)      watch broken, or r compacted away? list again
//
// # Why
//
// etcd says who should act, not who may: a process that was paused does not know that its lease is gone. So a claim is an agreement that
// keeps two nodes from fighting over a shard, and the shard's epoch in PostgreSQL is the fence. A lease counts as lost as soon as no
// renewal has been answered for a TTL by the local clock, whatever etcd may think; its claims are then dropped from the view at once, and
// the lease is revoked before another is taken, so that claims of two leases never mix.
//
// Whether a claim is one's own is decided by the lease that its key hangs on, never by the name in it: that comparison is made by etcd
// within the transaction that writes.
package membership
