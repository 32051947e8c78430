// Package node is the agent itself: it serves the 22.03 RPC protocol, keeps the kernels of this machine and tells the cluster about
// them.
//
//	manager ──callosum──▶ rpc ──▶ kernels ──host.Client──▶ kernel-host (one process per kernel)
//	                               │  │
//	          scratch/<kernel>/ ◀──┘  └──▶ bus: kernel_started, kernel_terminated, logs, statistics
//
// A kernel's life:
//
//	          create                host ready                destroy, or its host ends
//	(nothing) ──────▶ creating ───────────────▶ running ───────────────────────────────▶ ending ──▶ (nothing)
//	                     │  ▲                     │  ▲                                      ▲
//	                     │  └── restart ──────────┘  └── found again by a new agent         │
//	                     └─────────────────────── it fails ─────────────────────────────────┘
//
// All that the agent has to know of a kernel is in its scratch folder ([record]), written before it matters. A new agent reads the
// folders, asks the hosts, and takes up every kernel that lives; of those that died meanwhile it reports the end.
//
// # What it does that official agents do not
//
// A create for a kernel that is running or being created joins it and gets the same answer. A destroy always answers, also a second
// one and one that overtakes the create. Commands that carry a fence are refused (StaleEpoch) when a later epoch of their shard has
// been seen, also after a restart. The heartbeat says so: features = idempotent-create, epoch.
package node
