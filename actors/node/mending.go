package node

import (
	"sync"
	"time"

	"backend.ai/manager/actors/shard"
)

// mendPause is how long a node waits for a word of another to which the connection has broken before it asks again.
const mendPause = 500 * time.Millisecond

// Connections between nodes break, and with them goes what was on the way, in both directions, although no shard has moved. So the node
// that notices calls the other until it answers. Then each of the two behaves to the other's shards as if they had moved: what is on the
// way is asked again.
//
//	a  ── interrupted ─▶ b    b's actors ask a's again
//	a  ◀────── resumed ── b    a's actors ask b's again
type mending struct {
	mu    sync.Mutex
	words map[string]chan struct{} // by address: room for the other's word; what is not there is not being mended
}

// broken is told of the address of a node to which the connection has broken, or can't be made.
func (n *Node) broken(address string) {
	if n.members == nil {
		return
	}
	n.members.Suspect(address)
	n.mending.mu.Lock()
	defer n.mending.mu.Unlock()
	if n.mending.words[address] != nil {
		return
	}
	if n.mending.words == nil {
		n.mending.words = make(map[string]chan struct{})
	}
	word := make(chan struct{}, 1)
	n.mending.words[address] = word
	go n.mend(address, word)
}

// mend calls a node until it answers, or is no member any more: then its shards move, and this node hears of that.
func (n *Node) mend(address string, word <-chan struct{}) {
	defer func() {
		n.mending.mu.Lock()
		delete(n.mending.words, address)
		n.mending.mu.Unlock()
	}()
	tick := time.NewTicker(mendPause)
	defer tick.Stop()
	for n.isMember(address) {
		n.transport.Send(address, sign(interrupted, n.transport.Address()))
		select {
		case <-word:
			n.interrupted(address)
			return
		case <-tick.C:
		case <-n.stopping:
			return
		}
	}
}

func (n *Node) isMember(address string) bool {
	for _, m := range n.members.View().Members {
		if m.Address == address {
			return true
		}
	}
	return false
}

// sign makes a frame that says something of the connection to the node that sends it.
func sign(kind byte, address string) []byte { return append([]byte{kind}, address...) }

// signed takes such a frame.
func (n *Node) signed(kind byte, address string) {
	if n.members == nil || !n.isMember(address) {
		return
	}
	if kind == interrupted {
		n.interrupted(address)
		n.transport.Send(address, sign(resumed, n.transport.Address()))
		return
	}
	n.mending.mu.Lock()
	defer n.mending.mu.Unlock()
	select {
	case n.mending.words[address] <- struct{}{}:
	default: // nobody waits for it
	}
}

// interrupted tells the actors of this node that what was on the way to those of another, and back, may be lost.
func (n *Node) interrupted(address string) {
	n.svc.System.Root.Send(n.owner, &shard.Interrupted{Address: address})
}
