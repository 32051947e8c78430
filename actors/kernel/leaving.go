package kernel

import (
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// infoUnsent is the status_info of a kernel that has been placed and whose agent has surely not been told to create it: its shard was handed
// over before. Without it the next owner has to wait until a creation that may be on its way would have come.
const infoUnsent = "handed-over"

// unsent reports whether an earlier owner has left word that nothing was sent.
func (c *Core) unsent() bool { return c.Row.StatusInfo != nil && *c.Row.StatusInfo == infoUnsent }

// Creating reports whether the agent has been told to create the kernel and has not answered.
func (c *Core) Creating() bool { return c.Stage == Starting && c.call.kind == CallCreate }

// Leave takes an event while the kernel's shard is being handed over: nothing is begun any more, the answer of a creation is taken, and of
// one that was not begun word is left for the next owner.
func (c *Core) Leave(event any) []outbox.Effect {
	switch e := event.(type) {
	case *protocol.Start:
		if c.Stage == Idle && !c.uncertain {
			return c.leaveWord()
		}
	case *protocol.CallResult:
		if !c.Creating() || e.Token != c.call.token {
			return nil
		}
		if e.Err == nil {
			return c.result(e)
		}
		c.call = inflight{}
		if callosum.CauseOf(e.Err) == callosum.CauseUnreachable && !callosum.MaybeExecuted(e.Err) && !c.uncertain && !c.doubtful {
			return c.leaveWord()
		}
	}
	return nil
}

func (c *Core) leaveWord() []outbox.Effect {
	c.Row.StatusInfo = text(infoUnsent)
	return []outbox.Effect{c.patch("unsent", record.FieldStatusInfo)}
}
