package dispatch

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
)

// ageEvery is how often the calls of destinations that are down are looked
// through for those that have waited for too long.
const ageEvery = time.Minute

// giveUpOld gives up the calls of destinations that are down which have been
// due for longer than all tries of a delivery may take. Nothing else would: a
// closed lane takes only a probe now and then. Those of destinations that
// answer, also after a long stop of the watcher itself, get their try.
func (d *Dispatcher) giveUpOld(ctx context.Context, now time.Time) error {
	age := d.o.Schedule.MaxAge
	down := d.lanes.down()
	if age <= 0 || len(down) == 0 {
		return nil
	}
	only := d.o.Bots.Set().IDsOf(down)
	if len(only) == 0 {
		return nil
	}
	for _, in := range d.open() {
		for _, replay := range []bool{false, true} {
			// What was due this long ago was first tried even earlier.
			due, err := d.o.Loader.Due(ctx, calls.DueQuery{
				Now: now.Add(-age), Only: only, Replay: replay, Limit: dueBatch,
				FromSlot: in.share.From, ToSlot: in.share.To,
			})
			if err != nil {
				return err
			}
			for _, found := range due {
				it := &item{intake: in, id: found.ID, from: fromDue, class: classDue, old: true}
				if taken, err := d.takeOne(ctx, it); !taken {
					return err
				}
			}
		}
	}
	return nil
}

// tooOld reports whether a call that was looked up for its age is given up.
func (d *Dispatcher) tooOld(it *item, call *calls.Call, now time.Time) bool {
	return it.old && isDue(call) && now.Sub(call.Pushed.NextAttemptAt) > d.o.Schedule.MaxAge
}
