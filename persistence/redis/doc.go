// Package redis is the part of a cluster's state that may be lost: live statistics, who was seen when, the event streams, rate limits and
// counters. Its keys are those of the 22.03 generation, which agents write and read too (spec/agent-protocol §13).
//
//	Set ─ five logical databases   0 stat    statistics, counters        KernelStats, SetConcurrency, CountQuery
//	                               1 rate    windows of requests         Hit
//	                               2 live    last seen, last access      SeeAgents, TouchSession
//	                               3 image   who has which image         UpdateAgentImages
//	                               4 stream  events, logs, tasks         Producer, Consumer, Subscriber, DrainLog
//
//	agents ──XADD──► events ──XREADGROUP──► Consumer: each event reaches one manager of the cluster
//	managers ─XADD─►        ──XREAD───────► Subscriber: each event reaches every manager
//
// Vocabulary: an entry is one event in the stream with its id; a group remembers which entries its consumers have been given and not
// acknowledged; to claim is to take over what a dead consumer was given.
//
// # What may go wrong, and what follows
//
// Redis restarts: calls try again until their deadline, loops until they are stopped. Redis is flushed: the group is gone; the consumer
// makes a new one that starts at the stream's beginning, since all that is there was written after the flush. A consumer dies: its
// entries are claimed by another after a while. So an event may come twice, late or (after a trim or a flush) never; whoever handles it is
// idempotent, and everything reconciles by asking the agents.
//
// No call waits forever: each has a deadline of its own, Config.Timeout, besides the caller's.
package redis
