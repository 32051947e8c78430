// Package simulation runs whole clusters, many manager processes and agents, in one goroutine, in virtual time, under a seed.
//
// # Words
//
//   - world: one cluster with its database, its etcd, its agents and its users; one seed makes one world, always the same
//   - process: one manager process; what it has in memory is gone when it is killed, and waits when it is paused
//   - shell: what stands for the actor.go around a core here. The cores (session, kernel, agent, scheduler), the outbox and the
//     plan for shards are the real ones; nothing of them is copied
//   - fault: something small that goes wrong with a probability (a message is lost, an answer, an event, a commit's answer)
//   - disaster: something that befalls a whole part (a process is killed or paused beyond its lease, an agent's daemon dies,
//     a link is cut, the database is away, etcd out of reach, an actor crashes, a node drains)
//   - heal: faults end; from then on the world must come to rest by itself
//   - truth: what containers there are, as the agents know it
//
// # How
//
//	seed ─▶ build ─▶ faults, disasters, users ─▶ heal ─▶ settle ─▶ sweep ─▶ leaked?
//	                 I1 I3 I5 I6 I9 at every      │       I7 I8     I4       books are zero
//	                 commit and creation          └ restart, resume, reconnect
//
//	process ┬ owner ── PlanFor ──▶ take, renew, hand over, drop           etcd: members, claims, leases
//	        ├ shard ┬ session core ─ outbox ─▶ writer ─▶ transact ───▶    database: rows, epochs
//	        │       ├ kernel core ── Call ─┐                              agents: containers, fences
//	        │       ├ agent core (twin) ◀──┘─ rpc ─▶ link ─▶ serve ──▶
//	        │       └ scheduler core                                      bus: heartbeats, events
//	        └ route ─▶ network between processes
//
// An event queue ordered by time is all there is: every latency is drawn from the seed's generator, so that things that run beside
// each other meet in every order. Mailboxes keep their order, connections keep theirs unless a fault breaks it, and everything else is
// free. Nobody asks the real clock, no goroutine is started within a world, and effects that a core gathers from a map are sorted, so
// that a seed that fails fails again; it is then run a second time to tell what happened.
//
// # Invariants
//
//	I1  allocated ≤ capacity per agent and slot, by the committed rows and by every scheduler's books, always
//	I3  a kernel lives on one agent only, always
//	I4  every session that was accepted ends RUNNING or dead; at last, when everything is destroyed, all are dead
//	I5  no quota is exceeded, by the committed rows (per scaling group: see the limits below), always
//	I6  a kernel's statuses are a path of the state graph, always
//	I7  a session is there with all its kernels or not at all, but for subs that have run and ended; after healing
//	I8  rows and agents agree: nothing RUNNING without its container, no container of a dead row; after healing
//	I9  rows of a deposed owner are not written, always
//
// Besides: no core panics, and when all sessions have ended no scheduler counts anything, no row of an agent says that something is
// taken, and no actor of a session is left.
//
// # Limits
//
// Not simulated: the wire (encoding, ZeroMQ, Redis, SQL), the API's own checks, idle checks, network overlays, statistics, logs.
// Excused are containers of three kinds, counted as orphans: made by a late command of
// a deposed owner on an agent that compares no epochs; sent late by a twin that was paused; and those whose forced end or failed start
// was forgotten with its process, as the next owner asks the agent for their end only once (see excused).
// A call to a twin on another node is never doubled, since the twin would take it for two. A creation whose answer was lost reaches its
// agent and ends within settleTime: an official agent does not say what it is creating. Quotas are counted per scaling group, as the
// schedulers do.
package simulation
