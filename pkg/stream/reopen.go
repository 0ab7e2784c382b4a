package stream

import (
	"context"
	"errors"
	"time"
)

// reopen chooses, by why the last cursor ended, how the next is opened.
func (f *Follower) reopen(ctx context.Context, err error) {
	reason := f.recoverFrom(err)
	f.metric.reopens[reason].Inc()
	if n, due := f.repeats.count(reason, time.Now()); due {
		f.log.WarnContext(ctx, "the stream has to be opened again", "reason", reason, "error", err,
			"times", n, "way", string(f.mode), "position", f.position.String())
	}
}

// repeats keeps a failure that comes many times from filling the log: the first is
// logged, and then one every five minutes with how many there were.
type repeats struct {
	reason string
	times  int
	logged time.Time
}

func (r *repeats) count(reason string, now time.Time) (times int, due bool) {
	if r.reason != reason {
		*r = repeats{reason: reason}
	}
	r.times++
	if due = now.Sub(r.logged) >= 5*time.Minute; due {
		r.logged = now
	}
	return r.times, due
}

// reopenReasons is the closed set that recoverFrom returns, and "driver" for an open
// that the driver made by itself.
var reopenReasons = []string{"error", "denied", "history_lost", "token", "oversized", "invalidate", "closed", "frozen", "unverified", "filter", "driver"}

func (f *Follower) recoverFrom(err error) (reason string) {
	switch {
	case errors.Is(err, errInvalidated):
		return "invalidate" // go on after it, at once
	case errors.Is(err, errClosed):
		f.declareGap(GapClosed)
		return "closed"
	case errors.Is(err, errRefused):
		f.declareGap(GapHistoryLost)
		return "history_lost"
	case errors.Is(err, errUnverified):
		f.declareGap(GapUnverified)
		return "unverified"
	case errors.Is(err, errFrozen):
		f.frozenPolls = min(f.frozenPolls+1, maxFrozenPolls)
		f.pace.fail()
		return "frozen"
	}
	if f.filtered && f.mayBeFilter(err) {
		f.filtered = false
		f.pace.fail()
		return "filter"
	}
	switch classify(err) {
	case classLost:
		// Another member may still have what this one lost, and the time is asked
		// more strictly than the token.
		f.fallBack(GapHistoryLost)
		return "history_lost"
	case classToken:
		f.fallBack(GapUnusable)
		return "token"
	case classOversized:
		// It would be met again from the same position.
		f.declareGap(GapOversized)
		return "oversized"
	case classDenied:
		f.pace.slow()
		return "denied"
	default:
		f.pace.fail()
		if f.passes(err) {
			return "error"
		}
		if f.unknown++; f.unknown == maxUnknown {
			f.unknown = 0
			f.fallBack(GapUnreadable)
		}
		return "error"
	}
}

// maxUnknown is how often the stream is opened at the same position after errors that are not known to
// pass: with the pauses between it takes more than a minute.
const maxUnknown = 8

// fallBack goes from the token to the time, and from there to now with a gap.
func (f *Follower) fallBack(reason GapReason) {
	switch {
	case f.mode == modeToken && !f.position.ClusterTime.IsZero():
		f.mode = modeTime
	case f.mode == modeNow:
		f.pace.fail() // there is nothing left to fall back to
	default:
		f.declareGap(reason)
	}
}

// declareGap gives the position up: the stream is opened now, and the gap from the
// position on is handed over then. A gap that was not handed over yet only grows.
func (f *Follower) declareGap(reason GapReason) {
	if f.gap == nil {
		f.gap = &Gap{From: f.position.Time(), Reason: reason}
	}
	f.mode = modeNow
}
