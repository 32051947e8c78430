package journal

import "time"

const (
	// enough entries are committed without waiting for more.
	enough = 16
	// alone is how many entries come, at most, while those of the same few sessions are committed: their next steps wait for that.
	alone = 2.0
	// pausePer is what a writer waits for each entry that has come meanwhile beyond those; longPause bounds it.
	pausePer  = 3 * time.Millisecond
	longPause = 15 * time.Millisecond
	// weight of the last commit in the average.
	weight = 0.25
)

// pace decides whether a writer waits for more entries before its next transaction. A transaction costs as much as the rows of many
// sessions; a lone node has plenty to write whenever one ends, but of several nodes each has little. To wait pays only if entries keep
// coming while others are being written: many sessions are on their way then, and do not wait for each other.
type pace struct {
	came float64 // entries that had come by the end of a commit, on average
}

// pause is told how many entries have come while the last transaction was under way, and says for how long to wait for more.
func (p *pace) pause(queued int) time.Duration {
	p.came += (float64(queued) - p.came) * weight
	if queued == 0 || queued >= enough || p.came <= alone {
		return 0
	}
	return min(time.Duration((p.came-alone)*float64(pausePer)), longPause)
}
