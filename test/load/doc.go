// Command load drives a manager with signed requests and prints what it measured
// as JSON: rates, latencies, and what the pretended agents have counted.
//
//	load sessions --count 500        create, wait until RUNNING, destroy
//	load wake --count 300            how soon after the end of a session does one start that has waited
//	load api --seconds 5             requests a second of a few routes
//	load join --agents 100           how long until that many agents are ALIVE at once
//	load bench                       all of that on servers of its own, beside the original's figures (make bench)
//
// With --redis it brings Go agents of its own (test/fakeagent), which cost a
// fraction of what pretended agents in Python cost; without, it uses those that are
// there. Nothing here is a test: it prints figures.
package main
