// Package e2e runs the built programs against real servers and the official client.
//
//	TestMain ─▶ builds backend.ai and backend.ai-agent once
//	newCluster ─▶ PostgreSQL, Redis, etcd of its own ─▶ mgr start-server ─▶ backend.ai-agent
//	test ─▶ official client, raw requests, kill -9, restarts ─▶ what rows, agent and client say
//
// What is tested here is what users rely on; how the parts do it is tested beside the parts.
package e2e
