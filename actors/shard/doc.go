// Package shard supervises everything that one shard owns.
//
// # Words
//
//   - shard: a numbered slice of all actors, owned by one node under an epoch
//   - owner: the actor that takes shards for this node and supervises them
//   - plan: what a node should take, hand over or drop, from its view of the members
//   - hand-over: drain (nothing new, what is committed is carried out), flush the
//     journal, release the claim
//   - respawn: a crashed actor's next life, after a real pause, from its rows
//   - quarantine: a session that crashes again and again is moved to ERROR with the
//     reason; nothing else stops
//
// # How
//
//	view ─▶ PlanFor ─▶ owner
//	owner ─ claim, Take (epoch+1), read the rows ─▶ shard ─┬─ session ─ kernel …
//	                                               ├─ agent twin
//	    ◀─ Reclaim (its scheduler crashed)         └─ scheduler
//	    ◀─ GaveUp  (a later epoch exists)
//
// Messages come as cluster.Envelope; the shard passes them to the child, makes it if
// the message is one that creates, and tells a caller when there is none.
//
// A scheduler that crashes may have placements under way that are committed after its
// next life has read the rows. So its crash ends the shard's whole epoch: the shard is
// taken again, and placements of the old epoch are refused.
package shard
