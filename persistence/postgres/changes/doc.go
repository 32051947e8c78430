// Package changes keeps cached rows fresh: on every node, a cached value is at most a second old, and is dropped at once when a
// transaction that changes its table commits.
//
//	transaction ──commit──▶ trigger ──NOTIFY backendai_changed 'users'──▶ Listener ──▶ Cache.Drop
//	                                                                                      ▲
//	reader ──▶ Cache.Get ──hit──▶ value                                              age > MaxAge
//	                └─miss──▶ load (once for all who wait)
//
// # Words
//
//   - listener: one connection of a node that hears which tables change
//   - cache: values by key, each read from rows of a few tables
//   - generation: how often a cache was dropped; a value whose load began before a drop is returned but not kept
//
// # What holds when things break
//
// While the listener has no connection, MaxAge alone bounds the age; when it has one again, it tells every cache to drop everything,
// because notifications were missed. Triggers announce tables, not rows: a rare write drops a whole cache, which is cheaper than being
// wrong.
package changes
