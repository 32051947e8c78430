// Package manager is /manager: whether the cluster runs, which managers it has, and what its administrators announce
// (spec/rest-core §7.7).
//
//	GET  /manager/status        ─▶ every node of the cluster, one entry each, and the number of active sessions
//	PUT  /manager/status        ─▶ etcd manager/status: running or frozen, for all nodes
//	GET  /manager/announcement  ─▶ etcd manager/announcement, which clients show when they start
package manager
