// Package bus is the agent's side of Redis: events, statistics and container logs go out, nothing comes in.
//
//	Publish, PushLog ─▶ one queue, in order ─▶ one goroutine ─▶ DB 4   tried until Redis takes it
//	StoreStats ───────────────────────────────────────────────▶ DB 0   dropped when Redis is away: the next is better
//
// An agent must not die, nor stop serving, because Redis is away. Events of kernels must not get lost for that reason
// either: a kernel whose end nobody hears of keeps its resources. So the queue waits as long as it takes. Heartbeats are left
// out while others wait. When Redis does not answer, its address is asked for again: it may have moved.
package bus
