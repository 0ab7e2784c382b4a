package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
)

// loadLoop reads the calls that wait, many with one find: what came while one
// find was under way makes the next.
func (d *Dispatcher) loadLoop(ctx context.Context) {
	batch := make([]*item, 0, loadBatch)
	for {
		batch = batch[:0]
		select {
		case it := <-d.incoming:
			batch = append(batch, it)
		case <-ctx.Done():
			return
		}
	more:
		for len(batch) < loadBatch {
			select {
			case it := <-d.incoming:
				batch = append(batch, it)
			default:
				break more
			}
		}
		if !d.load(ctx, batch, false) {
			return
		}
	}
}

// load reads a batch, trying until ctx ends, and decides on each call. whole
// reads all fields.
func (d *Dispatcher) load(ctx context.Context, batch []*item, whole bool) bool {
	ids := make([]bson.RawValue, len(batch))
	for attempt := 0; ; attempt++ {
		for i, it := range batch {
			ids[i] = it.id
		}
		// The set is taken before the read, so that the fields that its mappers
		// name are those that were read.
		set := d.o.Bots.Set()
		found := make(map[string]*calls.Call, len(batch))
		fields := set.Fields()
		if whole {
			fields = nil
		}
		err := d.o.Loader.Load(ctx, ids, fields, func(c calls.Call) { found[idKey(c.ID)] = &c })
		if err == nil {
			d.loading.Worked(ctx)
			return d.decideAll(ctx, batch, found, set)
		}
		if ctx.Err() != nil {
			d.forgetAll(batch)
			return false
		}
		if errors.Is(err, calls.ErrUnreadable) {
			return d.loadApart(ctx, batch, whole, err)
		}
		wait := min(100*time.Millisecond<<min(attempt, 8), 10*time.Second)
		wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
		d.metrics.loadErrors.Inc()
		d.loading.Failed(ctx, err, slog.Int("calls", len(batch)))
		if !sleep(ctx, wait) {
			d.forgetAll(batch)
			return false
		}
	}
}

// loadApart finds the call that MongoDB refuses to read, so that it does not hold
// up the others: each is read alone, then without naming fields, and one that is
// refused even so is given up, with a line in the log.
func (d *Dispatcher) loadApart(ctx context.Context, batch []*item, whole bool, refused error) bool {
	if len(batch) == 1 && whole {
		it := batch[0]
		d.metrics.loadErrors.Inc()
		d.logger.Error("call cannot be read and is not pushed", "call_id", it.id.String(), "error", refused)
		d.skip(it, nil, ReasonUnreadable)
		return true
	}
	for i := range batch {
		if !d.load(ctx, batch[i:i+1], len(batch) == 1) {
			d.forgetAll(batch[i+1:])
			return false
		}
	}
	return true
}

func (d *Dispatcher) forgetAll(batch []*item) {
	for _, it := range batch {
		d.forget(it)
	}
}

func (d *Dispatcher) decideAll(ctx context.Context, batch []*item, found map[string]*calls.Call, set *bots.Set) bool {
	for i, it := range batch {
		if it.intake.over() {
			d.forget(it)
			continue
		}
		call, ok := found[it.key]
		if !ok {
			d.skip(it, nil, ReasonDeleted)
			continue
		}
		size := min(int64(call.Size()), maxBytes)
		if err := d.bytes.Acquire(ctx, size); err != nil {
			d.forgetAll(batch[i:])
			return false
		}
		it.bytes = size
		d.decide(it, call, set)
	}
	return true
}

// decide is the fork of the road: skip, settle without a push, or push.
func (d *Dispatcher) decide(it *item, call *calls.Call, set *bots.Set) {
	if it.class == classDue && call.Pushed.ReplayID != "" {
		it.class = classReplay
	}
	if reason := settled(call, it, time.Now()); reason != "" {
		d.skip(it, call, reason)
		return
	}
	bot := set.Bot(call.Bot)
	if it.old {
		if d.tooOld(it, call, time.Now()) {
			d.withdraw(it, call, "given up: due for more than "+d.o.Schedule.MaxAge.String()+" and the destination does not answer")
			return
		}
		it.end = endDue // meanwhile it was tried, or stored anew
		d.finish(it)
		return
	}
	switch reason := SkipReason(call, bot); reason {
	case "":
		d.queue(it, call, bot, set)
	case ReasonNoURL:
		d.settle(it, call, bot, calls.StatusSkipped, "the bot has no url")
	case ReasonBadConfig:
		d.settle(it, call, bot, calls.StatusFailed, "unusable configuration: "+bot.FaultText())
	default:
		if isDue(call) {
			// It was to be tried again and now must not be: the document has
			// to say so, or it stays due for ever.
			d.withdraw(it, call, "not tried again: "+string(reason))
			return
		}
		d.skip(it, call, reason)
	}
}

// settled says why the document already answers for this result, or "".
func settled(call *calls.Call, it *item, now time.Time) Reason {
	p := &call.Pushed
	switch {
	case !it.again.answers(call):
		return ""
	case p.NextAttemptAt.IsZero() && it.again.wants(p):
		return ""
	case p.NextAttemptAt.IsZero():
		return ReasonLogged
	case it.class == classLive, p.NextAttemptAt.After(now.Add(dueSlack)):
		return ReasonScheduled
	}
	return ""
}

// The reasons to end an item that only the road has; a preview never says them.
const (
	// ReasonLogged is a result whose outcome stands on the call already.
	ReasonLogged Reason = "already_logged"
	// ReasonScheduled is a result whose next try stands on the call already.
	ReasonScheduled Reason = "already_scheduled"
	// ReasonDeleted is a call that is gone.
	ReasonDeleted Reason = "call_deleted"
	// ReasonUnreadable is a call that MongoDB refuses to read.
	ReasonUnreadable Reason = "call_unreadable"
)

// allReasons is the closed set, for metrics.
var allReasons = []Reason{
	ReasonAgentCall, ReasonNoResult, ReasonNoConfig, ReasonDisabled, ReasonSkipFlag,
	ReasonNoURL, ReasonBadConfig, ReasonLogged, ReasonScheduled, ReasonDeleted,
	ReasonUnreadable,
}

// dueSlack allows for clocks that differ between replicas.
const dueSlack = time.Second

func isDue(call *calls.Call) bool { return !call.Pushed.NextAttemptAt.IsZero() }

// skip ends an item without writing anything.
func (d *Dispatcher) skip(it *item, call *calls.Call, reason Reason) {
	it.end = endIgnored
	d.metrics.skips[reason].Inc()
	d.skipped[reason].Add(1)
	if call == nil { // it is gone, and with it its name
		call = &calls.Call{ID: it.id}
	}
	d.logger.Debug("not pushed", "bot_id", call.BotID, "call_id", call.Name(), "reason", string(reason))
	d.finish(it)
}

// queue gives a call to the lane of its destination, or puts it off.
func (d *Dispatcher) queue(it *item, call *calls.Call, bot *bots.Bot, set *bots.Set) {
	now := time.Now()
	dl := &delivery{item: it, call: call, bot: bot, at: now}
	if retryAt, ok := d.lanes.offer(dl, set.Limits(bot.Push.Destination), now); !ok {
		d.park(dl, retryAt)
	}
}
