package cluster

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
)

// Kind of an actor that can be addressed from outside its shard.
type Kind string

// The addressable kinds. Kernels are reached through their session.
const (
	KindSession   Kind = "session"
	KindAgent     Kind = "agent"
	KindScheduler Kind = "scheduler"
)

// DefaultShards is the number of shards a new cluster gets. It can't be changed later.
const DefaultShards = 64

// Identity addresses an actor: a session by its uuid, an agent by its id, a
// scheduler by its scaling group's name.
type Identity struct {
	Kind Kind
	ID   string
}

func (i Identity) String() string { return string(i.Kind) + "/" + i.ID }

// Session, Agent and Scheduler make identities.
func Session(id fmt.Stringer) Identity       { return Identity{KindSession, id.String()} }
func Agent(id string) Identity               { return Identity{KindAgent, id} }
func Scheduler(scalingGroup string) Identity { return Identity{KindScheduler, scalingGroup} }

// ShardOf maps an id to one of n shards. ShardSQL is the same in SQL. All schedulers live in one: quotas are over all scaling groups.
func ShardOf(id Identity, n int) int32 {
	text := id.ID
	if id.Kind == KindScheduler {
		text = string(KindScheduler)
	}
	sum := md5.Sum([]byte(text)) //nolint:gosec // spreads ids, guards nothing
	return int32(binary.BigEndian.Uint32(sum[:4]) % uint32(n))
}

// ShardSQL is an SQL expression of the shard of the text expression id among n shards.
func ShardSQL(id string, n int) string {
	return fmt.Sprintf(`(('x' || substr(md5(%s), 1, 8))::bit(32)::bigint %% %d)::int`, id, n)
}
