// Package node puts the actors of one manager process together and gives the rest
// of the process a way in.
//
//	Start ─▶ actor system, desk for answers, router, workers, links to agents
//	      ─▶ owner takes the shards ─▶ sessions, agents, schedulers come to life
//	api ─ Ask(identity, message) ─▶ router ─▶ shard ─▶ actor ─▶ answer
//	other nodes ═ transport ═▶ company.go ─▶ router, or who waits for an answer
//	members ─ views ─▶ owner: what to take, what to hand over
//	bus ─ events.go ─▶ heartbeats, kernel and session events to their actors
//	Drain ─▶ shards are handed over to other nodes
//	Stop  ─▶ shards are let go, the journal is flushed, links and workers end
//
// Ask survives the death of the node that it asked: it sends what can be repeated to
// the actor's next owner.
package node
