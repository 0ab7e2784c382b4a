// Package outage tells of a failure that comes again and again without filling
// the log: when it begins, then ever more rarely with how often it came, and
// once when it is over.
//
// It owns what is said and when. It does not own the retries themselves, nor
// how long they wait.
package outage

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/internal/plain"
)

// The times between two lines about one outage: the first reminder comes after
// half a minute, each next one after twice as long, at most every ten minutes.
const (
	firstReminder = 30 * time.Second
	mostReminder  = 10 * time.Minute
	// otherCause is how soon a failure is told again when its cause is another.
	otherCause = 5 * time.Second
)

// Log is the log of one thing that can fail and that is repeated until it works.
// It is safe for concurrent use; several that do the same share one Log.
type Log struct {
	logger  *slog.Logger
	failing string
	working string

	down atomic.Bool // so that a success costs one load

	mu    sync.Mutex
	since time.Time     // of the first failure
	times int           // since then
	told  time.Time     // the last line about a failure, also of an earlier outage
	next  time.Duration // from told to the next line
	cause string        // as told
	open  bool          // this outage was told
}

// New returns a Log that says failing and working, both constants of the
// program, at levels warn and info.
func New(logger *slog.Logger, failing, working string) *Log {
	return &Log{logger: logger, failing: failing, working: working}
}

// Failed notes a failure. The attributes go with its line if there is one.
func (l *Log) Failed(ctx context.Context, err error, attrs ...slog.Attr) {
	now := time.Now()
	cause := plain.Error(err)
	l.mu.Lock()
	if l.times == 0 {
		l.since = now
	}
	l.times++
	l.down.Store(true)
	if !l.due(cause, now) {
		l.mu.Unlock()
		return
	}
	l.told, l.cause, l.open = now, cause, true
	if l.times > 1 {
		attrs = append(attrs, slog.Int("times", l.times), slog.Duration("for", now.Sub(l.since)))
	}
	l.mu.Unlock()
	l.logger.LogAttrs(ctx, slog.LevelWarn, l.failing, append(attrs, slog.Any("error", err))...) //nolint:sloglint // a constant of the caller
}

// due decides whether a failure is told now. One that comes soon after the
// last line waits like a reminder, also when it worked in between.
func (l *Log) due(cause string, now time.Time) bool {
	quiet := now.Sub(l.told)
	switch {
	case l.told.IsZero(), !l.open && quiet >= firstReminder:
		l.next = firstReminder
		return true
	case cause != l.cause && quiet >= otherCause && l.open:
		return true
	case quiet >= l.next:
		l.next = min(2*l.next, mostReminder)
		return true
	}
	return false
}

// Worked notes a success. When a failure was told before, its end is.
func (l *Log) Worked(ctx context.Context) {
	if !l.down.Load() {
		return
	}
	now := time.Now()
	l.mu.Lock()
	l.down.Store(false)
	open, times, lasted := l.open, l.times, now.Sub(l.since)
	l.open, l.times = false, 0
	l.mu.Unlock()
	if open {
		l.logger.LogAttrs(ctx, slog.LevelInfo, l.working, //nolint:sloglint // a constant of the caller
			slog.Int("failures", times), slog.Duration("after", lasted))
	}
}
