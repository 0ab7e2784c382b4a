// Package skips is the log of the results that are not pushed and leave no trace
// on their call: one small document for each, with the reason, which MongoDB drops
// after some days.
//
// It owns that collection: the shape of its documents, its indexes, when they are
// written, and how they are looked up. It does not own the decision to skip. It is
// for people who ask later, so it never holds up a call: what does not fit into its
// buffer, or fails, is counted and dropped.
package skips

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
)

// Entry says why one result was not pushed.
type Entry struct {
	// ID is the delivery id of the result, so that a result that is looked at again
	// has one entry; for what is no result it is made of the call alone.
	ID          string        `bson:"_id"`
	Call        bson.RawValue `bson:"call_id"`      // _id of the call as stored; text when it is large
	SessionID   string        `bson:"session_id"`   // at most 256 bytes; "" when the call is gone
	Bot         bson.RawValue `bson:"bot_id"`       // as stored; text when it is large; the zero value without one
	Reason      string        `bson:"reason"`       // a word of dispatch.Reason
	CompletedAt time.Time     `bson:"completed_at"` // of the result; zero without one
	At          time.Time     `bson:"at"`           // when it was last decided
}

// The fields that are looked up.
const (
	fieldCall = "call_id"
	fieldBot  = "bot_id"
	fieldAt   = "at"
)

// maxID is how large an id is kept as it is, in bytes; of a larger one its text.
const maxID = 1 << 10

// entryOf is the entry of a call. It keeps nothing of the call's document.
func entryOf(call *calls.Call, reason string, now time.Time) Entry {
	return Entry{
		ID: calls.DeliveryID(call.ID, call.CompletedAt), Call: idOf(call.ID), SessionID: call.SessionID,
		Bot: idOf(call.Bot), Reason: reason, CompletedAt: call.CompletedAt, At: now.UTC(),
	}
}

// idOf copies an id of a kind that any server stores and compares; else its text.
func idOf(id bson.RawValue) bson.RawValue {
	switch id.Type {
	case 0:
		return id
	case bson.TypeString, bson.TypeObjectID, bson.TypeInt32, bson.TypeInt64, bson.TypeBinary:
		if len(id.Value) <= maxID {
			return bson.RawValue{Type: id.Type, Value: append([]byte(nil), id.Value...)}
		}
	}
	return calls.StringID(calls.IDText(id))
}

// document is the entry as it is stored; what it does not have is left out.
func (e *Entry) document() bson.D {
	d := bson.D{{Key: "_id", Value: e.ID}, {Key: fieldCall, Value: e.Call}, {Key: "session_id", Value: e.SessionID}}
	if e.Bot.Type != 0 {
		d = append(d, bson.E{Key: fieldBot, Value: e.Bot})
	}
	d = append(d, bson.E{Key: "reason", Value: e.Reason})
	if !e.CompletedAt.IsZero() {
		d = append(d, bson.E{Key: "completed_at", Value: e.CompletedAt})
	}
	return append(d, bson.E{Key: fieldAt, Value: e.At})
}

// mostFound is how many entries of one call are read.
const mostFound = 20

// OfCall returns the entries of a call, the newest first, at most 20.
func OfCall(ctx context.Context, coll *mongo.Collection, id bson.RawValue) ([]Entry, error) {
	cursor, err := coll.Find(ctx, bson.D{{Key: fieldCall, Value: idOf(id)}},
		options.Find().SetSort(bson.D{{Key: fieldAt, Value: -1}}).SetLimit(mostFound))
	var all []Entry
	if err == nil {
		err = cursor.All(ctx, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read the skip log: %w", err)
	}
	return all, nil
}

// OfDelivery returns the entry of a delivery id; nil when there is none.
func OfDelivery(ctx context.Context, coll *mongo.Collection, id string) (*Entry, error) {
	var e Entry
	err := coll.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&e)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the skip log: %w", err)
	}
	return &e, nil
}
