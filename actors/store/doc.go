// Package store reads the database on behalf of actors and turns rows into their
// messages: it is services.Store on PostgreSQL and the shared settings.
//
//	public.kernels, agents, … ──persistence/postgres/live──▶ store ──▶ protocol.SchedulerLoaded, Limits, Launch, …
//	etcd config/…             ──Settings───────────────────▶
package store
