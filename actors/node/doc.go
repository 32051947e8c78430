// Package node puts the actors of one manager process together and gives the rest
// of the process a way in.
//
//	Start ─▶ actor system, desk for answers, router, workers, links to agents
//	      ─▶ owner takes the shards ─▶ sessions, agents, schedulers come to life
//	api ─ Ask(identity, message) ─▶ router ─▶ shard ─▶ actor ─▶ answer
//	bus ─ events.go ─▶ heartbeats, kernel and session events to their actors
//	Stop  ─▶ shards are let go, the journal is flushed, links and workers end
package node
