package dispatch

import (
	"hash/fnv"
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
		env.RecordingURL = d.o.Links.Link(dl.call)
	}
	req, err := Prepare(dl.call, dl.bot, env)
	req.Redact = redactor(dl.call, dl.bot, env.RecordingURL)
	res := push.Result{Class: push.ClassUnusable, Err: err}
	if err == nil {
		res = d.o.Sender.Send(dl.intake.sends, req)
	}

	now := time.Now()
	put, retryAt := d.lanes.done(dl, &res, now)
	for _, other := range put {
		d.park(other, dl.lane.comeback(retryAt))
	}
	if res.Class == push.ClassCanceled {
		d.forget(dl.item) // its event stays open, or its document says that it is due
		return
	}
	o := outcome(dl, req, &res, d.o.Schedule, now)
	d.metrics.bots.attempted(dl.call.BotID, res.Class)
	d.record(dl.item, dl.call.BotID, o)
	d.report(dl.call, dl.bot, &o)
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
	default: // that it is final, or the last of its tries, is what the outcome says
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
		Seen:        new(call.Pushed), // a copy: the call itself may be large
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
	d.report(call, bot, &o)
	d.record(it, call.BotID, o)
}

// withdraw ends the tries of a call that must not be pushed any more; what the
// last one said stays.
func (d *Dispatcher) withdraw(it *item, call *calls.Call, why string) {
	o := base(call, time.Now())
	o.Status = call.Pushed.Status
	o.Attempts = tries(call)
	o.Error = why
	o.Withdrawn = true
	d.report(call, d.o.Bots.Set().Bot(call.Bot), &o)
	d.record(it, call.BotID, o)
}

// park puts a call off that its destination cannot take now. No try is counted.
func (d *Dispatcher) park(dl *delivery, retryAt time.Time) {
	d.metrics.parked.Inc()
	dl.lane.putOff.Add(1)
	d.logger.Debug("put off", "bot_id", dl.call.BotID, "call_id", dl.call.Name(), "until", retryAt)
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
