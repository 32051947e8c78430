// Package callosum speaks the RPC protocol between a manager and an agent of the 22.03 generation, both ends of it.
//
// # On the wire
//
// The agent binds a ROUTER socket, the manager connects a DEALER. A message is two frames, both MessagePack maps, the
// real content being a third MessagePack value inside the body:
//
//	header  {type, meth, okey, seq, zip}                 never compressed
//	body    {meta: bin, body: bin | nil}                 snappy as a whole when zip (we never send it, we accept it)
//	         │          └ FUNCTION {args: [...], kwargs: {...}}   RESULT the bare return value
//	         └ FAILURE, ERROR [class name, repr, traceback]       else []
//
//	manager                        agent
//	DEALER  ── FUNCTION seq 7 ──▶  ROUTER      (meth, okey, seq) names the request;
//	        ◀── RESULT  seq 7 ──               answers come in the order in which handlers end
//
// [Encode] and [Decode] are the codec, pure functions over bytes. [Marshal] and [Unmarshal] keep to the MessagePack profile
// that Python peers can read; [Check] proves it without decoding. Requests are structs ([CreateKernels], [Execute], …)
// that know their exact arguments and what comes back; client code and the bundled agent share them.
//
// # The client
//
//	actors ── Client.Call ──▶ bounded queue ──▶ pump ── one link per agent ──▶ agents
//	   ▲                                         │      DEALER + socket monitor
//	   └────────── done(result) ◀────────────────┘
//
// libzmq sockets must not be shared, so a few pumps (goroutines locked to their threads) own them all, each polling many
// links. [Client.Call] never blocks and calls back exactly once: with the result, with the agent's exception
// ([RemoteError]), or with a [LinkError] that says why there will be no answer and, above all, whether the agent can have
// executed the call ([MaybeExecuted]). Official agents answer nothing at all to some calls, so every call has a deadline.
//
// A link is one lasting connection:
//
//	connecting ──handshake──▶ up ──connection lost──▶ waiting ──back-off──▶ connecting
//
// While it is not up, calls wait in the link (and are surely not sent); what was sent before the connection broke fails at
// once, because the agent answers to a connection, not to a manager. A link's [Breaker] refuses calls to an agent whose
// host is alive but which no longer answers: several deadlines in a row raise suspicion, a ping decides.
//
// # The server
//
// [Server] runs handlers concurrently within a bound and answers in the order in which they end. Other than official
// agents it answers every request it can read: unknown methods and results that cannot be encoded become exceptions
// instead of silence, and CANCEL cancels the handler's context.
package callosum
