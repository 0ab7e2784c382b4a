package stream

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// pace limits opens: growing pauses after failures, and a bucket against loops of
// opens that succeed and end at once.
type pace struct {
	every    time.Duration // one more open per
	failures int
	debt     int       // opens that the bucket has not made up for
	since    time.Time // of the last repayment
}

const openBurst = 4

var pauses = backoff.Backoff{First: 200 * time.Millisecond, Most: 15 * time.Second}

func (p *pace) fail() { p.failures++ }

// slow is for failures that only an operator can mend: the longest pause comes
// with the third.
func (p *pace) slow() { p.failures += 3 }

func (p *pace) succeed() { p.failures = 0 }

// wait returns when an open is due, or with the cause of ctx.
func (p *pace) wait(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := backoff.Sleep(ctx, p.pause(time.Now())); err != nil {
		return err
	}
	p.repay(time.Now())
	p.debt++
	return nil
}

func (p *pace) pause(now time.Time) time.Duration {
	var pause time.Duration
	if p.failures > 0 {
		pause = pauses.Pause(p.failures - 1)
	}
	p.repay(now)
	if p.debt >= openBurst {
		pause = max(pause, p.every-now.Sub(p.since))
	}
	return pause
}

func (p *pace) repay(now time.Time) {
	if p.debt == 0 {
		p.since = now
		return
	}
	paid := int(now.Sub(p.since) / p.every)
	p.debt = max(0, p.debt-paid)
	p.since = p.since.Add(time.Duration(paid) * p.every)
}
