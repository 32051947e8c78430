// Package inspect shows the actors of all nodes while they live, and the nodes themselves, to super-admins.
//
//	GET /inspect/actors?view=tree&kind=session&id=…&shard=…&limit=…
//	     └▶ node.Survey ─▶ every node's inspector ─▶ one listing ─▶ JSON
//	GET /inspect/cluster
//	     └▶ members and leases, claims and epochs, what is moving
//	GET /inspect/schedulers/{group}/record
//	     └▶ the last steps of a scaling group's scheduler, as JSON lines, to be replayed elsewhere
//
// It reads copies: looking stops no actor. The listing is bounded; ask by kind, id or
// shard rather than for everything at once.
package inspect
