package dispatch

import (
	"context"
	"net/http"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/queue"
	"github.com/cxbridge/watcher/pkg/push"
)

// This file is the path of one call, in the order in which it is walked:
// Submit, load (in load.go), decide, offer, send, settle. A due call, a replayed
// one and one that a sweep found walk the same path.

// Submit takes the call of an event, and waits when too much is pending. done
// is called when nothing about the event has to be remembered any more; never,
// when the intake stops before that.
func (in *Intake) Submit(ctx context.Context, e Event, done func()) error {
	d := in.d
	if err := d.pending.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	it := &item{d: d, intake: in, event: e, key: idKey(e.ID), held: 1, done: []func(){done}}
	if !in.hold(1) {
		d.pending.Release(1)
		return ErrStopped
	}
	if !d.claim(it) {
		return nil // it goes after the one that is on its way
	}
	return d.handOver(ctx, it)
}

// SubmitDue takes a due call unless it is on its way already. It is false when no
// more can be taken now: what comes by events goes first.
func (in *Intake) SubmitDue(ctx context.Context, e Event) (bool, error) {
	d := in.d
	if !d.pending.TryAcquire(1) {
		return false, nil
	}
	it := &item{d: d, intake: in, event: e, key: idKey(e.ID), source: fromDue, held: 1}
	if !d.claimDue(it) {
		d.pending.Release(1)
		return true, nil
	}
	err := d.handOver(ctx, it)
	return err == nil, err
}

// handOver gives a claimed item to the loaders.
func (d *Dispatcher) handOver(ctx context.Context, it *item) error {
	select {
	case d.incoming <- it:
		return nil
	case <-ctx.Done():
		d.release(it)
		return context.Cause(ctx)
	case <-it.intake.stopped:
		d.release(it)
		return ErrStopped
	}
}

// decide makes the one decision on a call that was loaded.
func (d *Dispatcher) decide(it *item) {
	now := time.Now()
	holds := d.holds.Load()
	decision := decide(candidate{
		call: it.call, bot: it.bot, botWasKnown: it.bot == nil && d.o.Bots.Gone(it.call.Bot),
		due: it.source == fromDue, policy: it.event.Policy, maxAge: d.o.Schedule.MaxAge,
		down:         it.bot != nil && it.bot.Usable() && d.queue.Down(it.bot.Push.Destination),
		unrecordable: d.refused.has(it.call),
		hold:         holds.by(it.bot), paused: holds.set.Paused(it.bot, it.call.Pushed.NextAttemptAt, now),
	}, now)
	if decision.Action != Deliver {
		d.settle(it, decision, nil)
		return
	}
	d.offer(it)
}

// offer gives a call to the lane of its destination, which starts it in its turn.
func (d *Dispatcher) offer(it *item) {
	limits := d.o.Bots.Set().Limits(it.bot.Push.Destination)
	it.job = queue.Job{
		Key: it.bot.Push.Destination, Class: it.class(), Cost: it.bytes, Owner: it,
		Limits:  queue.Limits{Concurrency: limits.Concurrency, PerSecond: limits.PerSecond},
		Timeout: it.bot.Push.Timeout, Label: it.bot.Push.PublicURL,
	}
	it.queued = time.Now()
	if until, ok := d.queue.Offer(&it.job); !ok {
		d.settle(it, Decision{Action: Defer, Reason: ReasonBusy, Until: until}, nil)
	}
}

// sent is an attempt that was made.
type sent struct {
	request *push.Request
	result  push.Result
	at      time.Time
	paused  time.Duration // for which the bot was held since the first attempt
}

// send renders and makes one attempt.
func (d *Dispatcher) send(it *item) {
	begun := time.Now()
	d.metrics.queueSeconds.Observe(begun.Sub(it.queued).Seconds())
	if !it.intake.maySend() {
		d.queue.Done(&it.job, queue.Report{Health: queue.Interrupted})
		d.loadLater(it, alivePause)
		return
	}
	request, decision := d.render(it, begun)
	if decision.Action != Deliver {
		d.queue.Done(&it.job, queue.Report{Health: queue.Interrupted})
		d.settle(it, decision, nil)
		return
	}
	s := &sent{request: request}
	s.result = d.o.Sender.Send(it.intake.sends, request)
	s.at = time.Now()
	s.paused = d.Paused(it.bot, it.call.FirstAttempt(begun), s.at)
	cutOff := it.intake.sends.Err() != nil && s.result.HTTPStatus == 0 || s.result.Class == push.ClassCanceled
	d.queue.Done(&it.job, reportOf(&s.result, cutOff))
	if cutOff {
		// A stop or a lost lease, no failure: no attempt is counted, and whoever has
		// the call next makes it.
		d.release(it)
		return
	}
	d.metrics.bots.attempted(it.bot, s.result.Class)
	d.settle(it, decision, s)
}

// alivePause is for a lease of which it is not certain that it holds, as after the
// host slept: either it is renewed, or the partition is stopped.
const alivePause = 500 * time.Millisecond

// render makes the request, and finds room for it.
func (d *Dispatcher) render(it *item, now time.Time) (*push.Request, Decision) {
	d.rendering <- struct{}{}
	defer func() { <-d.rendering }()
	if h := d.holds.Load().by(it.bot); h != nil { // since it was loaded
		return nil, heldBack(it.call, it.bot, h, now)
	}
	env := d.o.Env
	if it.bot.Push.NeedsRecording {
		env.RecordingURL = d.o.Links.Link(it.call)
	}
	var unresolved misses
	env.Render.Missed = unresolved.missed
	request, err := Prepare(it.call, it.bot, env)
	d.metrics.unresolved(it.bot.ID, &unresolved)
	if err != nil {
		return nil, Decision{Action: Finish, Reason: ReasonTooLarge, Status: calls.StatusFailed}
	}
	request.Redact = Redactor(it.call, it.bot, env.RecordingURL)
	size := int64(len(request.Body) + len(request.URL))
	if !d.queue.Grow(&it.job, size) {
		return nil, Decision{Action: Defer, Reason: ReasonBusy, Until: now.Add(fullPause)}
	}
	if !d.bytes.TryAcquire(size) {
		return nil, Decision{Action: Defer, Reason: ReasonBusy, Until: now.Add(fullPause)}
	}
	it.bytes += size
	return request, Decision{Action: Deliver}
}

// fullPause is how long a call waits whose payload found no room in memory.
const fullPause = 5 * time.Second

// reportOf is what an attempt says about its destination, not about its call.
func reportOf(res *push.Result, cutOff bool) queue.Report {
	r := queue.Report{Took: res.Duration}
	switch {
	case cutOff:
		return queue.Report{Health: queue.Interrupted}
	case res.Class == push.ClassUnreached, res.Class == push.ClassUnknown:
		r.Health = queue.Down
	case res.Class == push.ClassBusy:
		// Below 500 it works and says when to come back: 429, 425, and what a
		// bot's retry_when takes for a limit, as Salesforce's 403. 408 is a
		// request that did not get through.
		r.Health, r.RetryAfter = queue.Down, res.RetryAfter
		if res.HTTPStatus < http.StatusInternalServerError && res.HTTPStatus != http.StatusRequestTimeout {
			r.Health = queue.Busy
		}
	}
	switch {
	case res.Wasteful: // whatever it says of the call
		r.Health, r.Problem = queue.Down, problem{err: wasteful}
	case res.Err != nil:
		r.Problem = problem{status: res.HTTPStatus, err: res.Err.Error()}
	}
	return r
}

// wasteful is the problem of a destination that would cost the others too much.
const wasteful = "its answers come in tiny pieces, or among much that carries nothing, and cost too much to read"

// settle ends an item by its decision, and by the attempt if one was made: the
// outcome is written, counted and logged, and then the event is done. It is the
// only end of a call that was not cut off.
func (d *Dispatcher) settle(it *item, decision Decision, s *sent) {
	now := time.Now()
	o, write := settle(it.call, it.bot, decision, s, d.o.Schedule, now)
	d.report(it, decision, &o)
	if !write {
		d.end(it, endingOf(decision, &o))
		return
	}
	o.Slot = d.o.Slot(o.ID)
	d.o.Recorder.Record(o, func(written bool) { d.recorded(it, decision, &o, written) })
}

// recorded goes on after the write of an outcome.
func (d *Dispatcher) recorded(it *item, decision Decision, o *calls.Outcome, written bool) {
	switch {
	case written:
		d.metrics.recorded(o, time.Now())
		d.metrics.bots.recorded(it.call.BotID, o)
		if !o.Final() && decision.Reason != ReasonHeld {
			d.onDue(o.NextAttemptAt)
		}
	case decision.Action == Defer && d.keep(it, decision, o):
		return // it cannot wait on its document, so it waits in memory
	default: // the recorder has logged it
		d.refused.add(it.call)
		if decision.Action == Defer {
			d.logger.Error("call can wait neither on its document nor in memory and is not pushed",
				"call_id", it.call.Name(), "delivery_id", o.DeliveryID)
		}
	}
	d.end(it, endingOf(decision, o))
}

// A call that cannot be deferred on its document waits in memory: it is tried
// again at least this often, for at most so long. Its event is not done then, and
// the position waits with it.
const (
	keepPause = 30 * time.Second
	keepMost  = 15 * time.Minute
)

// keep holds an item in memory until its destination may take it.
func (d *Dispatcher) keep(it *item, decision Decision, o *calls.Outcome) bool {
	now := time.Now()
	if it.kept.IsZero() {
		it.kept = now
	}
	if now.Sub(it.kept) > keepMost {
		return false
	}
	pause := min(max(o.NextAttemptAt.Sub(now), time.Second), keepPause)
	if decision.Reason == ReasonHeld {
		pause = keepPause // it is due all the while
	}
	d.loadLater(it, pause)
	return true
}

// end says that the event is done, and takes the item off the road.
func (d *Dispatcher) end(it *item, as ending) {
	for _, done := range it.done {
		done()
	}
	d.leave(it, as)
}

// settle turns a decision, and the attempt if one was made, into the outcome
// that is written; false when nothing is. It is pure.
func settle(call *calls.Call, bot *bots.Bot, decision Decision, s *sent, schedule push.Schedule, now time.Time) (calls.Outcome, bool) {
	a := calls.Attempt{Status: decision.Status, Error: decision.Text(), At: now}
	if bot != nil && bot.Push != nil {
		a.Method, a.URL = bot.Push.Method, bot.Push.PublicURL
	}
	switch decision.Action {
	case Deliver:
		return delivered(call, bot, s, a, schedule)
	case Finish:
		return calls.Finished(call, a), true
	case Withdraw:
		a.Error = "not attempted again: " + a.Error
		return calls.Withdrawn(call, a), true
	case Defer:
		// A due call of a lane without room is found again on its document when
		// there is room.
		waits := call.Pushed.Due(call.CompletedAt) && decision.Reason != ReasonBotGone
		a.Status, a.Error = calls.StatusFailed, "not attempted yet: "+a.Error
		o := calls.Deferred(call, a, decision.Until)
		if decision.Reason == ReasonHeld {
			o.Error, o.HoldID = "not attempted yet: held: "+decision.Detail, decision.Hold
			waits = waits && call.Pushed.HoldID == decision.Hold
		}
		return o, !waits
	default:
		return calls.Outcome{}, false
	}
}

// delivered is the outcome of an attempt: final, or with the time of the next.
func delivered(call *calls.Call, bot *bots.Bot, s *sent, a calls.Attempt, schedule push.Schedule) (calls.Outcome, bool) {
	res := &s.result
	a = calls.Attempt{
		Status: calls.Status(res.Class.Status()), HTTPStatus: res.HTTPStatus, ResponseBody: res.Body,
		Method: s.request.Method, URL: a.URL, Duration: res.Duration, At: s.at,
	}
	if res.Err != nil {
		a.Error = res.Err.Error()
	}
	if most := bot.Push.MaxAttempts; most > 0 {
		schedule.MaxAttempts = most
	}
	first := call.FirstAttempt(s.at.Add(-res.Duration))
	delay, why := schedule.Decide(call.Attempts()+1, s.at.Sub(first)-s.paused, *res, seed(call.DeliveryID()))
	switch why {
	case push.GiveUpNot:
		return calls.Retry(call, a, s.at.Add(delay)), true
	case push.GiveUpAge:
		a.Error += "; given up: the next attempt would be more than " + schedule.MaxAge.String() + " after the first"
	default: // that it is final, or the last of its attempts, is what the outcome says
	}
	return calls.Delivered(call, a), true
}
