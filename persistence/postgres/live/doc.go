// Package live reads what actors start from and what they need besides their own
// rows: live sessions and agents by shard, a scaling group's allocations and
// queue, the quotas of owners, the images of a launch.
//
//	shard taken ─▶ Sessions, Agents          (after its epoch was raised)
//	scheduler   ─▶ Group, Allocations, Queue (never a counter: what the rows say)
//	session     ─▶ Quota, Dependencies, Images
//
// It only reads; what actors write goes through package journal.
package live
