package dispatch

import (
	"context"
	"math"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
)

// Backlog counts due calls for the metrics.
type Backlog interface {
	// CountDue returns how many calls are due, at most the query's limit, and
	// since when the oldest of those is; zero when there is none.
	CountDue(ctx context.Context, q calls.DueQuery) (int, time.Time, error)
}

const (
	// backlogEvery is how often the due calls are counted. Prometheus rarely
	// asks more often.
	backlogEvery = 15 * time.Second
	// backlogMost bounds the index entries that one count reads.
	backlogMost = 10_000
)

// watchBacklog counts the due calls until ctx ends. The retrier cannot tell:
// it does not look for the calls of destinations that take none.
func (d *Dispatcher) watchBacklog(ctx context.Context) {
	if d.o.Backlog == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := d.countBacklog(ctx, time.Now()); err != nil && ctx.Err() == nil {
			// The retrier asks the same server every second and says what is wrong.
			d.logger.Debug("due calls could not be counted", "error", err)
			d.metrics.due[0].Set(math.NaN())
			d.metrics.due[1].Set(math.NaN())
			d.metrics.oldestDue.Set(math.NaN())
		}
		timer.Reset(backlogEvery)
	}
}

func (d *Dispatcher) countBacklog(ctx context.Context, now time.Time) error {
	var due [2]int // tries, replays
	var oldest time.Duration
	for _, in := range d.open() {
		for i, replay := range []bool{false, true} {
			n, since, err := d.o.Backlog.CountDue(ctx, calls.DueQuery{
				Now: now, Replay: replay, Limit: backlogMost,
				FromSlot: in.share.From, ToSlot: in.share.To,
			})
			if err != nil {
				return err
			}
			due[i] += n
			if !replay && !since.IsZero() {
				oldest = max(oldest, now.Sub(since))
			}
		}
	}
	for i, n := range due {
		d.metrics.due[i].Set(float64(n))
	}
	d.metrics.oldestDue.Set(oldest.Seconds())
	return nil
}
