package callosum

import (
	"errors"
	"fmt"
	"strings"
)

// RemoteError is an exception that the agent reported (spec §2.5, §3), or, on the server's side, one to report.
type RemoteError struct {
	// Name is the bare class name, such as "KeyError". Do not interpret it to decide what an agent did: a kernel whose
	// container died while starting surfaces as "TypeError" (spec §5.5).
	Name string
	// Repr is the Python repr of the exception; it goes verbatim into what API users see.
	Repr string
	// Traceback is for logs only.
	Traceback string
	// Kind tells FAILURE (the method raised) from ERROR (the RPC layer did) and CANCELLED (the handler was cancelled
	// from inside, chiefly execute on a kernel whose runner is gone). The reference wraps only the first as an agent
	// error; treat the others as failures of the agent too.
	Kind MessageType
}

// Error gives the repr, as the reference shows it.
func (e *RemoteError) Error() string {
	if e.Kind == MessageCancelled {
		return "callosum: the agent cancelled the call"
	}
	return e.Repr
}

// Cancelled tells whether the handler ended by cancellation inside the agent.
func (e *RemoteError) Cancelled() bool { return e.Kind == MessageCancelled }

// Exception makes an error that reaches the peer as Python exception name(args...), for handlers of a Server.
func Exception(name string, args ...any) *RemoteError {
	reprs := make([]string, len(args))
	for i, a := range args {
		reprs[i] = Repr(a)
	}
	repr := name + "(" + strings.Join(reprs, ", ") + ")"
	text := ""
	if len(args) == 1 {
		text = ": " + fmt.Sprint(args[0])
		if name == "KeyError" {
			text = ": " + reprs[0]
		}
	} else if len(args) > 1 {
		text = ": (" + strings.Join(reprs, ", ") + ")"
	}
	return &RemoteError{
		Name: name, Repr: repr, Kind: MessageFailure,
		Traceback: "Traceback (most recent call last):\n" + name + text + "\n",
	}
}

// Cause says why a call ended without an answer from the agent.
type Cause uint8

// The causes. Whether the agent may have executed the call is a question of its own: LinkError.Sent.
const (
	// CauseInvalid: the request cannot be encoded, or the peer's address or key is malformed.
	CauseInvalid Cause = iota + 1
	// CauseOverloaded: a bounded queue (of the client or of this link) is full.
	CauseOverloaded
	// CauseStopped: the client is stopped, or the link was dropped on request.
	CauseStopped
	// CauseUnreachable: no connection within ConnectTimeout, or not sent within SendTimeout.
	CauseUnreachable
	// CauseBreakerOpen: the agent has not answered lately, and a probe has not yet shown that it does again.
	CauseBreakerOpen
	// CauseDeadline: the deadline of the call passed.
	CauseDeadline
	// CauseDisconnected: the connection broke while the call was out; its answer can no longer arrive.
	CauseDisconnected
	// CauseCancelled: the caller gave the call up.
	CauseCancelled
	// CauseProtocol: the agent answered, but not with what the method returns.
	CauseProtocol
)

var causeNames = [...]string{
	CauseInvalid: "invalid request", CauseOverloaded: "overloaded", CauseStopped: "stopped", CauseUnreachable: "unreachable",
	CauseBreakerOpen: "breaker open", CauseDeadline: "deadline exceeded", CauseDisconnected: "disconnected",
	CauseCancelled: "cancelled", CauseProtocol: "unexpected answer",
}

func (c Cause) String() string {
	if int(c) < len(causeNames) && causeNames[c] != "" {
		return causeNames[c]
	}
	return fmt.Sprintf("Cause(%d)", uint8(c))
}

// LinkError says that a call ended without an answer of the agent, and whether it can have had an effect.
type LinkError struct {
	Cause  Cause
	Agent  string // agent id
	Method string
	// Sent: the request was handed to the transport, so the agent may have executed it, may be doing so, or may do so
	// later. Not Sent: the agent surely has not seen it and the call can be repeated safely.
	Sent bool
	Err  error // what lies beneath, may be nil
}

func (e *LinkError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "callosum: %s on agent %q: %s", e.Method, e.Agent, e.Cause)
	if e.Sent {
		b.WriteString(" (may have been executed)")
	} else {
		b.WriteString(" (not sent)")
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *LinkError) Unwrap() error { return e.Err }

// MaybeExecuted tells whether a call that ended with err can have had an effect on the agent: every error but one that
// says for sure that the request never left.
func MaybeExecuted(err error) bool {
	if err == nil {
		return true
	}
	var link *LinkError
	if errors.As(err, &link) {
		return link.Sent
	}
	return true
}

// CauseOf returns the cause of a LinkError, and 0 for other errors (a RemoteError has none).
func CauseOf(err error) Cause {
	var link *LinkError
	if errors.As(err, &link) {
		return link.Cause
	}
	return 0
}
