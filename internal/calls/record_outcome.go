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

// Outcome is what one try came to, as it is written onto the call.
type Outcome struct {
	ID          bson.RawValue // of the call
	CompletedAt time.Time     // of the result that was pushed
	DeliveryID  string

	Status       Status
	HTTPStatus   int    // 0 when there was no answer
	ResponseBody string // first 2,000 characters, valid UTF-8
	Error        string // "" when there was none
	Method       string
	URL          string // without query and userinfo
	Attempts     int    // tries so far, this one included
	Duration     time.Duration
	PushedAt     time.Time

	// NextAttemptAt is when the next try is due; zero when this outcome is final.
	NextAttemptAt time.Time
	// FirstAttemptAt is when this result was first tried, or first had to wait. It
	// stands on the call while a try is scheduled; zero is left out.
	FirstAttemptAt time.Time
	// Slot is where the call stands among the partitions, for the next try.
	Slot int
	// ReplayID names the replay that asked for this push, "" for none.
	ReplayID string
	// SinceStart is the time of the outcome in seconds since the call started,
	// as the call's other events have it.
	SinceStart float64
	// Seen is what stood on the call when it was read. If something else stands
	// there by now, another replica answers for the call, and this outcome is only
	// added to the log: it was held back while this replica was cut off. Nil is not
	// checked.
	Seen *Pushed
	// Parked is a call that was put off without a try: its destination is busy
	// or down. Nothing is logged for it.
	Parked bool
	// Withdrawn is a call that was due and must not be tried any more; what its
	// last try said stays, Error says why.
	Withdrawn bool
}

// Final reports whether no other try is scheduled.
func (o *Outcome) Final() bool { return o.NextAttemptAt.IsZero() }

// The fields that a push writes onto a call.
const (
	fieldResult = "post_call_push_result"
	fieldLog    = "integration_log"
	fieldEvents = "events"

	logType   = "post_call_push"
	keepInLog = 50 // newest entries of integration_log that are kept
)

// logged is the part that the result and the log entry share, in the order of
// the contract.
func (o *Outcome) logged() bson.D {
	d := bson.D{
		{Key: "status", Value: string(o.Status)},
		{Key: "http_status", Value: orNull(o.HTTPStatus, o.HTTPStatus != 0)},
		{Key: "response_body", Value: o.ResponseBody},
		{Key: "error", Value: orNull(o.Error, o.Error != "")},
		{Key: "method", Value: o.Method},
		{Key: "url", Value: o.URL},
		{Key: "attempts", Value: int32(o.Attempts)}, //nolint:gosec // bounded by the schedule
		{Key: "duration_ms", Value: o.Duration.Milliseconds()},
		{Key: "pushed_at", Value: bson.NewDateTimeFromTime(o.PushedAt)},
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
	return d
}

func orNull[T any](v T, ok bool) any {
	if ok {
		return v
	}
	return nil
}

// detail is how much of an outcome an update writes. A document that is full,
// or whose arrays are none, takes less.
type detail int

const (
	detailAll    detail = iota // result, log entry, event
	detailLog                  // result and log entry
	detailResult               // the result alone
	detailShort                // the result without the answer's text
	detailNone                 // nothing could be written
)

// shortText is how much of an error detailShort keeps.
const shortText = 200

// update is the one update of one try.
func (o *Outcome) update(level detail) bson.D {
	if o.Parked && o.Attempts > 0 {
		// What the last try said stays; only its next one moves.
		return bson.D{{Key: "$set", Value: bson.D{
			{Key: fieldResult + ".next_attempt_at", Value: bson.NewDateTimeFromTime(o.NextAttemptAt)},
		}}}
	}
	if o.Withdrawn {
		return o.withdraw(level)
	}
	if level == detailShort {
		short := *o
		short.ResponseBody = ""
		short.Error = truncate(short.Error, shortText)
		return bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: short.logged()}}}}
	}
	update := bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: o.logged()}}}}
	if o.Parked || level >= detailResult {
		return update
	}
	push := bson.D{{Key: fieldLog, Value: o.entry()}}
	if o.Final() && level == detailAll {
		push = append(push, bson.E{Key: fieldEvents, Value: o.event()})
	}
	return append(update, bson.E{Key: "$push", Value: push})
}

// lateUpdate adds a try to the log of a call that another replica answers for.
func (o *Outcome) lateUpdate() bson.D {
	late := *o
	late.NextAttemptAt = time.Time{} // of this try nothing follows
	return bson.D{{Key: "$push", Value: bson.D{{Key: fieldLog, Value: late.entry()}}}}
}

// entry is the log entry of a try, as $push takes it.
func (o *Outcome) entry() bson.D {
	return bson.D{
		{Key: "$each", Value: bson.A{append(bson.D{{Key: "type", Value: logType}}, o.logged()...)}},
		{Key: "$slice", Value: -keepInLog},
	}
}

// withdraw is the update of a call that is not tried any more.
func (o *Outcome) withdraw(level detail) bson.D {
	update := bson.D{
		{Key: "$unset", Value: bson.D{{Key: fieldNextAttempt, Value: ""}, {Key: fieldSlot, Value: ""}, {Key: fieldFirst, Value: ""}}},
		{Key: "$set", Value: bson.D{{Key: fieldResult + ".error", Value: o.Error}}},
	}
	if level == detailAll {
		update = append(update, bson.E{Key: "$push", Value: bson.D{{Key: fieldEvents, Value: o.event()}}})
	}
	return update
}

// event is the entry of the call's events.
func (o *Outcome) event() bson.D {
	return bson.D{
		{Key: "type", Value: logType},
		{Key: "timestamp", Value: o.SinceStart},
		{Key: "status", Value: string(o.Status)},
		{Key: "http_status", Value: orNull(o.HTTPStatus, o.HTTPStatus != 0)},
	}
}

// truncate keeps the first n bytes of s at most, and no broken character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
