// Package inspect shows the actors of a node while they live, to super-admins.
//
//	GET /inspect/actors?view=tree&kind=session&id=…&shard=…&limit=…
//	     └▶ inspector.List / Tree ─▶ JSON
//
// It reads copies: looking stops no actor. The listing is bounded; ask by kind, id or
// shard rather than for everything at once.
package inspect
