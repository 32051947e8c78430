package redis

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis/event"
)

// Handler takes an event. It runs on the reader's goroutine for handling: it should hand the event to an actor and return. A panic is
// logged and costs that event only.
type Handler func(e event.Event, source string)

// counters of a reader.
type counters struct{ handled, unknown, malformed, panicked atomic.Int64 }

// Counts is a copy of a reader's counters.
type Counts struct {
	// Handled events were given to the handler.
	Handled int64
	// Unknown events have names that are not in the catalogue: newer peers.
	Unknown int64
	// Malformed entries could not be decoded.
	Malformed int64
	// Panicked is how often the handler did.
	Panicked int64
}

func (c *counters) counts() Counts {
	return Counts{c.handled.Load(), c.unknown.Load(), c.malformed.Load(), c.panicked.Load()}
}

// deliver decodes an entry and gives it to the handler.
func (c *counters) deliver(handler Handler, log *slog.Logger, x rueidis.XRangeEntry) {
	name := x.FieldValues["name"]
	if name == "" {
		return // trimmed meanwhile: a group remembers the id only
	}
	e, err := event.Decode(name, []byte(x.FieldValues["args"]))
	if err != nil {
		if backendai.CodeOf(err) == backendai.ObjectNotFound {
			c.unknown.Add(1)
			return
		}
		if c.malformed.Add(1)%100 == 1 { // a peer that does it once does it always
			log.Warn("an event can't be read", "id", x.ID, "source", x.FieldValues["source"], "error", err)
		}
		return
	}
	defer func() {
		if r := recover(); r != nil {
			c.panicked.Add(1)
			log.Error("the handler of an event panicked", "event", name, "id", x.ID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	c.handled.Add(1)
	handler(e, x.FieldValues["source"])
}
