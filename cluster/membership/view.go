package membership

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Member is a process in the cluster.
type Member struct {
	// ID is the name and a random incarnation: "i-host-4f1c09ab22d3e871".
	ID string `json:"id"`
	// Name stays the same when the process is restarted. No two live members have the same.
	Name string `json:"name"`
	// Address is where other nodes reach it, host:port.
	Address string `json:"address"`
	// API is where clients reach it, host:port.
	API string `json:"api,omitempty"`
	// Version is the program's. Members work together when the first two numbers, the generation, are equal ("22.03").
	Version   string `json:"version"`
	Namespace string `json:"namespace"`
	// Database tells the cluster's database from others.
	Database string `json:"database,omitempty"`
	// Shards is the cluster's number of shards; all members must agree.
	Shards int `json:"shards"`
	// Host is the name of its machine.
	Host string `json:"host,omitempty"`
	// Trust tells by what it recognises other nodes; nodes of different values do not talk to each other.
	Trust string `json:"trust,omitempty"`
	// StartedAt is when it became a member, by its own clock: at its start, and again after it had lost its lease.
	StartedAt time.Time `json:"started_at"`
	// Since is when the viewer saw it become a member, by the viewer's clock. Of one that was there before, it is StartedAt, but not later
	// than when it was seen first.
	Since time.Time `json:"-"`
	// Draining: it gives its shards away and takes none.
	Draining bool `json:"draining,omitempty"`
	// Lease is the lease it lives on.
	Lease int64 `json:"lease"`
}

// Claim says who acts for a shard.
type Claim struct {
	Shard  int32  `json:"shard"`
	Member string `json:"member"`
	// Epoch is the one the owner has raised the shard to; 0 until it is known.
	Epoch int64 `json:"epoch,omitempty"`
}

// View is what is known of the cluster. It is a value of its own: nobody changes it once it is handed out.
type View struct {
	// Self is the viewer's ID. It is not among the members while its lease is lost.
	Self string
	// Members are sorted by ID.
	Members []Member
	// Claims by shard; a shard that nobody acts for is not there.
	Claims map[int32]Claim
	// Revision of etcd that shows this.
	Revision int64
}

// Member finds a member by its ID.
func (v View) Member(id string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.Members, id, func(m Member, id string) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Member{}, false
	}
	return v.Members[i], true
}

// Claimed lists the shards that a member has claimed, in order.
func (v View) Claimed(id string) (shards []int32) {
	for _, s := range slices.Sorted(maps.Keys(v.Claims)) {
		if v.Claims[s].Member == id {
			shards = append(shards, s)
		}
	}
	return shards
}

// Eligible lists the members that shards may go to at the given time: those that are not draining and have been members for at least
// delay. So a node that starts, fails and starts again does not pull shards back and forth. When all that are not draining are younger
// than that (a cluster's first start), all of them are eligible. A member's clock does not count once the viewer has been there for delay.
func (v View) Eligible(now time.Time, delay time.Duration) []Member {
	var all, grown []Member
	for _, m := range v.Members {
		if m.Draining {
			continue
		}
		all = append(all, m)
		since := m.Since
		if since.IsZero() {
			since = m.StartedAt
		}
		if now.Sub(since) >= delay {
			grown = append(grown, m)
		}
	}
	if len(grown) == 0 {
		return all
	}
	return grown
}
