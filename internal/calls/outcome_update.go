package calls

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// This file is how an outcome is written: which call it is for, and what changes
// on it. It is made for each call, so its bytes are appended, and those that stand
// in the result and in the log are made once: by reflection and twice, it was a
// sixth of the CPU of a call and a third of its allocations.

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

// fields are the elements that the result and the log entry share, in the order of
// docs/contract.md, section 7.
func (o *Outcome) fields() []byte {
	dst := make([]byte, 0, 384+len(o.ResponseBody)+len(o.Error)+len(o.URL))
	dst = bsoncore.AppendStringElement(dst, "status", string(o.Status))
	dst = appendStatus(dst, o.HTTPStatus)
	dst = bsoncore.AppendStringElement(dst, "response_body", truncate(o.ResponseBody, maxText))
	if o.Error == "" {
		dst = bsoncore.AppendNullElement(dst, "error")
	} else {
		dst = bsoncore.AppendStringElement(dst, "error", truncate(o.Error, maxText))
	}
	dst = bsoncore.AppendStringElement(dst, "method", o.Method)
	dst = bsoncore.AppendStringElement(dst, "url", truncate(o.URL, maxText))
	dst = bsoncore.AppendInt32Element(dst, "attempts", int32(o.Attempts)) //nolint:gosec // bounded by the schedule
	dst = bsoncore.AppendInt64Element(dst, "duration_ms", o.Duration.Milliseconds())
	dst = appendTime(dst, "pushed_at", o.At)
	dst = bsoncore.AppendStringElement(dst, "delivery_id", o.DeliveryID)
	dst = appendTime(dst, "completed_at", o.CompletedAt)
	if !o.Final() {
		dst = appendTime(dst, "next_attempt_at", o.NextAttemptAt)
		dst = bsoncore.AppendInt32Element(dst, "slot", int32(o.Slot)) //nolint:gosec // less than 4096
		if !o.FirstAttemptAt.IsZero() {
			dst = appendTime(dst, "first_attempt_at", o.FirstAttemptAt)
		}
	}
	if o.ReplayID != "" {
		dst = bsoncore.AppendStringElement(dst, "replay_id", o.ReplayID)
	}
	if o.HoldID != "" {
		dst = bsoncore.AppendStringElement(dst, "hold_id", o.HoldID)
	}
	return dst
}

func appendTime(dst []byte, key string, t time.Time) []byte {
	return bsoncore.AppendDateTimeElement(dst, key, t.UnixMilli())
}

// appendStatus appends the status of an answer, null without one.
func appendStatus(dst []byte, status int) []byte {
	if status == 0 {
		return bsoncore.AppendNullElement(dst, "http_status")
	}
	return bsoncore.AppendInt32Element(dst, "http_status", int32(status)) //nolint:gosec // three digits
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

// moves reports whether only the next attempt moves, of a delivery that is due.
func (o *Outcome) moves() bool { return o.Transition == ToDeferred && o.Seen.Due(o.CompletedAt) }

// update is the one update of an outcome.
func (o *Outcome) update(level detail) bson.Raw {
	var c change
	switch {
	case level == detailRemoved && o.HoldID == "":
		c.unset = notDue
	case o.Transition == ToWithdrawn:
		c.unset = notDue
		c.set = bsoncore.AppendStringElement(nil, fieldResult+".error", truncate(o.Error, maxText))
		if level == detailAll {
			c.add(fieldEvents, o.events, o.event())
		}
	case o.moves():
		c.set = appendTime(nil, fieldNextAttempt, o.NextAttemptAt)
		switch {
		case o.HoldID == "":
			c.unset = bsoncore.AppendStringElement(nil, fieldHold, "")
		case level == detailAll: // a full document stays due without a word of the hold
			c.set = bsoncore.AppendStringElement(c.set, fieldHold, o.HoldID)
		}
	case level == detailShort:
		short := *o
		short.ResponseBody, short.Error = "", truncate(short.Error, shortText)
		c.set = bsoncore.BuildDocumentElement(nil, fieldResult, short.fields())
	default:
		fields := o.fields()
		c.set = bsoncore.BuildDocumentElement(make([]byte, 0, len(fields)+64), fieldResult, fields)
		if o.Transition == ToDeferred || level >= detailResult {
			break
		}
		c.addToLog(o.log, fields)
		if o.Final() && level == detailAll {
			c.add(fieldEvents, o.events, o.event())
		}
	}
	return c.update()
}

// late adds an attempt to the log of a call that another replica answers for.
func (o *Outcome) late() bson.Raw {
	last := *o
	last.NextAttemptAt = time.Time{} // of this attempt nothing follows
	var c change
	c.addToLog(arrayFine, last.fields())
	return c.update()
}

// event are the elements of an entry of the call's events.
func (o *Outcome) event() []byte {
	dst := append(make([]byte, 0, 128), ofPush...)
	dst = bsoncore.AppendDoubleElement(dst, "timestamp", o.SinceStart)
	dst = bsoncore.AppendStringElement(dst, "status", string(o.Status))
	return appendStatus(dst, o.HTTPStatus)
}

// notDue are the fields that stand on a call while an attempt is scheduled.
var notDue = func() (fields []byte) {
	for _, f := range []string{fieldNextAttempt, fieldSlot, fieldFirst, fieldReplay, fieldReplaces, fieldHold} {
		fields = bsoncore.AppendStringElement(fields, f, "")
	}
	return fields
}()

// change is an update: for each of its operators the elements of what it is given.
type change struct{ set, unset, push []byte }

func (c *change) update() bson.Raw {
	dst := make([]byte, 0, len(c.set)+len(c.unset)+len(c.push)+64)
	start, dst := bsoncore.AppendDocumentStart(dst)
	for _, o := range []struct {
		operator string
		elements []byte
	}{{"$set", c.set}, {"$unset", c.unset}, {"$push", c.push}} {
		if len(o.elements) > 0 {
			dst = bsoncore.BuildDocumentElement(dst, o.operator, o.elements)
		}
	}
	return end(dst, start)
}

// add adds the elements of an entry to an array. One that is null is set; what is no
// array is left as it is.
func (c *change) add(field string, state arrayState, entry ...[]byte) {
	switch state {
	case arrayFine, arrayMissing:
		c.push = bsoncore.BuildDocumentElement(c.push, field, entry...)
	case arrayNull:
		c.set = bsoncore.BuildArrayElement(c.set, field, bsoncore.BuildDocumentValue(entry...))
	case arrayOther:
	}
}

// ofPush is the element that tells a push from what others add to the log.
var ofPush = bsoncore.AppendStringElement(nil, "type", logType)

// addToLog adds an attempt to the log, of which the newest entries are kept. Where
// nothing stood none is too old, and a server has a tenth less to do without $slice.
func (c *change) addToLog(state arrayState, fields []byte) {
	if state != arrayFine {
		c.add(fieldLog, state, ofPush, fields)
		return
	}
	c.push = slices.Grow(c.push, len(fields)+256) // the event of the call too
	log, dst := bsoncore.AppendDocumentElementStart(c.push, fieldLog)
	each, dst := bsoncore.AppendArrayElementStart(dst, "$each")
	dst = end(bsoncore.BuildDocumentElement(dst, "0", ofPush, fields), each)
	c.push = end(bsoncore.AppendInt32Element(dst, "$slice", -keepInLog), log)
}

// end ends a document or an array that began at a place.
func end(dst []byte, start int32) []byte {
	dst, _ = bsoncore.AppendDocumentEnd(dst, start) // fails where nothing began
	return dst
}

// filter finds the call while it still says what its owner read. A write that is cut
// off may be applied later, when a successor has the call, and then replaces nothing:
//   - MongoDB looks at the filter and updates in one step, so two writes of a call come
//     one after the other, however they are sent.
//   - A call that was read without an outcome has no completed_at in its result, and every
//     outcome and every mark of a replay puts one there. So the first of two is applied,
//     and the other finds nothing.
//   - A call that was read with an outcome of this result is known by that and by when it
//     was written, to the millisecond, and every outcome after it says another time.
//   - A write that is applied twice fails the second time, for the first changed both.
//
// What finds nothing goes to Recorder.writeLate. The _id alone would cost the server
// half, but keeps none of this: a write may arrive at any time, also when its owner's
// lease is over, and then the successor's outcome would be gone.
func (o *Outcome) filter() bson.Raw {
	dst := make([]byte, 0, 192+len(o.ID.Value))
	start, dst := bsoncore.AppendDocumentStart(dst)
	dst = bsoncore.AppendValueElement(dst, "_id", valueOf(o.ID))
	dst = o.Seen.appendUnchanged(dst, o.CompletedAt)
	if o.moves() || o.Transition == ToWithdrawn {
		dst = bsoncore.BuildDocumentElement(dst, fieldNextAttempt, bsoncore.AppendBooleanElement(nil, "$exists", true))
	}
	switch {
	case o.moves() && o.Seen.ReplayID == "":
		dst = bsoncore.AppendNullElement(dst, fieldReplay)
	case o.moves(): // unless its replay was cancelled meanwhile
		dst = bsoncore.AppendStringElement(dst, fieldReplay, o.Seen.ReplayID)
	}
	return end(dst, start)
}

// appendUnchanged appends conditions that hold for calls on which p still stands,
// with a view to the outcome of the result of completed.
func (p *Pushed) appendUnchanged(dst []byte, completed time.Time) []byte {
	if p.CompletedAt.IsZero() { // nothing, or what the platform wrote, of whatever shape: no array is null
		return bsoncore.BuildDocumentElement(dst, fieldResult+".completed_at", bsoncore.AppendBooleanElement(nil, "$exists", false))
	}
	dst = appendTime(dst, fieldResult+".completed_at", p.CompletedAt)
	if p.CompletedAt.Equal(completed) && !p.PushedAt.IsZero() {
		dst = appendTime(dst, fieldResult+".pushed_at", p.PushedAt)
	}
	return dst
}

// overruled finds the call while what stands there has to give way, whoever wrote it:
// an outcome of an older result, or no outcome would tell of this one. An ok is the
// truth about its result, so it also replaces another outcome of the same, and stands
// where nothing does any more: the replay that asked for the push was cancelled.
func (o *Outcome) overruled() bson.D {
	completed := bson.NewDateTimeFromTime(o.CompletedAt)
	stands := bson.A{bson.D{{Key: fieldResult + ".completed_at", Value: bson.D{{Key: "$lt", Value: completed}}}}}
	if o.Status == StatusOK {
		stands = append(stands, bson.D{
			{Key: fieldResult + ".completed_at", Value: completed},
			{Key: fieldResult + ".status", Value: bson.D{{Key: "$ne", Value: string(StatusOK)}}},
		}, bson.D{{Key: fieldResult, Value: nil}})
	}
	return bson.D{{Key: "_id", Value: o.ID}, {Key: "$or", Value: stands}}
}
