// Package server is one manager process put together: what mgr start-server and up run.
//
//	etcd settings ─▶ PostgreSQL ─▶ Redis ─▶ journal ─▶ node (actors) ─▶ API
//	                                          stream ─▶ consumer ─▶ node
//
// Start brings the parts up in that order and the API last but one: events are
// consumed only when the shards are owned, so that none finds nobody at home. Stop
// goes the other way: no new requests, running ones answered, shards let go, journal
// flushed, stores closed.
package server
