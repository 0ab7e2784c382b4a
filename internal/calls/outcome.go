package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Status is what became of a push, in the words of the call document, the
// metrics and the log.
type Status string

// The statuses, a closed set.
const (
	StatusOK       Status = "ok"       // a 2xx answer
	StatusRejected Status = "rejected" // any other answer, or a 2xx that the bot's success rule refuses
	StatusSkipped  Status = "skipped"  // the bot has no URL
	StatusFailed   Status = "failed"   // no HTTP answer, or a configuration that cannot be used
)

// Statuses lists the closed set.
var Statuses = []Status{StatusOK, StatusRejected, StatusSkipped, StatusFailed}

// Transition is what an outcome does to the delivery of a result.
type Transition uint8

// The transitions, each with a constructor of its own.
const (
	ToDelivered Transition = iota // an attempt was made, and no other follows
	ToRetry                       // an attempt was made, and the next one is due later
	ToDeferred                    // no attempt was made; the delivery is due later
	ToFinished                    // it ends without an attempt
	ToWithdrawn                   // it was due and is not sent any more; what its last attempt said stays
)

// Attempt is one HTTP exchange, as an outcome tells of it.
type Attempt struct {
	Status       Status
	HTTPStatus   int    // 0 when there was no answer
	ResponseBody string // first 2,000 characters, valid UTF-8
	Error        string // "" when there was none
	Method       string
	URL          string // without query and userinfo
	Duration     time.Duration
	At           time.Time // its end
}

// Outcome is what a call is to say of its delivery from now on.
type Outcome struct {
	Transition Transition

	ID          bson.RawValue // of the call
	CompletedAt time.Time     // of the result
	DeliveryID  string

	Attempt
	Attempts int // so far, this one included

	// NextAttemptAt is when the next attempt is due; zero when this outcome is final.
	NextAttemptAt time.Time
	// FirstAttemptAt is when this result was first attempted, or first had to wait.
	// It stands on the call while an attempt is scheduled; zero is left out.
	FirstAttemptAt time.Time
	// Slot is where the call stands among the partitions, for the next attempt.
	Slot int
	// ReplayID names the replay that asked for this push, "" for none.
	ReplayID string
	// HoldID names the hold of an operator for which the delivery is deferred, ""
	// for none.
	HoldID string
	// SinceStart is the time of the outcome in seconds since the call started,
	// as the call's other events have it.
	SinceStart float64
	// Seen is what stood on the call when it was read. If something else stands
	// there by now, another replica answers for the call, and this outcome is only
	// added to the log: it was held back while this replica was cut off. The one
	// exception is an ok, which is the truth about its result whoever else wrote.
	Seen Pushed

	log, events arrayState
}

// outcome is the part of an outcome that a call gives.
func (c *Call) outcome(t Transition, a Attempt) Outcome {
	o := Outcome{
		Transition:  t,
		ID:          c.ID,
		CompletedAt: c.CompletedAt,
		DeliveryID:  c.DeliveryID(),
		Attempt:     a,
		Attempts:    c.Attempts(),
		SinceStart:  c.SinceStart(a.At),
		Seen:        c.Pushed,
		log:         c.array(docLog),
		events:      c.array(docEvents),
	}
	if c.Pushed.CompletedAt.Equal(c.CompletedAt) {
		o.ReplayID = c.Pushed.ReplayID // a newer result was not asked for
	}
	return o
}

// Delivered is the outcome of the last attempt of a delivery.
func Delivered(c *Call, a Attempt) Outcome {
	o := c.outcome(ToDelivered, a)
	o.Attempts++
	return o
}

// Retry is the outcome of an attempt after which the next is due at a time.
func Retry(c *Call, a Attempt, next time.Time) Outcome {
	o := c.outcome(ToRetry, a)
	o.Attempts++
	o.NextAttemptAt, o.FirstAttemptAt = next, c.FirstAttempt(a.At.Add(-a.Duration))
	return o
}

// Deferred is the outcome of a delivery that could not be attempted now. Status,
// Error, Method, URL and At of the attempt say why.
func Deferred(c *Call, a Attempt, next time.Time) Outcome {
	o := c.outcome(ToDeferred, a)
	o.NextAttemptAt, o.FirstAttemptAt = next, c.FirstAttempt(a.At)
	return o
}

// Finished is the outcome of a delivery that ends without an attempt.
func Finished(c *Call, a Attempt) Outcome { return c.outcome(ToFinished, a) }

// Withdrawn is the outcome of a due delivery that is not sent any more. Its last
// status stays.
func Withdrawn(c *Call, a Attempt) Outcome {
	o := c.outcome(ToWithdrawn, a)
	o.Status = c.Pushed.Status
	return o
}

// Final reports whether no other attempt is scheduled.
func (o *Outcome) Final() bool { return o.NextAttemptAt.IsZero() }

// attempted reports whether the outcome tells of an attempt.
func (o *Outcome) attempted() bool { return o.Transition == ToDelivered || o.Transition == ToRetry }

// The fields that a push writes onto a call.
const (
	fieldResult = "post_call_push_result"
	fieldLog    = "integration_log"
	fieldEvents = "events"

	logType   = "post_call_push"
	keepInLog = 50 // newest entries of integration_log that are kept
)

// maxText is how many characters of an error and of a URL stand on a call.
const maxText = 2000

// logged is the part that the result and the log entry share, in the order of
// docs/contract.md, section 7.
func (o *Outcome) logged() bson.D {
	d := bson.D{
		{Key: "status", Value: string(o.Status)},
		{Key: "http_status", Value: orNull(o.HTTPStatus)},
		{Key: "response_body", Value: truncate(o.ResponseBody, maxText)},
		{Key: "error", Value: orNull(truncate(o.Error, maxText))},
		{Key: "method", Value: o.Method},
		{Key: "url", Value: truncate(o.URL, maxText)},
		{Key: "attempts", Value: int32(o.Attempts)}, //nolint:gosec // bounded by the schedule
		{Key: "duration_ms", Value: o.Duration.Milliseconds()},
		{Key: "pushed_at", Value: bson.NewDateTimeFromTime(o.At)},
		{Key: "delivery_id", Value: o.DeliveryID},
		{Key: "completed_at", Value: bson.NewDateTimeFromTime(o.CompletedAt)},
	}
	if !o.Final() {
		d = append(d,
			bson.E{Key: "next_attempt_at", Value: bson.NewDateTimeFromTime(o.NextAttemptAt)},
			bson.E{Key: "slot", Value: int32(o.Slot)}) //nolint:gosec // less than 4096
		if !o.FirstAttemptAt.IsZero() {
			d = append(d, bson.E{Key: "first_attempt_at", Value: bson.NewDateTimeFromTime(o.FirstAttemptAt)})
		}
	}
	if o.ReplayID != "" {
		d = append(d, bson.E{Key: "replay_id", Value: o.ReplayID})
	}
	if o.HoldID != "" {
		d = append(d, bson.E{Key: "hold_id", Value: o.HoldID})
	}
	return d
}

// orNull is a value, null for the zero value.
func orNull[T comparable](v T) any {
	if v == *new(T) {
		return nil
	}
	return v
}

// detail is how much of an outcome an update writes. A document that is full,
// or whose arrays are none, takes less.
type detail uint8

const (
	detailAll     detail = iota // result, log entry, event
	detailLog                   // result and log entry
	detailResult                // the result alone
	detailShort                 // the result without the answer's text
	detailRemoved               // only that nothing is due any more: the document gets smaller
	detailNone                  // nothing could be written
	detailCount
)

var detailNames = [...]string{"all", "no_event", "result", "short", "not_due", "nothing"}

var _ [detailCount]struct{} = [len(detailNames)]struct{}{}

func (d detail) String() string { return detailNames[d] }

// shortText is how many characters of an error detailShort keeps.
const shortText = 200

// update is the one update of an outcome.
func (o *Outcome) update(level detail) bson.D {
	switch {
	case level == detailRemoved && o.HoldID == "":
		return bson.D{{Key: "$unset", Value: notDue}}
	case o.Transition == ToWithdrawn:
		update := bson.D{
			{Key: "$unset", Value: notDue},
			{Key: "$set", Value: bson.D{{Key: fieldResult + ".error", Value: truncate(o.Error, maxText)}}},
		}
		if level == detailAll {
			update = o.push(update, nil, o.event())
		}
		return update
	case o.Transition == ToDeferred && o.Seen.Due(o.CompletedAt): // only its next attempt moves
		set := bson.D{{Key: fieldNextAttempt, Value: bson.NewDateTimeFromTime(o.NextAttemptAt)}}
		if o.HoldID == "" {
			return bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: bson.D{{Key: fieldHold, Value: ""}}}}
		}
		if level == detailAll { // a full document stays due without a word of the hold
			set = append(set, bson.E{Key: fieldHold, Value: o.HoldID})
		}
		return bson.D{{Key: "$set", Value: set}}
	case level == detailShort:
		short := *o
		short.ResponseBody, short.Error = "", truncate(short.Error, shortText)
		return bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: short.logged()}}}}
	}
	update := bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: o.logged()}}}}
	if o.Transition == ToDeferred || level >= detailResult {
		return update
	}
	var event bson.D
	if o.Final() && level == detailAll {
		event = o.event()
	}
	return o.push(update, o.entry(o.logged()), event)
}

// notDue are the fields that stand on a call while an attempt is scheduled.
var notDue = bson.D{{Key: fieldNextAttempt, Value: ""}, {Key: fieldSlot, Value: ""}, {Key: fieldFirst, Value: ""}, {Key: fieldReplay, Value: ""}, {Key: fieldReplaces, Value: ""}, {Key: fieldHold, Value: ""}}

// push adds a log entry and an event to an update. An array that is null is set;
// what is no array is left as it is.
func (o *Outcome) push(update bson.D, entry, event bson.D) bson.D {
	set, pushed := update[len(update)-1].Value.(bson.D), bson.D{} // the last is $set
	add := func(field string, state arrayState, value bson.D, each bson.D) {
		switch {
		case value == nil || state == arrayOther:
		case state == arrayNull:
			set = append(set, bson.E{Key: field, Value: bson.A{value}})
		default:
			pushed = append(pushed, bson.E{Key: field, Value: each})
		}
	}
	add(fieldLog, o.log, entry, keep(entry))
	add(fieldEvents, o.events, event, event)
	update[len(update)-1].Value = set
	if len(pushed) > 0 {
		update = append(update, bson.E{Key: "$push", Value: pushed})
	}
	return update
}

// late adds an attempt to the log of a call that another replica answers for.
func (o *Outcome) late() bson.D {
	last := *o
	last.NextAttemptAt = time.Time{} // of this attempt nothing follows
	return bson.D{{Key: "$push", Value: bson.D{{Key: fieldLog, Value: keep(o.entry(last.logged()))}}}}
}

// entry is the log entry of an attempt.
func (o *Outcome) entry(logged bson.D) bson.D {
	return append(bson.D{{Key: "type", Value: logType}}, logged...)
}

// keep pushes an entry and keeps the newest.
func keep(entry bson.D) bson.D {
	return bson.D{{Key: "$each", Value: bson.A{entry}}, {Key: "$slice", Value: -keepInLog}}
}

// event is the entry of the call's events.
func (o *Outcome) event() bson.D {
	return bson.D{
		{Key: "type", Value: logType},
		{Key: "timestamp", Value: o.SinceStart},
		{Key: "status", Value: string(o.Status)},
		{Key: "http_status", Value: orNull(o.HTTPStatus)},
	}
}

// filter finds the call while it still says what was seen, so that a write that
// was applied already is not applied again.
func (o *Outcome) filter() bson.D {
	f := append(bson.D{{Key: "_id", Value: o.ID}}, o.Seen.unchanged(o.CompletedAt)...)
	due := bson.E{Key: fieldNextAttempt, Value: bson.D{{Key: "$exists", Value: true}}}
	switch {
	case o.Transition == ToWithdrawn:
		f = append(f, due)
	case o.Transition == ToDeferred && o.Seen.Due(o.CompletedAt): // unless its replay was cancelled meanwhile
		f = append(f, due, bson.E{Key: fieldReplay, Value: orNull(o.Seen.ReplayID)})
	}
	return f
}

// untold finds the call while the same result stands on it as anything but ok, or
// nothing does any more: the replay that asked for the push was cancelled.
func (o *Outcome) untold() bson.D {
	same := bson.D{
		{Key: fieldResult + ".completed_at", Value: bson.NewDateTimeFromTime(o.CompletedAt)},
		{Key: fieldResult + ".status", Value: bson.D{{Key: "$ne", Value: string(StatusOK)}}},
	}
	return bson.D{{Key: "_id", Value: o.ID}, {Key: "$or", Value: bson.A{same, bson.D{{Key: fieldResult, Value: nil}}}}}
}

// truncate keeps the first n characters of s at most.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
