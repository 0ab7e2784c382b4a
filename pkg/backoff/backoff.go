// Package backoff is how anything here waits before it tries again: doubled
// pauses with jitter and a bound, and a sleep that ends with a context.
//
// It owns the arithmetic and the timer. It does not own what is tried, nor
// when trying again is of no use.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is a row of pauses that double from First to Most.
type Backoff struct {
	First time.Duration
	Most  time.Duration
}

// Pause is the wait after failure n, the first being 0: First doubled n times,
// at most Most, of which the second half is random so that replicas that failed
// together do not come back together.
func (b Backoff) Pause(n int) time.Duration {
	wait := b.First
	for ; n > 0 && wait < b.Most; n-- {
		wait *= 2
	}
	return Jitter(min(wait, b.Most))
}

// Jitter is a random time between half of d and d.
func Jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d-d/2+1) //nolint:gosec // jitter
}

// Sleep waits for d. It returns nil, or the cause of ctx when that ended first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
