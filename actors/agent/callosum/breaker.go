package callosum

import (
	"fmt"
	"time"
)

// BreakerState is a state of a Breaker.
type BreakerState uint8

// The states:
//
//	        N deadlines in a row          probe unanswered            retry time
//	closed ─────────────────────▶ suspect ────────────────▶ open ─────────────────▶ half-open
//	  ▲ calls pass                │ calls pass              ▲ calls refused         │ calls refused
//	  └────── any answer ─────────┴─────────────────────────┴── probe unanswered ───┘
//	  └────── any answer (from every state)
//
// Suspicion comes before refusal because official agents leave some calls unanswered while being well (spec §2.11):
// only a ping that stays unanswered proves that the agent is not.
const (
	BreakerClosed BreakerState = iota
	BreakerSuspect
	BreakerOpen
	BreakerHalfOpen
)

func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerSuspect:
		return "suspect"
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("BreakerState(%d)", uint8(s))
}

// BreakerConfig holds the limits of a Breaker.
type BreakerConfig struct {
	Threshold int           // deadlines in a row that raise suspicion; default 5, negative: never
	Cooldown  time.Duration // from opening to the first probe; default 2 s
	MaxWait   time.Duration // the cooldown doubles per failed probe up to this; default 1 min
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.Threshold == 0 {
		c.Threshold = 5
	}
	if c.Cooldown <= 0 {
		c.Cooldown = 2 * time.Second
	}
	if c.MaxWait < c.Cooldown {
		c.MaxWait = max(time.Minute, c.Cooldown)
	}
	return c
}

// Breaker is the circuit breaker of one link: a value, changed only by its methods, which take the time as an argument.
// Methods that return true ask for a probe to be sent now.
type Breaker struct {
	Config   BreakerConfig
	State    BreakerState
	Failures int           // deadlines in a row
	Wait     time.Duration // the current cooldown
	RetryAt  time.Time     // of open: when to probe
	OpenedAt time.Time     // of open and half-open: since when calls have been refused
}

// NewBreaker returns a closed breaker.
func NewBreaker(c BreakerConfig) Breaker { return Breaker{Config: c.withDefaults()} }

// Allows tells whether calls may pass.
func (b *Breaker) Allows() bool { return b.State == BreakerClosed || b.State == BreakerSuspect }

// Answered notes an answer of any kind: the agent lives.
func (b *Breaker) Answered() {
	b.State, b.Failures, b.Wait = BreakerClosed, 0, 0
	b.RetryAt, b.OpenedAt = time.Time{}, time.Time{}
}

// TimedOut notes a call that reached its deadline unanswered.
func (b *Breaker) TimedOut() (probe bool) {
	b.Failures++
	if b.State == BreakerClosed && b.Config.Threshold > 0 && b.Failures >= b.Config.Threshold {
		b.State = BreakerSuspect
		return true
	}
	return false
}

// ProbeFailed notes that the probe stayed unanswered.
func (b *Breaker) ProbeFailed(now time.Time) {
	switch b.State {
	case BreakerSuspect:
		b.Wait, b.OpenedAt = b.Config.Cooldown, now
	case BreakerHalfOpen:
		b.Wait = min(b.Wait*2, b.Config.MaxWait)
	default:
		return
	}
	b.State, b.RetryAt = BreakerOpen, now.Add(b.Wait)
}

// ProbeLost notes that the probe's connection broke before it could be answered, which proves nothing: a suspicion is
// dropped, an open breaker tries again after the same wait.
func (b *Breaker) ProbeLost(now time.Time) {
	switch b.State {
	case BreakerSuspect:
		b.Answered()
	case BreakerHalfOpen:
		b.State, b.RetryAt = BreakerOpen, now.Add(b.Wait)
	}
}

// Connected notes a fresh connection: an agent that was restarted deserves its probe at once.
func (b *Breaker) Connected() (probe bool) {
	if b.State != BreakerOpen {
		return false
	}
	b.State = BreakerHalfOpen
	return true
}

// Tick moves an open breaker on when its time has come.
func (b *Breaker) Tick(now time.Time) (probe bool) {
	if b.State != BreakerOpen || now.Before(b.RetryAt) {
		return false
	}
	b.State = BreakerHalfOpen
	return true
}
