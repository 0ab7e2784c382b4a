package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// decide chooses, by why the last cursor ended, how the next is opened.
func (f *Follower) decide(ctx context.Context, err error) {
	reason := f.judge(ctx, err)
	f.metric.reopens[reason].Inc()
	if n, say := f.trouble.again(reason, time.Now()); say {
		f.log.WarnContext(ctx, "the stream has to be opened again", "reason", reason, "error", err,
			"times", n, "way", string(f.way), "position", f.at.String())
	}
}

// trouble keeps a failure that comes again and again from filling the log: it is
// told at once, and then every five minutes with how often it came.
type trouble struct {
	reason string
	times  int
	told   time.Time
}

func (t *trouble) again(reason string, now time.Time) (times int, say bool) {
	if t.reason != reason || now.Sub(t.told) >= 5*time.Minute {
		if t.reason != reason {
			t.times = 0
		}
		t.reason, t.told = reason, now
		say = true
	}
	t.times++
	return t.times, say
}

// reopenReasons is the closed set that judge returns, and "driver" for an open
// that the driver made by itself.
var reopenReasons = []string{"error", "denied", "history_lost", "token", "oversized", "invalidate", "closed", "frozen", "unverified", "driver"}

func (f *Follower) judge(ctx context.Context, err error) string {
	switch {
	case errors.Is(err, errInvalidated):
		return "invalidate" // go on behind it, at once
	case errors.Is(err, errClosed):
		f.lose(GapClosed)
		return "closed"
	case errors.Is(err, errRefused):
		f.lose(GapHistoryLost)
		return "history_lost"
	case errors.Is(err, errUnverified):
		f.lose(GapUnverified)
		return "unverified"
	case errors.Is(err, errFrozen):
		f.freezing = min(f.freezing+1, maxFreezing)
		f.pace.fail()
		return "frozen"
	}
	switch classify(err) {
	case classLost:
		// Another member may still have what this one lost, and the time is asked
		// more strictly than the token.
		f.fall(GapHistoryLost)
		return "history_lost"
	case classToken:
		f.fall(GapUnusable)
		return "token"
	case classOversized:
		f.approach(ctx)
		return "oversized"
	case classDenied:
		f.pace.slow()
		return "denied"
	default:
		f.pace.fail()
		return "error"
	}
}

// fall goes from the token to the time, and from there to now with a gap.
func (f *Follower) fall(reason GapReason) {
	switch {
	case f.way == wayToken && !f.at.ClusterTime.IsZero():
		f.way = wayTime
	case f.way == wayNow:
		f.pace.fail() // there is nowhere left to fall to
	default:
		f.lose(reason)
	}
}

// lose gives the position up: the stream is opened now, and the gap from the
// position on is told then. A gap that was not told yet only grows.
func (f *Follower) lose(reason GapReason) {
	if f.gap == nil {
		f.gap = &Gap{From: f.at.Time(), Reason: reason}
	}
	f.way = wayNow
	f.careful = false
}

// approach comes closer to an event that is too large: first one by one up to
// it, then past it.
func (f *Follower) approach(ctx context.Context) {
	if !f.careful {
		f.careful = true
		return
	}
	past, err := f.stepOver(ctx)
	f.pace.fail() // a success is followed by a good poll, which forgives this
	if err != nil {
		f.log.WarnContext(ctx, "cannot step over an event that is too large", "error", err)
		return
	}
	f.lose(GapOversized)
	if past != 0 {
		f.at, f.way = resume.Position{ClusterTime: timestamp(past)}, wayTime
	}
}

// stepOver finds, to the second, a time behind the next event, which is too
// large to be returned. Opening before it fails and opening behind it does
// not: it gallops until the first success and then halves the distance. 0 means
// that the event is in the newest second, so that only now is behind it.
func (f *Follower) stepOver(ctx context.Context) (uint32, error) {
	from := f.at.ClusterTime.T
	if from == 0 {
		return 0, nil
	}
	fails, passes := from, uint32(0)
	for step := uint32(1); passes == 0; step *= 2 {
		ok, newest, err := f.passable(ctx, from+step)
		switch {
		case err != nil:
			return 0, err
		case ok:
			passes = from + step
		case from+step >= newest:
			return 0, nil
		default:
			fails = from + step
		}
	}
	for passes-fails > 1 {
		middle := fails + (passes-fails)/2
		ok, _, err := f.passable(ctx, middle)
		if err != nil {
			return 0, err
		}
		if ok {
			passes = middle
		} else {
			fails = middle
		}
	}
	return passes, nil
}

// passable says whether the first event at or after a second can be returned,
// and which second the server has now. A time to come is not passable.
func (f *Follower) passable(ctx context.Context, second uint32) (ok bool, newest uint32, err error) {
	cursor, first, err := f.source.Open(ctx, Opening{At: timestamp(second), BatchSize: 1, MaxAwait: time.Millisecond})
	if err == nil {
		defer f.close(ctx, cursor)
		newest = first.ServerTime.T
		if newest > 0 && second > newest {
			return false, newest, nil
		}
		_, err = cursor.Poll(ctx)
	}
	if err != nil && classify(err) == classOversized {
		return false, newest, nil
	}
	return err == nil, newest, err
}

// pace holds opens back: with jittered, growing pauses after failures, and with
// a bucket of tokens against loops of opens that succeed and end at once.
type pace struct {
	every    time.Duration // one more open per
	failures int
	debt     int       // opens that the bucket has not made up for
	since    time.Time // of the last repayment
}

const (
	openBurst   = 4
	backoffBase = 200 * time.Millisecond
	backoffMax  = 15 * time.Second
)

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
	pause := p.pause(time.Now())
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	p.repay(time.Now())
	p.debt++
	return nil
}

func (p *pace) pause(now time.Time) time.Duration {
	var pause time.Duration
	if p.failures > 0 {
		// Between half and all of it: never at once, never all replicas together.
		full := min(backoffMax, backoffBase<<min(p.failures-1, 10))
		pause = full/2 + rand.N(full/2)
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
