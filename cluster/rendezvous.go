package cluster

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Wanted gives each of n shards the member that should own it, by rendezvous hashing: of all members the one whose hash with the shard is
// the highest. Every node computes the same from the same members, in whatever order they are listed, without asking anybody.
//
// A member that joins takes about n/(members+1) shards and nothing else moves; when one leaves, only its shards move, spread over all that
// remain. Members are told apart by their text alone: pass names that outlive a restart where the shards of a restarted node should come
// back to it. The index is the shard; no members, no owners: the texts are empty then.
func Wanted(members []string, n int) []string {
	wanted := make([]string, n)
	best := make([]uint64, n)
	// The shard goes first and has a fixed length, so that no two pairs give the same bytes.
	var key []byte
	for _, m := range members {
		key = append(key[:0], 0, 0, 0, 0)
		key = append(key, m...)
		for s := range n {
			binary.BigEndian.PutUint32(key, uint32(s))
			h := xxhash.Sum64(key)
			if wanted[s] == "" || h > best[s] || h == best[s] && m > wanted[s] {
				wanted[s], best[s] = m, h
			}
		}
	}
	return wanted
}
