// Package cluster says which shard an actor belongs to, which node owns the
// shard, and brings a message to an actor wherever it lives.
//
// # Words
//
//   - identity: kind and id of an actor ("session", its uuid)
//   - shard: a numbered slice of all actors; ShardOf maps an identity to it
//   - owner: the one node that may act for a shard, under the shard's epoch
//   - router: the table from shards to the actors that supervise them here, or
//     to the nodes that own them
//   - wanted: the member that should own a shard, by rendezvous hashing
//
// # How
//
//	api ── Send(identity, message) ─▶ Router ─ ShardOf ─▶ shard actor ─▶ session, agent, scheduler
//	                                            │
//	                       Ownership: Take (epoch+1) ─▶ spawn ─▶ Router.Set
//	                       a view of the members ───────────────▶ Router.SetNode
//
// Package membership says who is there and who should act, package transport
// carries messages to other nodes. protoactor's own cluster is not used: it blocks
// a member that was away for ever, and knows no epochs.
//
// ShardOf can be computed by PostgreSQL as well (the first 32 bits of md5), so
// that a shard can select its own rows.
package cluster
