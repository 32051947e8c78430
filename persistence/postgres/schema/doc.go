// Package schema makes the database's tables and adopts those of an existing
// installation.
//
// # Words
//
//   - revision: what alembic_version says; the migration tool of the original
//     left it there, and reads it
//   - head: the revision of every 22.03 release, 81c264528f20
//   - tail: the revisions between the last ones of 21.09 (and the 22.03
//     pre-releases) and the head
//   - fresh and grown shape: a database created by 22.03 itself, or by an older
//     version and then migrated; they differ in details (spec/database §6)
//   - ours: schema backendai_actors, which the original knows nothing about
//
// # What Oneshot does
//
//	revision         tables?   then
//	none             none      create the fresh shape, write the head
//	none             some      refuse: not ours to guess what they are
//	head             –         adopt as it is
//	in the tail      –         apply the tail's effects, write the head
//	anything else    –         refuse
//
// and then brings ours up to date. Everything is done under one advisory lock,
// and what concerns schema public in one transaction: it happens whole or not at
// all, however many managers start at once.
//
// # Two sets of books
//
// Schema public keeps the original's books: one row in alembic_version. So the
// original's tools recognise the database, and going back to it stays possible.
// Ours keeps its own, by goose, in backendai_actors.migrations. Nothing of ours
// is in public except triggers, which hang on functions of ours:
//
//	DROP SCHEMA backendai_actors CASCADE
//
// leaves exactly what the original would have made. Do that before the original's
// migrations go on to a later version: PostgreSQL does not change the type of a
// column that a trigger names.
//
// # Who is told of changes
//
// What every request reads (keypair, user, policy, image, scaling group …) is
// cached. Triggers send NOTIFY on the channel Channel with the table's name as
// payload, once per table and transaction, when a column changes that a cached
// value could depend on: counters and time stamps do not.
package schema
