package up

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/briandowns/spinner"
	"github.com/mattn/go-isatty"
)

// progress tells a person who waits what is going on: a spinner on a terminal, plain lines elsewhere. Safe for concurrent use.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	spin    *spinner.Spinner
	current string
	since   time.Time
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.spin = spinner.New(spinner.CharSets[14], 100*time.Millisecond, spinner.WithWriterFile(f))
	}
	return p
}

// Say begins a step; it ends with the next one.
func (p *progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spin == nil {
		fmt.Fprintln(p.out, text)
		return
	}
	p.finish()
	p.current, p.since = text, time.Now()
	p.spin.Suffix = " " + text
	p.spin.Start()
}

// finish leaves the current step behind as a line. Steps too short to be read leave none.
func (p *progress) finish() {
	if p.spin == nil || p.current == "" {
		return
	}
	p.spin.Stop()
	if took := time.Since(p.since); took > 300*time.Millisecond {
		fmt.Fprintf(p.out, "✓ %s (%.1f s)\n", p.current, took.Seconds())
	}
	p.current = ""
}

// Pause ends the current step, so that others can write.
func (p *progress) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
}

// Close is Pause for good.
func (p *progress) Close() { p.Pause() }
