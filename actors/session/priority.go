package session

import (
	"encoding/json"
	"errors"
	"strconv"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/journal"
	"backend.ai/manager/persistence/postgres/record"
)

// reprioritize gives a session that waits another priority: written first, then told to the scheduler.
func (c *Core) reprioritize(e *protocol.Reprioritize) []outbox.Effect {
	refuse := func(format string, args ...any) []outbox.Effect {
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Errorf(backendai.InvalidAPIParameters, format, args...)}}
	}
	switch {
	case e.Priority < -protocol.MaxPriority || e.Priority > protocol.MaxPriority:
		return refuse("priority must be a whole number from %d to %d.", -protocol.MaxPriority, protocol.MaxPriority)
	case c.Phase == Gone || c.all((*Member).dead):
		return []outbox.Effect{Answer{To: e.Reply, Err: backendai.NewError(backendai.SessionNotFound)}}
	case c.Phase != Pending:
		return refuse("The session does not wait any more (status: %s); a priority is only of use while it does.", c.main().Row.Status)
	case c.oldOpts != nil:
		return refuse("The session's priority is being changed already; try again.")
	}
	changed := make([]json.RawMessage, len(c.Members))
	for i, m := range c.Members {
		opts, err := withPriority(m.Row.ResourceOpts, e.Priority)
		if err != nil {
			return []outbox.Effect{Answer{To: e.Reply, Err: backendai.Internal(err)}}
		}
		changed[i] = opts
	}
	for i, m := range c.Members {
		c.oldOpts = append(c.oldOpts, m.Row.ResourceOpts)
		m.Row.ResourceOpts = changed[i]
	}
	c.priorityTo = e.Reply
	wishes, _ := protocol.WishesOf(c.main().Row.ResourceOpts)
	return []outbox.Effect{
		c.patchAll(labelWishes, record.FieldResourceOpts), Reprioritized{},
		ToScheduler{c.main().Row.ScalingGroup, &protocol.WishesChanged{SessionID: c.ID, Wishes: wishes}},
		Answer{To: e.Reply},
	}
}

// withPriority is resource_opts with another priority; all else stays.
func withPriority(doc json.RawMessage, priority int) (json.RawMessage, error) {
	var opts map[string]json.RawMessage
	if len(doc) > 0 {
		if err := json.Unmarshal(doc, &opts); err != nil {
			return nil, err
		}
	}
	if opts == nil {
		opts = make(map[string]json.RawMessage)
	}
	opts["priority"] = json.RawMessage(strconv.Itoa(priority))
	return json.Marshal(opts)
}

// Reprioritized is the effect that ends a change of priority: the next one may come.
type Reprioritized struct{}

// PriorityCommitted is called by the shell when it carries Reprioritized out.
func (c *Core) PriorityCommitted() { c.priorityTo, c.oldOpts = protocol.ReplyTo{}, nil }

// priorityRefused puts back what was not written.
func (c *Core) priorityRefused(err error) []outbox.Effect {
	to := c.priorityTo
	for i, m := range c.Members {
		m.Row.ResourceOpts = c.oldOpts[i]
	}
	c.PriorityCommitted()
	if errors.Is(err, journal.ErrDeposed) || errors.Is(err, journal.ErrStopped) {
		return []outbox.Effect{Answer{To: to, Err: backendai.Errorf(backendai.ServiceUnavailable, "The session's priority could not be changed now; try again.").WithCause(err)}, Deposed{}}
	}
	return []outbox.Effect{Answer{To: to, Err: backendai.Internal(err)}}
}
