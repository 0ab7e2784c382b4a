package dispatch

import (
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/queue"
)

// holding is what operators hold back, as it was at one moment. That a hold is
// over is told by SetHolds, not found out call by call: nothing of a bot goes
// before its lane is made ready for all that comes.
type holding struct {
	set *hold.Set
	at  time.Time
}

// by returns the hold that keeps the calls of a bot back, nil when none does.
func (h *holding) by(b *bots.Bot) *hold.Hold { return h.set.For(b, h.at) }

// SetHolds makes the holds as they are at now count for all that is sent from
// here on. The calls of a bot that is held leave their lane at once; those of one
// that is released go out slowly at first, as to a destination that was down.
func (d *Dispatcher) SetHolds(set *hold.Set, now time.Time) {
	before, after := d.holds.Load(), &holding{set, now}
	for _, b := range d.o.Bots.Set().All() {
		if b.Usable() && before.by(b) != nil && after.by(b) == nil {
			d.queue.Ramp(b.Push.Destination, b.Push.PublicURL)
		}
	}
	d.holds.Store(after)
	for _, owner := range d.queue.Remove(func(o queue.Owner) bool { return after.by(o.(*item).bot) != nil }) {
		it := owner.(*item)
		d.settle(it, heldBack(it.call, it.bot, after.by(it.bot), now), nil)
	}
	d.onDue(now) // what was held is due
}

// Held reports whether an operator holds a bot back.
func (d *Dispatcher) Held(b *bots.Bot) bool { return d.holds.Load().by(b) != nil }

// Paused is for how long of the time between from and to a bot was held.
func (d *Dispatcher) Paused(b *bots.Bot, from, to time.Time) time.Duration {
	return d.holds.Load().set.Paused(b, from, to)
}

// heldBack is the decision on a call whose bot is held: it is due all the while,
// and from when it was due already.
func heldBack(call *calls.Call, bot *bots.Bot, h *hold.Hold, now time.Time) Decision {
	until := now
	if call.Pushed.Due(call.CompletedAt) {
		until = call.Pushed.NextAttemptAt
	}
	return Decision{Action: Defer, Reason: ReasonHeld, Until: until, Hold: h.ID, Detail: bot.Push.Redact.Redact(h.Why)}
}
