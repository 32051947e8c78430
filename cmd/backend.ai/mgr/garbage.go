package mgr

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector's pace. A manager at rest leaves memory to its neighbours; under load, collecting a small heap ten times a second
// would cost a quarter of all it does, so the heap may grow for as long as the load lasts.
const (
	restPercent = 50       // at rest, of what lives
	roomAtLoad  = 96 << 20 // bytes of garbage between two collections
	mostPercent = 400      // however little lives
	paceEvery   = 250 * time.Millisecond
	calmFor     = 30 * time.Second
)

// pace is how much garbage the collector lets pile up.
type pace struct {
	percent int
	busy    time.Time // when it was last collected twice in a row
	cycles  uint64
}

// next decides on the percentage for the time after now, from the number of collections since the start and the bytes that live. calm is
// true once when a load has ended.
func (p *pace) next(now time.Time, cycles, live uint64) (percent int, calm bool) {
	collected := cycles - p.cycles
	p.cycles = cycles
	switch {
	case collected > 0 && (p.percent > restPercent || collected > 1):
		p.busy = now
		p.percent = max(restPercent, min(mostPercent, int(roomAtLoad*100/max(live, 1))))
	case p.percent != restPercent && now.Sub(p.busy) >= calmFor:
		p.percent = restPercent
		return p.percent, true
	}
	return p.percent, false
}

// paceCollector follows the load until the end of ctx, unless GOGC says what is wanted.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := &pace{percent: restPercent}
	debug.SetGCPercent(p.percent)
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	p.cycles = samples[0].Value.Uint64()
	go func() {
		tick := time.NewTicker(paceEvery)
		defer tick.Stop()
		for set := p.percent; ; {
			select {
			case now := <-tick.C:
				metrics.Read(samples)
				percent, calm := p.next(now, samples[0].Value.Uint64(), samples[1].Value.Uint64())
				if percent != set {
					debug.SetGCPercent(percent)
					set = percent
				}
				if calm {
					debug.FreeOSMemory()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}
