package queue

import (
	"math/rand/v2"
	"time"
)

// breaker stops a lane whose destination is down. It opens after a row of
// failures, lets one job through after a while, and closes when that one is
// answered; while the probes fail, it stays open longer each time.
//
// It is a plain state machine; the queue's lock guards it. A probe that ends
// without saying anything (cancelled) leaves it ready to probe again, and one that
// does not come ends the half-open state, so that it cannot be stuck there.
type breaker struct {
	failures int // in a row
	opened   int // times in a row
	until    time.Time
	open     bool
}

const (
	breakAfter = 5 // failures in a row
	breakFirst = 10 * time.Second
	breakMost  = 5 * time.Minute
	// breakIdle is how long a breaker is half open without a job. Those that were
	// deferred come within blockedSpread: there are none then.
	breakIdle = time.Minute
)

// probing reports whether the breaker is half open.
func (b *breaker) probing(now time.Time) bool { return b.open && !b.until.After(now) }

func (b *breaker) succeeded() { *b = breaker{} }

// expire ends the half-open state when nothing is left to probe with. The next
// failure opens the breaker at once, for as long as a failed probe would have.
func (b *breaker) expire() { b.open, b.failures = false, breakAfter-1 }

// failed reports whether this failure opened the breaker.
func (b *breaker) failed(now time.Time) bool {
	b.failures++
	switch {
	case b.open && b.until.After(now):
		return false // one of those that were under way when it opened
	case !b.open && b.failures < breakAfter:
		return false
	}
	wait := min(breakFirst<<min(b.opened, 8), breakMost)
	wait += rand.N(wait/4 + 1) //nolint:gosec // jitter: replicas must not probe together
	b.open, b.until = true, now.Add(wait)
	b.opened++
	return true
}
