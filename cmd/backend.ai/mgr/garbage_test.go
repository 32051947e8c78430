package mgr

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const mib = 1 << 20
	p := &pace{percent: restPercent}
	now := time.Unix(0, 0)
	for i, step := range []struct {
		after        time.Duration
		cycles, live uint64
		percent      int
		calm         bool
	}{
		{paceEvery, 0, 20 * mib, 50, false},
		{paceEvery, 1, 20 * mib, 50, false},    // one now and then is rest
		{paceEvery, 1, 20 * mib, 50, false},    //
		{paceEvery, 3, 20 * mib, 400, false},   // load: 96 MiB would be 480 %
		{paceEvery, 3, 48 * mib, 400, false},   // nothing collected
		{paceEvery, 4, 48 * mib, 200, false},   // more lives, so it is less often collected anyway
		{paceEvery, 5, 900 * mib, 50, false},   // a large heap needs no more room
		{paceEvery, 6, 48 * mib, 50, false},    //
		{paceEvery, 8, 48 * mib, 200, false},   //
		{calmFor - 1, 8, 48 * mib, 200, false}, // the load may come back
		{1, 8, 48 * mib, 50, true},
		{paceEvery, 9, 48 * mib, 50, false}, // the collection that gives memory back is no load
	} {
		now = now.Add(step.after)
		if percent, calm := p.next(now, step.cycles, step.live); percent != step.percent || calm != step.calm {
			t.Fatalf("step %d: %d, %v; want %d, %v", i, percent, calm, step.percent, step.calm)
		}
	}
}
