package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// kind of a fault.
type kind string

const (
	killNode      kind = "kill-node"      // kill -9
	pauseNode     kind = "pause-node"     // SIGSTOP … SIGCONT
	isolateNode   kind = "isolate-node"   // from stores, agents and nodes, but not from clients
	cutEtcd       kind = "cut-etcd"       // a node from all members of etcd
	cutPostgres   kind = "cut-postgres"   // a node from PostgreSQL
	cutRedis      kind = "cut-redis"      // a node from Redis
	cutNodes      kind = "cut-nodes"      // a node from the other nodes
	cutAgent      kind = "cut-agent"      // an agent from all nodes
	restartPG     kind = "restart-pg"     // in the mode fast or immediate
	slowPG        kind = "slow-pg"        // every packet late
	restartRedis  kind = "restart-redis"  //
	flushRedis    kind = "flush-redis"    // FLUSHALL
	killEtcd      kind = "kill-etcd"      // kill -9 of one member
	loseQuorum    kind = "lose-quorum"    // kill -9 of two members of etcd
	restartAgent  kind = "restart-agent"  // its kernels live on
	crashAgent    kind = "crash-agent"    // its kernels are gone
	drainNode     kind = "drain-node"     // mgr cluster drain, undrain
	terminateNode kind = "terminate-node" // SIGTERM and a restart
)

// trait is what is expected of a kind.
type trait struct {
	victim  bool    // a node is the victim: its shards are taken over
	allowed float64 // share of requests that may end in 5xx; 1: any
	window  time.Duration
	heals   bool // it lasts until it is healed
}

// nodeLoss is how long after the loss of a node requests are counted, and how few of them may fail.
const nodeLoss = 10 * time.Second

var traits = map[kind]trait{
	killNode:      {victim: true, allowed: 0.01, window: nodeLoss},
	pauseNode:     {victim: true, allowed: 0.01, window: nodeLoss, heals: true},
	isolateNode:   {victim: true, allowed: 1, heals: true},
	cutEtcd:       {victim: true, allowed: 1, heals: true},
	cutPostgres:   {allowed: 1, heals: true},
	cutRedis:      {allowed: 1, heals: true},
	cutNodes:      {allowed: 1, heals: true},
	cutAgent:      {allowed: 1, heals: true},
	restartPG:     {allowed: 1},
	slowPG:        {allowed: 1, heals: true},
	restartRedis:  {allowed: 1},
	flushRedis:    {allowed: 1},
	killEtcd:      {allowed: 1, heals: true},
	loseQuorum:    {allowed: 1, heals: true},
	restartAgent:  {allowed: 1, heals: true},
	crashAgent:    {allowed: 1, heals: true},
	drainNode:     {victim: true, allowed: 0, heals: true},
	terminateNode: {victim: true, allowed: 0},
}

// kinds in the order in which they are shown.
var kinds = []kind{killNode, pauseNode, isolateNode, cutEtcd, cutPostgres, cutRedis, cutNodes, cutAgent, restartPG, slowPG, restartRedis, flushRedis, killEtcd, loseQuorum,
	restartAgent, crashAgent, drainNode, terminateNode}

// fault is one thing that happens.
type fault struct {
	N     int           `json:"n"`
	Kind  kind          `json:"kind"`
	Node  int           `json:"node"`  // index, also of an etcd member
	Agent int           `json:"agent"` // index
	Lasts time.Duration `json:"lasts"` // until it is healed
	Cut   cut           `json:"cut"`
	Mode  string        `json:"mode,omitempty"`
	Quiet time.Duration `json:"quiet"` // before it
}

func (f fault) String() string {
	s := string(f.Kind)
	switch f.Kind {
	case cutAgent, restartAgent, crashAgent:
		s += fmt.Sprintf(" agent %d", f.Agent)
	case killEtcd:
		s += fmt.Sprintf(" member %d", f.Node+1)
	case loseQuorum:
		s += fmt.Sprintf(", only member %d stays", f.Node+1)
	case restartPG, slowPG, restartRedis, flushRedis:
	default:
		s += fmt.Sprintf(" m%d", f.Node+1)
	}
	if f.Mode != "" {
		s += " " + f.Mode
	}
	if f.Cut.Delay > 0 {
		s += fmt.Sprintf(" by %s", f.Cut.Delay)
	}
	if f.Lasts > 0 && traits[f.Kind].heals {
		s += fmt.Sprintf(" for %.1f s", f.Lasts.Seconds())
	}
	return s
}

// planFor draws n faults from a seed. The same seed gives the same faults, and more of them go on where fewer end.
// The kinds come in rounds, each in an order of its own, so that a run that is cut short has seen them all.
func planFor(seed uint64, n, nodes, agents int, of []kind) []fault {
	r := rand.New(rand.NewPCG(seed, 0x6661756c7473))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(r.Int64N(int64(high-low+1))).Truncate(time.Millisecond)
	}
	var plan []fault
	var round []kind
	for i := range n {
		if len(round) == 0 {
			round = slices.Clone(of)
			r.Shuffle(len(round), func(a, b int) { round[a], round[b] = round[b], round[a] })
		}
		f := fault{N: i + 1, Kind: round[0], Node: r.IntN(nodes), Agent: r.IntN(agents), Quiet: between(200*time.Millisecond, 1200*time.Millisecond)}
		round = round[1:]
		lasts, delay, way, immediate := between(time.Second, 10*time.Second), between(50*time.Millisecond, 200*time.Millisecond), r.IntN(4), r.IntN(2) == 0
		pause := between(time.Second, 15*time.Second)
		f.Lasts = lasts
		switch f.Kind {
		case pauseNode:
			f.Lasts = pause
		case cutEtcd, cutPostgres, cutRedis, cutNodes, cutAgent, isolateNode:
			f.Mode = [...]string{"silently", "with resets", "outwards", "inwards"}[way]
			f.Cut = [...]cut{{Out: true, In: true}, {Out: true, In: true, Reset: true}, {Out: true}, {In: true}}[way]
		case slowPG:
			f.Cut, f.Lasts = cut{Delay: delay}, lasts/2+time.Second
		case restartPG:
			f.Mode = map[bool]string{true: "immediately", false: "fast"}[immediate]
		case killEtcd, loseQuorum:
			f.Node = r.IntN(etcdMembers)
			f.Lasts = lasts / 2
			if f.Kind == loseQuorum {
				f.Lasts = lasts // within the leases, and beyond
			}
		case restartAgent, crashAgent:
			f.Lasts = lasts / 3
		case drainNode:
			f.Lasts = lasts / 3
		}
		plan = append(plan, f)
	}
	return plan
}
