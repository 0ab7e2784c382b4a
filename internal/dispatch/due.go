package dispatch

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
)

// The retrier asks the database what is due: at least this often, and at the
// moment of each try that this process scheduled itself.
const (
	duePoll    = time.Second
	dueMinimum = 50 * time.Millisecond // between two polls
	dueTurn    = 5 * time.Millisecond  // between two polls that take turns among the bots
	dueBatch   = 512
)

// dueLoop takes the calls whose next try is due. They are found on their
// documents, so a restart forgets none, and nothing waits in memory.
func (d *Dispatcher) dueLoop(ctx context.Context) {
	timer := time.NewTimer(0) // at once: a restart finds what is overdue
	defer timer.Stop()
	lastAge := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.dueWake:
		}
		now := time.Now()
		d.dueRest = min(2*d.dueRest, duePoll) // unless something is taken
		more, err := d.takeDue(ctx, now)
		if err == nil && now.Sub(lastAge) >= ageEvery {
			lastAge = now
			err = d.giveUpOld(ctx, now)
		}
		if err != nil && ctx.Err() == nil {
			d.metrics.loadErrors.Inc()
			d.seeking.Failed(ctx, err)
		} else if err == nil {
			d.seeking.Worked(ctx)
		}
		d.lanes.tidy(now)
		for _, late := range d.lanes.overdue(now) {
			d.park(late, spread(now.Add(time.Second), fullSpread))
		}
		timer.Reset(d.untilDue(now, more))
	}
}

// takeDue takes one batch for each intake, and reports whether there is more.
func (d *Dispatcher) takeDue(ctx context.Context, now time.Time) (bool, error) {
	more := false
	for _, in := range d.open() {
		for _, c := range []class{classDue, classReplay} {
			left, err := d.takeShare(ctx, in, c, now)
			if err != nil {
				return more, err
			}
			more = more || left
		}
	}
	return more, nil
}

// takeShare takes one batch of one intake. Bots whose lane is full or closed
// are left out, so that their backlog is neither read nor in the way of others.
// After a batch that was full, those that were in it stand back until all others
// had their turn: a backlog that drains quickly may not hide the rest either.
func (d *Dispatcher) takeShare(ctx context.Context, in *Intake, c class, now time.Time) (more bool, err error) {
	q := calls.DueQuery{
		Now: now, Replay: c == classReplay, Limit: dueBatch,
		FromSlot: in.share.From, ToSlot: in.share.To,
	}
	set, rooms := d.o.Bots.Set(), d.lanes.rooms(c, now)
	q.Except = set.IDsOf(noRoom(rooms))
	for id := range in.served[c] {
		q.Except = append(q.Except, calls.IDFormsOfText(id)...)
	}
	due, err := d.o.Loader.Due(ctx, q)
	if err != nil {
		return false, err
	}
	more = len(due) == dueBatch || len(in.served[c]) > 0
	if len(due) < dueBatch {
		clear(in.served[c])
	}
	behind := make(map[string]bool)
	for key := range in.behind[c] {
		if rooms[key] == 0 {
			behind[key] = true // it is full still
		}
	}
	in.behind[c] = behind
	for _, found := range due {
		bot := set.Named(found.Bot)
		if len(due) == dueBatch {
			in.served[c][found.Bot] = true
		}
		took := takeRoom(rooms, bot)
		if (!took || len(due) == dueBatch) && bot != nil && bot.Push != nil {
			behind[bot.Push.Destination] = true
		}
		if !took {
			continue
		}
		if taken, err := d.takeOne(ctx, &item{intake: in, id: found.ID, from: fromDue, class: classDue}); !taken {
			return more, err
		}
	}
	return more, nil
}

// noRoom returns the destinations that are left out.
func noRoom(rooms map[string]int) map[string]bool {
	none := make(map[string]bool)
	for key, n := range rooms {
		if n <= 0 {
			none[key] = true
		}
	}
	return none
}

// takeRoom takes the room for one call of a bot. What has no room now is not
// even loaded.
func takeRoom(rooms map[string]int, b *bots.Bot) bool {
	if b == nil || b.Push == nil {
		return true // it is settled without a lane
	}
	n, known := rooms[b.Push.Destination]
	if !known {
		n = firstQueue
	}
	if n <= 0 {
		return false
	}
	rooms[b.Push.Destination] = n - 1
	return true
}

// takeOne hands a due call to the loaders, unless it is on its way already. It
// is false when no more can be taken.
func (d *Dispatcher) takeOne(ctx context.Context, it *item) (bool, error) {
	if !d.pending.TryAcquire(1) {
		return false, nil // live calls come first; the rest is still due later
	}
	it.key, it.held = idKey(it.id), 1
	d.dueRest = dueMinimum
	if !d.claimDue(it) {
		d.pending.Release(1)
		return true, nil
	}
	select {
	case d.incoming <- it:
		return true, nil
	case <-it.intake.stopped:
		d.forget(it)
		return false, nil
	case <-ctx.Done():
		d.forget(it)
		return false, context.Cause(ctx)
	}
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

// untilDue is how long the retrier may rest. Where a destination could not take
// all that is due, it looks again soon.
func (d *Dispatcher) untilDue(now time.Time, more bool) time.Duration {
	if more {
		return dueTurn
	}
	rest := duePoll
	for _, in := range d.open() {
		for c := range in.behind {
			if len(in.behind[c]) > 0 {
				rest = d.dueRest
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
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
