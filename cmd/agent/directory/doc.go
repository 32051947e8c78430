// Package directory is the agent's side of etcd: what it is told there, and where it puts its name (spec/agent-protocol §14).
//
// Only the start needs etcd, and waits for it. Later it is asked again for the place of Redis, when Redis does not answer.
package directory
