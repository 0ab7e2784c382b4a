// Package calls is the call document: what is read from it, which variables it
// gives to a mapper, and how an outcome is written onto it.
//
// It owns the names and shapes of the document's fields, the trigger on its
// change stream, the text of every stored value, the loading of many calls and
// the writing of many outcomes. It does not own the bot, the decision to push,
// the recording link or the schedule of attempts.
package calls

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// CallTypeAgent is the call_type of records that the agent desk inserts. They
// are never pushed.
const CallTypeAgent = "agent"

// Call is a view on a stored call, for one goroutine at a time. It keeps the document
// and an index of it, no copies. Decode makes one of any bytes: a field of the wrong type counts as
// missing, and nothing here fails or panics on what a document holds.
type Call struct {
	Raw bson.Raw // the document, or the part of it that was loaded

	ID           bson.RawValue
	SessionID    string        // as far as IDText would give it
	Bot          bson.RawValue // bot_id as stored; the zero value without one
	BotID        string        // bot_id as IDText gives it
	CallType     string
	SkipPostPush bool
	// CompletedAt is when the result was stored, in whole milliseconds, so that
	// it equals the Pushed.CompletedAt of the same result. Zero without a result, or when
	// the field is nothing that is a time: then there is no delivery id either.
	CompletedAt time.Time
	// StartedAt is when the call began; zero when the document does not say.
	StartedAt time.Time
	Pushed    Pushed

	index    index
	delivery string // the delivery id, once it was asked for
}

// Pushed is what an earlier push left in post_call_push_result. The zero value
// is a call that was never pushed.
type Pushed struct {
	Present       bool // the field is an object
	Status        Status
	DeliveryID    string
	CompletedAt   time.Time // of the result that was pushed; zero when unknown
	Attempts      int       // never negative
	PushedAt      time.Time // when that outcome was written; zero when unknown
	NextAttemptAt time.Time // zero when no attempt is scheduled
	// FirstAttemptAt is when this result was first attempted or deferred; zero when no
	// attempt is scheduled.
	FirstAttemptAt time.Time
	ReplayID       string // of the replay that made the call due again, "" without one
	HoldID         string // of the hold that kept it back last, "" without one
}

// ByPlatform reports whether the platform itself pushed, before there was a
// watcher: it left a status, but not of which result.
func (p *Pushed) ByPlatform() bool {
	return p.Status != "" && p.CompletedAt.IsZero() && p.DeliveryID == ""
}

// Decode reads the fields that decisions need and indexes the rest. The call
// keeps raw, which must not change afterwards.
func Decode(raw bson.Raw) Call {
	c := Call{Raw: raw}
	c.index.build(raw)
	c.ID = rawValue(c.value(docID))
	c.SessionID = bounded(c.text(docSessionID))
	c.Bot = rawValue(c.value(docBotID))
	c.BotID = IDText(c.Bot)
	c.CallType = c.text(docCallType)
	c.SkipPostPush, _ = truthOf(c.value(docSkipPostPush))
	c.CompletedAt = millis(c.value(docCompletedAt))
	c.StartedAt, _ = c.firstTime(startFields)
	c.Pushed = decodePushed(c.value(docPushed))
	return c
}

func decodePushed(v value) Pushed {
	if v.Type != typeDocument {
		return Pushed{}
	}
	p := Pushed{Present: true}
	for key, v := range elements(v.Data) {
		switch string(key) {
		case "status":
			p.Status = Status(bounded(stringOf(v)))
		case "delivery_id":
			p.DeliveryID = bounded(stringOf(v))
		case "pushed_at":
			p.PushedAt = millis(v)
		case "replay_id":
			p.ReplayID = bounded(stringOf(v))
		case "hold_id":
			p.HoldID = bounded(stringOf(v))
		case "completed_at":
			p.CompletedAt = millis(v)
		case "attempts":
			p.Attempts = countOf(v)
		case "first_attempt_at":
			p.FirstAttemptAt = millis(v)
		case "next_attempt_at":
			p.NextAttemptAt, _ = timeOf(v)
		}
	}
	return p
}

// Due reports whether an attempt of the result of completed is scheduled.
func (p *Pushed) Due(completed time.Time) bool {
	return !p.NextAttemptAt.IsZero() && p.CompletedAt.Equal(completed)
}

// Due reports whether an attempt is scheduled on the call, of whichever result.
func (c *Call) Due() bool { return !c.Pushed.NextAttemptAt.IsZero() }

// Attempts is how often the present result was attempted in the delivery that is
// scheduled. One that has its final outcome and is pushed again starts anew.
func (c *Call) Attempts() int {
	if c.Pushed.Due(c.CompletedAt) {
		return c.Pushed.Attempts
	}
	return 0
}

// FirstAttempt is when the delivery was first attempted or deferred: now for a
// new one, for one that is replayed after its end, and where the document does
// not say.
func (c *Call) FirstAttempt(now time.Time) time.Time {
	if c.Pushed.Due(c.CompletedAt) && !c.Pushed.FirstAttemptAt.IsZero() {
		return c.Pushed.FirstAttemptAt
	}
	return now
}

// arrayState is what stands where an array of the call belongs.
type arrayState uint8

const (
	arrayFine    arrayState = iota // an array, or nothing where nobody asked which
	arrayMissing                   // nothing
	arrayNull                      // null, which an update cannot add to
	arrayOther                     // something else, which is not ours to replace
)

// arrayTypes are the fields under which Load asks for the types of the arrays.
var arrayTypes = map[docField]docField{docLog: docLogType, docEvents: docEventsType}

// array looks at a field by the type that Load asked for, or by the field itself.
func (c *Call) array(f docField) arrayState {
	switch v := c.value(f); c.text(arrayTypes[f]) {
	case "missing":
		return arrayMissing
	case "array":
		return arrayFine
	case "null":
		return arrayNull
	case "":
		switch v.Type {
		case 0, typeArray:
			return arrayFine
		case bsoncore.TypeNull:
			return arrayNull
		}
	}
	return arrayOther
}

// millis is a time as a document keeps it; zero for what is none.
func millis(v value) time.Time {
	t, ok := timeOf(v)
	if !ok {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// DeliveryID names one result of one call over all attempts, restarts and
// replicas: the first 32 hex digits of SHA-256 over the id (the 12 bytes of an
// ObjectId, the UTF-8 bytes of a string, the BSON bytes of anything else)
// followed by completedAt in milliseconds as decimal text.
func DeliveryID(id bson.RawValue, completedAt time.Time) string {
	key := id.Value
	if id.Type == bson.TypeString {
		key = textBytes(value{Type: typeString, Data: id.Value})
	}
	var buf [64]byte
	sum := sha256.Sum256(strconv.AppendInt(append(buf[:0], key...), completedAt.UnixMilli(), 10))
	return hex.EncodeToString(sum[:16])
}

// DeliveryID is the delivery id of the call's present result, "" without one.
func (c *Call) DeliveryID() string {
	if c.delivery == "" && !c.CompletedAt.IsZero() {
		c.delivery = DeliveryID(c.ID, c.CompletedAt)
	}
	return c.delivery
}

// Recording is what a call says of its recording, each "" where it says nothing.
type Recording struct {
	URL   string // recording_url
	Key   string // recording_key
	Token string // recording_access_token; a secret
}

// Recording is what the call says of its recording.
func (c *Call) Recording() Recording {
	return Recording{URL: c.text(docRecordingURL), Key: c.text(docRecordingKey), Token: c.text(docRecordingToken)}
}

// text is a string field; "" when it is missing or no string.
func (c *Call) text(f docField) string { return stringOf(c.value(f)) }

// Name is what people call the call: its session id, else its document id.
func (c *Call) Name() string {
	if c.SessionID != "" {
		return c.SessionID
	}
	return IDText(c.ID)
}

// Size is how many bytes of the document are held.
func (c *Call) Size() int { return len(c.Raw) }

// SinceStart is the time from the start of the call until now in seconds, as
// the call's other events count it; 0 when the document does not say when it
// started, or says a time to come.
func (c *Call) SinceStart(now time.Time) float64 {
	if c.StartedAt.IsZero() || now.Before(c.StartedAt) {
		return 0
	}
	return now.Sub(c.StartedAt).Round(time.Millisecond).Seconds()
}
