// Package transport carries frames between the nodes of a cluster.
//
// # Words
//
//   - frame: bytes that mean something to the receiver only; up to MaxFrame
//   - message: one or more frames that are sent at once: what has piled up, until MessageBytes are reached
//   - peer: another node, known by its address; it has a queue, a writer and one connection, made when the first frame is sent to it
//   - stream: one gRPC call from the sender to the receiver that carries frames in their order, until it breaks
//   - cluster secret: a text that all nodes share; who knows it is a node
//
// # How
//
//	Send(address, frame) ─▶ queue ─▶ writer ═══ stream, mutual TLS 1.3 ═══▶ server ─▶ Receive(frame)
//	       │ full, too large,         │ too old, broken
//	       ▼ stopped                  ▼
//	    dropped                    dropped                            (counted, and told in the log once a minute and peer)
//
// Send never waits. A queue is bounded in frames and bytes, and what has waited for MaxAge is dropped, so a peer that is dead or slow costs
// a bounded amount of memory and gets nothing stale when it is back. Delivery is at most once: a frame that was handed to a stream is
// never sent again, since nobody can tell whether it arrived. Frames of one sender arrive in their order, as long as the stream holds.
// Receivers are slowed down by Receive itself: while it does not return, the stream stands still and the sender's queue fills.
//
// # Who is let in
//
// From the cluster secret every node derives the same certificate authority, in memory, by HKDF; at its start it signs itself a certificate
// for a key that it has just drawn, valid for a day, and renews it after half that time. Each side of a connection shows its certificate
// and demands one of the same authority. Or the certificates come from files that an operator has made; then names are checked as well.
// There is no connection without.
//
// # Why not protoactor's remote
//
// The actor library brings a transport of its own, which this package was to wrap. It can't hold what is promised above, in the pinned
// version: its queues' sizes are initial sizes (a peer that is away takes memory without bound; the manager's is not used at all); every
// retry of a dead peer leaves a client connection with its goroutines behind; its Shutdown writes fields that its goroutines read (a data
// race, and a nil map for whoever comes late), and without it connections stay open; starting it replaces gRPC's global logger while
// etcd's client uses it; and a batch of messages may be larger than the largest message. One stream and a queue are less than the work
// around all that.
package transport
