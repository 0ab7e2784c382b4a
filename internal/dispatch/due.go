package dispatch

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
)

// The retrier asks the database what is due: at least this often, and at the
// moment of each try that this process scheduled itself.
const (
	duePoll    = time.Second
	dueMinimum = 50 * time.Millisecond // between two polls
	dueBatch   = 512
)

// dueLoop takes the calls whose next try is due. They are found on their
// documents, so a restart forgets none, and nothing waits in memory.
func (d *Dispatcher) dueLoop(ctx context.Context) {
	timer := time.NewTimer(0) // at once: a restart finds what is overdue
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.dueWake:
		}
		now := time.Now()
		taken, err := d.takeDue(ctx, now)
		if err != nil && ctx.Err() == nil {
			d.metrics.loadErrors.Inc()
			d.logger.Warn("due calls could not be read, trying again", "error", err)
		}
		d.lanes.tidy(now)
		for _, late := range d.lanes.overdue(now) {
			d.park(late, spread(now.Add(time.Second), fullSpread))
		}
		timer.Reset(d.untilDue(now, taken))
	}
}

// takeDue takes one batch for each intake.
func (d *Dispatcher) takeDue(ctx context.Context, now time.Time) (int, error) {
	most := 0
	for _, in := range d.open() {
		for _, c := range []class{classDue, classReplay} {
			n, err := d.takeShare(ctx, in, c, now)
			if err != nil {
				return most, err
			}
			most = max(most, n)
		}
	}
	return most, nil
}

// takeShare takes one batch of one intake. Bots whose lane is full or closed
// are left out, so that their backlog is neither read nor in the way of others.
func (d *Dispatcher) takeShare(ctx context.Context, in *Intake, c class, now time.Time) (int, error) {
	q := calls.DueQuery{
		Now: now, Replay: c == classReplay, Limit: dueBatch,
		FromSlot: in.share.From, ToSlot: in.share.To,
	}
	if full := d.lanes.full(c, now); len(full) > 0 {
		q.Except = d.o.Bots.Set().IDsOf(full)
	}
	due, err := d.o.Loader.Due(ctx, q)
	if err != nil {
		return 0, err
	}
	for _, found := range due {
		if !d.pending.TryAcquire(1) {
			break // live calls come first; the rest is still due later
		}
		it := &item{intake: in, id: found.ID, key: idKey(found.ID), from: fromDue, class: classDue, held: 1}
		if !d.claimDue(it) {
			d.pending.Release(1)
			continue
		}
		select {
		case d.incoming <- it:
		case <-in.stopped:
			d.forget(it)
			return len(due), nil
		case <-ctx.Done():
			d.forget(it)
			return len(due), context.Cause(ctx)
		}
	}
	return len(due), nil
}

// claimDue claims a due call unless it is on its way already.
func (d *Dispatcher) claimDue(it *item) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, busy := d.inFlight[it.key]; busy || !it.intake.hold(it.held) {
		return false
	}
	d.flow.take(it)
	d.inFlight[it.key] = it
	return true
}

// expect notes a try that this process scheduled.
func (d *Dispatcher) expect(at time.Time) {
	d.mu.Lock()
	sooner := d.nextDue.IsZero() || at.Before(d.nextDue)
	if sooner {
		d.nextDue = at
	}
	d.mu.Unlock()
	if sooner && time.Until(at) < duePoll {
		select {
		case d.dueWake <- struct{}{}:
		default:
		}
	}
}

// untilDue is how long the retrier may rest.
func (d *Dispatcher) untilDue(now time.Time, taken int) time.Duration {
	if taken == dueBatch {
		return dueMinimum
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	rest := duePoll
	if !d.nextDue.IsZero() {
		if !d.nextDue.After(now) {
			d.nextDue = time.Time{}
		} else {
			rest = min(rest, d.nextDue.Sub(now))
		}
	}
	return max(rest, dueMinimum)
}

func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
