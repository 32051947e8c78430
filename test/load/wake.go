package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/test/fakeagent"
)

const (
	wakeSlots   = 10  // sessions an agent can hold
	wakeWaiting = 100 // sessions that wait at any time
)

// wakeConfig makes agents that are soon full, and tells of the creations they are asked for.
func wakeConfig(o options, asked chan<- time.Time) fakeagent.Config {
	return fakeagent.Config{
		Capacity: backendai.SlotsOf("cpu", fmt.Sprint(wakeSlots), "mem", "1024g"), CreateDelay: o.delay,
		Calls: func(c callosum.Call) {
			if c.Method == "create_kernels" {
				asked <- time.Now()
			}
		},
	}
}

// wake fills the agents, lets sessions wait, and ends one session after the other: how long after the request for its end is
// an agent asked to create one that has waited?
func wake(ctx context.Context, c *client, o options, fleet *fakeagent.Fleet, asked <-chan time.Time) (map[string]any, error) {
	if fleet == nil {
		return nil, errors.New("wake needs agents of its own: --redis")
	}
	if err := fleet.Start(); err != nil {
		return nil, err
	}
	if err := aliveWithin(ctx, c, o, 30*time.Second); err != nil {
		return nil, err
	}
	prefix, full := token(), o.agents*wakeSlots
	name := func(i int) string { return fmt.Sprintf("wake-%s-%05d", prefix, i) }
	_, errs := pool(full, o.concurrency, func(i int) error {
		_, err := c.create(ctx, name(i), o.image, true)
		return err
	})
	for i := range wakeWaiting { // oldest first, which is the order in which they will start
		_, err := c.create(ctx, name(full+i), o.image, false)
		errs = append(errs, err)
	}
	for len(asked) > 0 {
		<-asked
	}
	took, answered := make([]time.Duration, 0, o.count), make([]time.Duration, 0, o.count)
	for i := range o.count {
		begin := time.Now()
		errs = append(errs, c.do(ctx, "DELETE", "/session/"+name(i), nil, nil))
		answered = append(answered, time.Since(begin))
		select {
		case at := <-asked:
			took = append(took, at.Sub(begin))
		case <-time.After(10 * time.Second):
			return nil, fmt.Errorf("nothing has started within 10 s after the end of %s", name(i))
		}
		_, err := c.create(ctx, name(full+wakeWaiting+i), o.image, false)
		errs = append(errs, err)
	}
	_, more := pool(full+wakeWaiting, o.concurrency, func(i int) error { return c.do(ctx, "DELETE", "/session/"+name(o.count+i), nil, nil) })
	if err := errors.Join(append(errs, more...)...); err != nil {
		return nil, err
	}
	return map[string]any{"waiting": wakeWaiting, "sessions": full, "destroy_to_create_ms": spreadOf(took), "destroy_ms": spreadOf(answered)}, nil
}
