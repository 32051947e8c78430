// Package up runs a whole cluster on one machine.
//
//	backend.ai up ─┬─ etcd         embedded in this process        --etcd HOST:PORT uses a real one instead
//	               ├─ PostgreSQL   child, the machine's binaries   --postgres URL
//	               ├─ Redis        child, or miniredis in process  --redis HOST:PORT
//	               ├─ manager      in this process
//	               └─ agents       children (backend.ai-agent), each with the processes of its kernels
//
// # The data directory
//
//	DIR/
//	├── lock            held by the `up` that works here; its process id
//	├── state.json      what must not change over restarts: names, ports, secrets
//	├── manager.toml    how to reach the cluster with backend.ai mgr; written anew at each start
//	├── client.env      endpoint and keys of the administrator, for clients
//	├── accounts.txt    the passwords that were drawn at the first start
//	├── postgres/ redis/ etcd/ folders/
//	├── agents/N/       agent.toml (yours to change), the process, the kernels' scratch folders
//	└── logs/
//
// # Order
//
//	lock ─▶ etcd ‖ PostgreSQL ‖ Redis ─▶ schema, first rows, shared settings ─▶ agents ‖ manager ─▶ agents alive ─▶ images ─▶ ready
//
// and the reverse to stop: the agents first, because they end their kernels and the manager writes down that they did.
//
// # Killing it
//
// Everything is on disk before it counts. When this process dies, whichever way, its children are told by the operating system: the
// stores shut down cleanly, the agents end and leave their kernels running. The next start ends what may still be there, and its agents
// find their kernels again.
//
// # Root and others
//
// As an ordinary user everything is that user's. As root, PostgreSQL (which refuses to run as root) and the code of sessions run as users
// without privileges; the data directory must then be a place that those can reach, which /root is not.
package up
