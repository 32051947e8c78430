// Package shards reads and raises the epochs of shards.
//
// A shard is a numbered slice of all actors; its row in backendai_actors.shards
// carries its epoch. Taking a shard is raising the epoch: the UPDATE waits for
// the journal transactions that hold the row FOR SHARE under the old epoch and
// makes every later one of the old owner refused.
//
//	old owner: BEGIN … FOR SHARE (epoch 7) … COMMIT      ← counts
//	new owner:            Take ─(waits)────────▶ epoch 8
//	old owner:                                    BEGIN … FOR SHARE: epoch 8 ≠ 7 ← refused
package shards
