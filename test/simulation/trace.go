package simulation

import (
	"fmt"
	"time"
)

// trace keeps what has happened, in words. Runs of many seeds have none: a seed that fails is run again with one.
type trace struct {
	keep  int // 0: all
	lines []string
	print func(string)
}

func (t *trace) add(now int64, text string) {
	d := time.Duration(now)
	line := fmt.Sprintf("%5d.%06d  %s", d/time.Second, (d%time.Second)/time.Microsecond, text)
	if t.print != nil {
		t.print(line)
		return
	}
	t.lines = append(t.lines, line)
	if t.keep > 0 && len(t.lines) > 2*t.keep {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-t.keep:]...)
	}
}

func (t *trace) last() []string {
	if t.keep > 0 && len(t.lines) > t.keep {
		return t.lines[len(t.lines)-t.keep:]
	}
	return t.lines
}
