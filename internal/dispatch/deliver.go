package dispatch

import (
	"context"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// launch starts the attempt of a call that has its slot.
func (d *Dispatcher) launch(dl *delivery) {
	d.metrics.sendingNow.Add(1)
	d.work.Go(func() {
		defer d.metrics.sendingNow.Add(-1)
		d.deliver(dl)
	})
}

// deliver makes one attempt and hands its outcome over to be written.
func (d *Dispatcher) deliver(dl *delivery) {
	begun := time.Now()
	d.metrics.queueSeconds.Observe(begun.Sub(dl.at).Seconds())

	env := d.o.Env
	if dl.bot.Push.NeedsRecording {
		env.RecordingURL = d.o.Links.Link(dl.call, begun)
	}
	req := Prepare(dl.call, dl.bot, env)
	res := d.o.Sender.Send(dl.intake.sends, req)

	now := time.Now()
	put, retryAt := d.lanes.done(dl, &res, now)
	for _, other := range put {
		d.park(other, spread(retryAt, blockedSpread))
	}
	if res.Class == push.ClassCanceled {
		d.forget(dl.item) // its event stays open, or its document says that it is due
		return
	}
	o := outcome(dl, req, &res, d.o.Schedule, now)
	d.metrics.bots.attempted(dl.call.BotID, res.Class)
	d.record(dl.item, dl.call.BotID, o)
	d.logDelivery(dl, &o, &res, now)
}

// outcome says what an attempt came to: final, or when the next one is due.
// It is a pure function.
func outcome(dl *delivery, req *push.Request, res *push.Result, schedule push.Schedule, now time.Time) calls.Outcome {
	o := base(dl.call, now)
	o.Status = calls.Status(res.Class.Status())
	o.HTTPStatus = res.HTTPStatus
	o.ResponseBody = res.Body
	o.Method = req.Method
	o.URL = dl.bot.Push.PublicURL
	o.Attempts = tries(dl.call) + 1
	o.Duration = res.Duration
	if res.Err != nil {
		o.Error = res.Err.Error()
	}
	if most := dl.bot.Push.MaxAttempts; most > 0 {
		schedule.MaxAttempts = most
	}
	begun := firstTry(dl.call, now.Add(-res.Duration))
	delay, why := schedule.Decide(o.Attempts, now.Sub(begun), *res, seed(o.DeliveryID))
	switch why {
	case push.GiveUpNot:
		o.NextAttemptAt, o.FirstAttemptAt = now.Add(delay), begun
	case push.GiveUpAge:
		o.Error += gaveUp(schedule.MaxAge)
	}
	return o
}

// gaveUp is what stands on a call that is too old for another try.
func gaveUp(age time.Duration) string {
	return "; given up: the next try would be more than " + age.String() + " after the first"
}

// firstTry is when a delivery was first tried, or put off. It is now for a new
// one, for one that is replayed after its end, and where the document does not say.
func firstTry(call *calls.Call, now time.Time) time.Time {
	if p := &call.Pushed; isDue(call) && p.CompletedAt.Equal(call.CompletedAt) && !p.FirstAttemptAt.IsZero() {
		return p.FirstAttemptAt
	}
	return now
}

// seed spreads the next tries of deliveries that failed together.
func seed(deliveryID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(deliveryID))
	return h.Sum64()
}

// base is the part of an outcome that a call gives.
func base(call *calls.Call, now time.Time) calls.Outcome {
	o := calls.Outcome{
		ID:          call.ID,
		CompletedAt: call.CompletedAt,
		DeliveryID:  call.DeliveryID(),
		PushedAt:    now,
		SinceStart:  call.SinceStart(now),
	}
	if call.Pushed.CompletedAt.Equal(call.CompletedAt) {
		o.ReplayID = call.Pushed.ReplayID // a newer result was not asked for
	}
	return o
}

// tries is how often the result that stands on the call was tried already. A
// result that has its final outcome and is pushed again starts anew.
func tries(call *calls.Call) int {
	if isDue(call) && call.Pushed.CompletedAt.Equal(call.CompletedAt) {
		return call.Pushed.Attempts
	}
	return 0
}

// record writes an outcome and then ends its item.
func (d *Dispatcher) record(it *item, bot string, o calls.Outcome) {
	due := o.NextAttemptAt
	o.Slot = d.o.Slot(o.ID)
	d.o.Recorder.Record(o, func() {
		it.end = endingOf(&o)
		d.metrics.recorded(&o, time.Now())
		d.metrics.bots.recorded(bot, &o)
		if !due.IsZero() {
			d.expect(due)
		}
		d.finish(it)
	})
}

// settle records a call that is not sent at all. It is final.
func (d *Dispatcher) settle(it *item, call *calls.Call, bot *bots.Bot, status calls.Status, why string) {
	o := base(call, time.Now())
	o.Status = status
	o.Error = why
	o.Attempts = tries(call)
	if p := bot.Push; p != nil {
		o.Method, o.URL = p.Method, p.PublicURL
	}
	level := slog.LevelInfo
	if status == calls.StatusFailed {
		level = slog.LevelWarn
	}
	d.logger.Log(context.Background(), level, "delivery",
		"bot_id", call.BotID, "call_id", call.Name(), "delivery_id", o.DeliveryID,
		"outcome", string(status), "attempts", o.Attempts, "error", why)
	d.record(it, call.BotID, o)
}

// withdraw ends the tries of a call that must not be pushed any more; what the
// last one said stays.
func (d *Dispatcher) withdraw(it *item, call *calls.Call, reason Reason) {
	o := base(call, time.Now())
	o.Status = call.Pushed.Status
	o.Attempts = tries(call)
	o.Error = "not tried again: " + string(reason)
	o.Withdrawn = true
	d.logger.Info("delivery",
		"bot_id", call.BotID, "call_id", call.Name(), "delivery_id", o.DeliveryID,
		"outcome", string(o.Status), "attempts", o.Attempts, "error", o.Error)
	d.record(it, call.BotID, o)
}

// park puts a call off that its destination cannot take now. No try is counted.
func (d *Dispatcher) park(dl *delivery, retryAt time.Time) {
	d.metrics.parked.Inc()
	if isDue(dl.call) && dl.call.Pushed.CompletedAt.Equal(dl.call.CompletedAt) {
		dl.end = endDue
		d.finish(dl.item) // its document says that it is due, and costs nothing there
		return
	}
	o := base(dl.call, time.Now())
	o.Status = calls.StatusFailed
	o.Error = "not tried yet: the destination is busy or does not answer"
	o.Method, o.URL = dl.bot.Push.Method, dl.bot.Push.PublicURL
	o.NextAttemptAt, o.FirstAttemptAt = retryAt, o.PushedAt
	o.Parked = true
	d.record(dl.item, dl.call.BotID, o)
}

// logDelivery writes the one wide line of a delivery.
func (d *Dispatcher) logDelivery(dl *delivery, o *calls.Outcome, res *push.Result, now time.Time) {
	level := slog.LevelInfo
	if o.Status != calls.StatusOK {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("bot_id", dl.call.BotID),
		slog.String("call_id", dl.call.Name()),
		slog.String("delivery_id", o.DeliveryID),
		slog.String("outcome", string(o.Status)),
		slog.Int("http_status", o.HTTPStatus),
		slog.Int("attempts", o.Attempts),
		slog.Duration("elapsed", res.Duration),
		slog.Duration("since_stored", now.Sub(dl.call.CompletedAt)),
	}
	if o.Error != "" {
		attrs = append(attrs, slog.String("error", o.Error))
	}
	if !o.Final() {
		attrs = append(attrs, slog.Time("next_attempt_at", o.NextAttemptAt))
	}
	d.logger.LogAttrs(context.Background(), level, "delivery", attrs...)
}
