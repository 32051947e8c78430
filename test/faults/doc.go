// Command faults proves that a cluster of managers survives what happens to machines.
//
//	go run ./test/faults [--faults 300] [--seed N] [--nodes 3] [--agents 10] [--only kind,kind] [--format json] [--keep]
//	go run ./test/faults cluster [--serve]
//	go run ./test/faults scale [--nodes 1,2,3] [--turns 12] [--sessions 1200] [--clients 400] [--format json]
//
// All are run at the top of the project, after "make build".
//
// # The ground
//
//	load, residents ──▶ HAProxy ──▶ m1 m2 m3 ──▶ PostgreSQL, Redis, etcd ×3, agents, each other
//	  (signed REST)   (docs/haproxy.cfg)    └─ through wires, which can be cut, reset and slowed
//
// Everything but the agents is a real process. The agents are pretended ones that speak real ZeroMQ and keep books: what must never
// happen (a kernel created twice, more kernels than fit) is counted where it would happen.
//
// # Words
//
//   - wire: the way to one target; connections through it are known by the node they come from, so that one node can be cut from one
//     target, in one direction or both
//   - resident: a session that lives through the whole run; its agent knows its container, and the cluster must go on knowing it
//   - load: clients that create sessions, look at them and destroy them all the time
//   - fault: one thing that happens, with everything about it drawn from the seed, and its end, the healing
//   - whole: every node is a member and ready, every shard is owned by one of them, HAProxy sends requests to all, the residents answer
//   - take-over: from a fault until a session of one of the victim's shards has carried out a command through another node
//   - rest: the load is held, and the rows must say what the agents know
//
// # Why a proxy of its own
//
// Toxiproxy drops what was sent during a cut when the cut ends, which TCP never does: it delivers late, and late is what hurts. It also
// can't tell which process a connection comes from, and all nodes find Redis, the agents and each other under one address.
package main
