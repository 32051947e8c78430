package api

import (
	"sync/atomic"

	backendai "backend.ai/manager"
)

// admission bounds how many requests run at a time. Those beyond are refused at once, with a time to come again: a queue would only turn
// load into time-outs.
type admission struct {
	quick, waiting         atomic.Int64
	mostQuick, mostWaiting int64
}

var errBusy = backendai.Errorf(backendai.Overloaded, "The manager is busy.")

// enter admits a request, or refuses it with Overloaded. Call release at its end.
func (a *admission) enter(route *Route) (release func(), err error) {
	running, most := &a.quick, a.mostQuick
	if route != nil && route.waits {
		running, most = &a.waiting, a.mostWaiting
	}
	if running.Add(1) > most {
		running.Add(-1)
		return nil, errBusy
	}
	if running == &a.quick {
		return a.leaveQuick, nil
	}
	return a.leaveWaiting, nil
}

func (a *admission) leaveQuick()   { a.quick.Add(-1) }
func (a *admission) leaveWaiting() { a.waiting.Add(-1) }
