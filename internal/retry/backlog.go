package retry

import (
	"context"
	"math"
	"time"
)

const (
	// backlogEvery is how often the due calls are counted. Prometheus rarely
	// asks more often.
	backlogEvery = 15 * time.Second
	// backlogMost bounds the index entries that one count reads.
	backlogMost = 10_000
)

// watchBacklog counts the due calls until ctx ends. The looks cannot tell: they
// leave out the calls of destinations that take none.
func (r *Retrier) watchBacklog(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := r.countBacklog(ctx, time.Now()); err != nil && ctx.Err() == nil {
			// The looks ask the same server every second and say what is wrong.
			r.o.Logger.DebugContext(ctx, "due calls could not be counted", "error", err)
			for _, gauge := range r.metrics.due {
				gauge.Set(math.NaN())
			}
			r.metrics.oldest.Set(math.NaN())
			r.metrics.held.Set(math.NaN())
		}
		timer.Reset(backlogEvery)
	}
}

func (r *Retrier) countBacklog(ctx context.Context, now time.Time) error {
	var due [len(classes)]int
	var held int
	var oldest time.Duration
	heldBots := r.o.Bots.Set().IDsOf(r.o.Road.Held)
	for _, in := range r.o.Road.Intakes() {
		for i, class := range classes {
			q := query(in, class, now)
			q.Limit = backlogMost
			if len(heldBots) > 0 {
				q.Only = heldBots
				n, _, err := r.o.Finder.CountDue(ctx, q)
				if err != nil {
					return err
				}
				held += n
				q.Only, q.Except = nil, heldBots
			}
			n, since, err := r.o.Finder.CountDue(ctx, q)
			if err != nil {
				return err
			}
			due[i] += n
			if !q.Replay && !since.IsZero() {
				oldest = max(oldest, now.Sub(since))
			}
		}
	}
	for i, n := range due {
		r.metrics.due[i].Set(float64(n))
	}
	r.metrics.oldest.Set(oldest.Seconds())
	r.metrics.held.Set(float64(held))
	return nil
}
