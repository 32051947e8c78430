// Package journal writes the rows of actors: many at a time, each under its
// shard's epoch, and tells every actor when its rows are safe.
//
// # Words
//
//   - entry: what one actor wants written at once: rows and patches, the guard of
//     its shard, and a function that is told the outcome
//   - guard: a shard and the epoch under which the entry was made
//   - writer: a goroutine that commits whatever has piled up as one transaction;
//     a shard is pinned to one writer, so its entries commit in their order
//   - deposed: the guard's epoch is no longer the shard's; the entry is refused
//
// # How
//
//	actor ─Submit─▶ queue ─┐
//	actor ─Submit─▶ queue ─┼─▶ writer: BEGIN
//	actor ─Submit─▶ queue ─┘     SELECT … FROM shards … FOR SHARE   ← fails unless every guard holds
//	                             INSERT … FROM json_to_recordset    ← one statement per table, not per row
//	                             UPDATE … FROM json_to_recordset
//	                           COMMIT ─▶ Done(nil) for each entry: persist, then act
//
// All of that is sent at once, in one round trip. Only when a guard does not hold, which is rare, it is done again in two: the first
// finds out which entries are deposed and refuses them alone.
//
// Commits and round trips, not actors, are what limits throughput; so the batch
// grows by itself with the load: what comes during a commit is the next batch. Where that is little although entries keep coming, as on
// one of several nodes, a writer waits a few milliseconds for more (pace). Locking the shard's row
// FOR SHARE makes raising an epoch wait for the commits before it and refuse
// those after it: a node that was paused past its lease can send whatever it
// likes, nothing of it is written.
//
// One that is paused in the midst of a transaction holds the lock, though, and with it up everyone who would take the shard. So the journal's
// connections have a short limit (IdleTimeout) after which the server ends a transaction whose client says nothing.
//
// # Failure
//
// While PostgreSQL is away a writer keeps its batch and tries again: entries wait,
// nothing is lost. Values are absolute and inserts recognise themselves, so a
// commit whose answer got lost can be repeated. An entry that the database itself
// refuses (a broken foreign key, say) is found by halving the batch and refused
// alone; the rest stands.
package journal
